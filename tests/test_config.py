"""Settings: three sources in, one Config or every problem at once out."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drainproxy import config, settings
from drainproxy.addresses import ListenAddress, UpstreamAddress
from drainproxy.errors import ConfigError
from drainproxy.lifecycle.propagation import PRESETS
from drainproxy.proxy import transport_settings
from drainproxy.proxy.settings import ProxySettings
from drainproxy.proxy.transport_settings import TransportSettings
from tests.support.settings import BY_NAME, problems, value


def written(path, text: str) -> dict[str, str]:
    """An environment that names a file with this text."""
    path.write_text(text)
    return {"DRAINPROXY_CONFIG": str(path)}


def test_nothing_given():
    """Without any setting, every one has its field's default, and nothing is doubtful."""
    loaded = config.load({})
    for setting in settings.table():
        if setting.name != "propagation":
            assert getattr(getattr(loaded, setting.room), setting.name) == setting.default
    assert loaded.lifecycle.propagation == "none"
    assert loaded.warnings == ()
    assert loaded.sources == {}


@pytest.mark.parametrize("setting", settings.table(), ids=lambda setting: setting.name)
def test_default_as_text(setting):
    """A default, written as help and the manual write it, reads back as itself."""
    text = setting.show(setting.default)
    if text:
        assert value(setting.name, text) == setting.default


@pytest.mark.parametrize("setting", settings.table(), ids=lambda setting: setting.name)
def test_documented(setting):
    """Every setting is explained by the string under its field, as one line that ends as a sentence."""
    said = settings.documentation()[setting.name]
    assert said.endswith(".")
    assert "\n" not in said


def test_names_are_not_service_links():
    """No setting has a name that Kubernetes might set for a Service."""
    assert [each.env for each in settings.table() if config.SERVICE_LINK.fullmatch(each.env)] == []


def test_names_are_unique():
    """Two rooms never have a setting of the same name."""
    assert len(BY_NAME) == len(settings.table())


def test_precedence(tmp_path):
    """A flag wins over the environment, the environment over the file, the file over the default."""
    env = written(tmp_path / "s.yaml", "linger: 1s\nsettle: 1s\nreserve: 1s\n")
    env |= {"DRAINPROXY_SETTLE": "2s", "DRAINPROXY_RESERVE": "2s"}
    loaded = config.load(env, {"reserve": "4s", "app_stop": None})
    lifecycle = loaded.lifecycle
    assert (lifecycle.linger, lifecycle.settle, lifecycle.reserve, lifecycle.app_stop) == (1.0, 2.0, 4.0, 5.0)
    assert loaded.sources["linger"] == f"file {tmp_path}/s.yaml line 1"
    assert loaded.sources["settle"] == "env DRAINPROXY_SETTLE"
    assert loaded.sources["reserve"] == "flag --reserve"


def test_flag_names_the_file(tmp_path):
    """The file named by the flag is read, not the one named by the environment."""
    env = written(tmp_path / "env.yaml", "linger: 1s\n")
    flag = written(tmp_path / "flag.yaml", "linger: 2s\n")
    assert config.load(env, {"config": flag["DRAINPROXY_CONFIG"]}).lifecycle.linger == 2.0


def test_empty_environment_variable():
    """An empty variable counts as not set: that is how a template writes it."""
    assert config.load({"DRAINPROXY_LINGER": ""}).lifecycle.linger == 0.5


def test_lists():
    """Lists are comma-separated, flags may be repeated, and both may be mixed."""
    loaded = config.load(
        {"DRAINPROXY_UPSTREAM": "http://a:1, http://b:2,unix:/c"}, {"listen": [":1,:2", "127.0.0.1:3"]}
    )
    assert [str(each) for each in loaded.proxy.listen] == [":1", ":2", "127.0.0.1:3"]
    assert [str(each) for each in loaded.proxy.upstream] == ["http://a:1", "http://b:2", "unix:/c"]


def test_list_with_several_errors():
    """Every bad member of a list is named."""
    found = problems({"DRAINPROXY_LISTEN": "x,:1,y"})
    assert [problem.split('"')[1] for problem in found] == ["x", "y"]


def test_all_problems_at_once(tmp_path):
    """Every problem of every source is reported, each with its setting and source."""
    env = written(tmp_path / "s.yaml", "settle: x\n") | {"DRAINPROXY_LINGER": "x"}
    found = problems(env, {"reserve": "x", "listen": ["x"]})
    heads = {problem.partition(":")[0] for problem in found}
    assert heads == {
        f"settle (file {tmp_path}/s.yaml line 1)",
        "linger (env DRAINPROXY_LINGER)",
        "reserve (flag --reserve)",
        "listen (flag --listen)",
    }


def test_bad_value_is_escaped_and_bounded():
    """A bad value cannot write control characters or a page of text into the log."""
    [problem] = problems({"DRAINPROXY_LINGER": "\x1b[31m\n" + "x" * 5000})
    assert problem.isprintable()
    assert '"\\u001b[31m\\nxxx' in problem
    assert len(problem) < 250


def test_unknown_name():
    """An unknown name is a warning with a suggestion, not an error."""
    loaded = config.load({"DRAINPROXY_GRACE_PEROID": "60s"})
    [warning] = loaded.warnings
    assert warning.startswith('"DRAINPROXY_GRACE_PEROID" in the environment is not a setting;')
    assert warning.endswith("did you mean DRAINPROXY_GRACE_PERIOD?")
    assert config.load({"DRAINPROXY_XYZZY": "1"}).warnings == (
        '"DRAINPROXY_XYZZY" in the environment is not a setting',
    )


@pytest.mark.parametrize(
    "name",
    [
        "DRAINPROXY_SERVICE_HOST",
        "DRAINPROXY_PORT",
        "DRAINPROXY_PORT_80_TCP_ADDR",
        "DRAINPROXY_ADMIN_SERVICE_PORT_METRICS",
        "DRAINPROXY_ADMIN_PORT",
        "DRAINPROXY_A_B_PORT_1_UDP_PROTO",
        "drainproxy_listen",
        "OTHER_LISTEN",
    ],
)
def test_service_links(name):
    """What Kubernetes sets for Services, and names of others, are nobody's typo."""
    assert config.load({name: "tcp://10.0.0.1:80"}).warnings == ()


def test_listen_and_upstream_counts():
    """Each listening address needs its upstream."""
    [problem] = problems({"DRAINPROXY_LISTEN": ":1,:2"})
    assert problem == (
        "listen has 2 and upstream 1 addresses (env DRAINPROXY_LISTEN, default);"
        " write one upstream for each listen"
    )


@pytest.mark.parametrize("text", ["http://127.0.0.1:28080", "http://localhost:29900", "http://[::1]:28080"])
def test_upstream_is_the_proxy(text):
    """A proxy in front of itself would call itself for ever."""
    [problem] = problems({"DRAINPROXY_UPSTREAM": text})
    assert "is drainproxy itself" in problem


def test_a_warm_up_that_can_do_nothing():
    """A tcp:// upstream has no paths, and of a gRPC call no status is read."""
    [problem] = problems({"DRAINPROXY_WARMUP": "/a", "DRAINPROXY_UPSTREAM": "tcp://127.0.0.1:1"})
    assert "asks nobody" in problem
    [problem] = problems({"DRAINPROXY_WARMUP_METHOD": "grpc", "DRAINPROXY_WARMUP_UNTIL": "200"})
    assert "is no status that gRPC is asked for" in problem
    assert config.load({"DRAINPROXY_WARMUP_UNTIL": "20ms"}).proxy.warmup_until == 0.02
    assert problems({"DRAINPROXY_WARMUP_UNTIL": "600"})


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"DRAINPROXY_RBAC": "none"}, "write rbac: slices"),
        ({"DRAINPROXY_UPSTREAM": "tcp://127.0.0.1:1"}, "hands nothing on"),
        ({"DRAINPROXY_PROPAGATION": "mesh"}, "is the mesh's to do"),
        ({"DRAINPROXY_PROXY_PROTOCOL": "true", "DRAINPROXY_TRUSTED_PROXIES": "10.0.0.0/8"}, "PROXY header"),
    ],
)
def test_a_hand_off_that_cannot_be(others, why):
    """Nothing is promised that would not be kept."""
    [problem] = problems({"DRAINPROXY_HANDOFF": "on", **others})
    assert why in problem


def test_upstream_elsewhere():
    """The same port on another address is somebody else."""
    assert config.load({"DRAINPROXY_UPSTREAM": "http://10.0.0.7:28080"}).warnings == ()


def test_preset_outside_and_inside():
    """The preset is none outside Kubernetes, cluster inside, and what is asked for wherever."""
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert config.load({}).rules == PRESETS["none"][0]
    assert config.load(inside).rules == PRESETS["cluster"][0]
    assert config.load(inside).lifecycle.propagation == "cluster"
    assert config.load(inside | {"DRAINPROXY_PROPAGATION": "alb"}).rules == PRESETS["alb"][0]


def test_preset_with_overrides():
    """Each number of a preset can be set alone, also to zero."""
    rules = config.load(
        {
            "DRAINPROXY_PROPAGATION": "alb",
            "DRAINPROXY_PROPAGATION_QUIET": "0s",
            "DRAINPROXY_PROPAGATION_MAX": "100s",
            "DRAINPROXY_SPARSE_MIN": "3s",
        }
    ).rules
    preset = PRESETS["alb"][0]
    assert (rules.min_s, rules.margin_s, rules.quiet_s, rules.max_s) == (
        preset.min_s,
        preset.margin_s,
        0,
        100,
    )
    assert (rules.hold_min, rules.balancer, rules.sparse_min_s) == (True, True, 3)


def test_min_above_max():
    """A minimum above the maximum is refused, whichever of them the preset brought."""
    env = {"DRAINPROXY_PROPAGATION": "alb"}
    [problem] = problems(env, {"propagation_max": "20s"})
    assert problem == (
        "propagation_min 35s (preset alb) is above propagation_max 20s (flag --propagation-max);"
        " write propagation_min <= propagation_max"
    )


def test_grace_period_too_short():
    """A grace period without room for everything is a warning: a running pod must not refuse to start."""
    loaded = config.load({"DRAINPROXY_PROPAGATION": "cluster", "DRAINPROXY_GRACE_PERIOD": "20s"})
    [warning] = loaded.warnings
    assert "grace period 20 s is too short" in warning
    assert loaded.budget().problems == (warning,)


def test_file_values_stay_text(tmp_path):
    """YAML's own idea of types is not asked: `off`, lists and sizes mean the same as elsewhere."""
    text = """
        access_log: off
        total_timeout: off
        allow_half_close: yes
        max_head_bytes: 4096
        listen: [":1", ":2"]
        upstream: http://a:1,http://b:2
        health_check_agents: [curl/, Pingdom]
    """
    loaded = config.load(written(tmp_path / "s.yaml", text))
    assert loaded.process.access_log == "off"
    assert loaded.proxy.total_timeout is None
    assert loaded.proxy.allow_half_close is True
    assert loaded.proxy.max_head_bytes == 4096
    assert loaded.proxy.listen == (ListenAddress(None, 1), ListenAddress(None, 2))
    assert loaded.lifecycle.health_check_agents == ("curl/", "Pingdom")


def test_empty_lists_in_a_file(tmp_path):
    """No health checkers is a choice; no listening address is a mistake."""
    env = written(tmp_path / "s.yaml", "health_check_agents: []\n")
    assert config.load(env).lifecycle.health_check_agents == ()
    assert "is empty" in problems(written(tmp_path / "s.yaml", "listen: []\nupstream: []\n"))[0]


def test_unknown_name_in_a_file(tmp_path):
    """A file's unknown name is a warning that says where it stands."""
    env = written(tmp_path / "s.yaml", "linger: 1s\nlisten_on: x\nconfig: other.yaml\n")
    first, second = config.load(env).warnings
    assert first == f'"listen_on" in file {tmp_path}/s.yaml line 2 is not a setting; did you mean listen?'
    assert second.startswith('"config" in file ')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("linger: 1s\nlinger: 2s\n", "comes second; write it once"),
        ("linger: {a: b}\n", "line 1 is nested"),
        ("listen: [[a]]\n", "line 1 is nested"),
        ("? [a]\n: b\n", "line 1 is nested"),
        ("linger: [1s, 2s]\n", "has several values; write one"),
        ("linger: []\n", "has several values; write one"),
        ("linger:\n", '"" is not a duration'),
        ("- a\n", "its top is not made of `name: value` lines"),
        ("a: [\n", "it is not YAML: line 2"),
        ("a: \x00\n", "it is not YAML"),
        ("a: " + "[" * 10_000, "it is not YAML"),
        ("#" * (1024 * 1024 + 1), "it is larger than 1MiB"),
    ],
    ids=range(12),
)
def test_bad_file(tmp_path, text, says):
    """A file that cannot be understood is one problem that says where and why."""
    [problem] = problems(written(tmp_path / "s.yaml", text))
    assert says in problem


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_file_without_settings(tmp_path, text):
    """An empty file sets nothing."""
    assert config.load(written(tmp_path / "s.yaml", text)).warnings == ()


def test_file_that_is_missing(tmp_path):
    """A file that was named must be there, and other problems are reported beside it."""
    found = problems({"DRAINPROXY_CONFIG": f"{tmp_path}/none.yaml", "DRAINPROXY_LINGER": "1"})
    assert found[0].endswith("cannot be used: No such file or directory")
    assert len(found) == 2


@given(st.sampled_from(settings.table()), st.text(max_size=80))
@example(BY_NAME["config"], "\x00")
@example(BY_NAME["control_socket"], "\udc80")
@example(BY_NAME["admin"], "[::1%\n]:80")
def test_any_text(setting, text):
    """Any text in any setting gives a Config or a short, printable sentence."""
    try:
        config.load({}, {setting.name: [text] if setting.many else text})
    except ConfigError as error:
        for problem in error.problems:
            assert problem.isprintable()
            assert len(problem) < 900


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"trusted_proxies": ["0.0.0.0/0"], "forwarding": "append"}, "trusts everybody"),
        ({"trusted_proxies": ["10.0.0.1/8"], "forwarding": "append"}, "has host bits set"),
        ({"trusted_proxies": ["10.0.0.0/33"], "forwarding": "append"}, "is not a network"),
        ({"trusted_proxies": ["10.0.0.0/8"]}, "is used by nothing"),
        ({"forwarding": "replace", "upstream_http2": "auto"}, "cannot be done to HTTP/2"),
    ],
)
def test_whom_to_believe_must_make_sense(flags, complaint):
    """A network too many would let every client claim to be another."""
    [problem] = problems(flags={"upstream_http2": "off", **flags})
    assert complaint in problem


def test_everybody_is_trusted_only_by_who_says_so():
    """Then it is meant."""
    flags = {"trusted_proxies": ["::/0"], "forwarding": "append", "upstream_http2": "off"}
    assert config.load({}, {**flags, "trust_everyone": "true"}).edge.trusted_proxies == ("::/0",)


@pytest.mark.parametrize(
    ("tls", "tcp", "complains"),
    [
        ((True, False), (False, False), True),
        ((False, False), (False, False), True),
        ((False, False), (True, True), True),
        ((True, False), (False, True), False),
        ((True, True), (False, False), False),
    ],
    ids=["one in clear text", "all in clear text", "all passed on unread", "the other passed on", "none"],
)
def test_a_certificate_that_is_required_is_asked_for_at_every_door(tls, tcp, complains):
    """A listener in clear text would let in who has none; what passes unread the application can ask for."""
    proxy = ProxySettings(
        listen=tuple(ListenAddress(None, 1 + i, tls=each) for i, each in enumerate(tls)),
        upstream=tuple(UpstreamAddress("127.0.0.1", 10 + i, tcp=each) for i, each in enumerate(tcp)),
    )
    edge = TransportSettings(tls_client="required", tls_client_ca="/ca.pem")
    found = [why for name, why in transport_settings.problems(edge, proxy) if name == "tls_client"]
    assert len(found) == complains
