"""Whatever a pod looks like: it gets the sidecar or a reason, keeps everything else, and is valid."""

from __future__ import annotations

import copy

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from drainproxy.errors import InjectionRefused
from drainproxy.injector.patch import Injected, inject
from drainproxy.podspec import applications
from tests.chart.standards import VERSIONS, kubernetes_validate
from tests.injector.pods import LABEL, PREFIX, Row
from tests.injector.ways import HOUSE, by_file, by_webhook, placed

NAMES = ("api", "metrics", "grpc", "https", "http")
NUMBERS = (80, 8081, 9090, 28081, 50051, 28080)
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
words = st.text("abcxyz-", min_size=1, max_size=8).map(lambda text: f"a{text}z")


def optional(**fields):
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def handlers(draw, ports):
    """An action of a probe or hook: at a port by name or number, or by a command."""
    target = draw(st.sampled_from([*(each["name"] for each in ports if "name" in each), *NUMBERS]))
    return draw(
        st.sampled_from(
            [
                {"httpGet": {"path": "/x", "port": target}},
                {"httpGet": {"port": 8443, "scheme": "HTTPS"}},
                {"tcpSocket": {"port": target}},
                {"exec": {"command": ["sh", "-c", "sleep 5"]}},
                {"exec": {"command": ["bye"]}},
            ]
        )
    )


@st.composite
def containers(draw, name, *first):
    others = draw(
        st.lists(
            st.fixed_dictionaries(
                {"containerPort": st.sampled_from(NUMBERS)},
                optional={
                    "name": st.sampled_from(NAMES),
                    "protocol": st.sampled_from(["TCP", "TCP", "UDP"]),
                    "hostPort": st.just(1234),
                },
            ),
            max_size=2,
            unique_by=lambda port: port.get("name", port["containerPort"]),
        )
    )
    ports = [*first, *others]
    more = draw(
        optional(
            env=st.lists(
                st.sampled_from(["PORT", "MODE"]).map(lambda each: {"name": each, "value": "1"}),
                max_size=2,
                unique_by=lambda each: each["name"],
            ),
            lifecycle=optional(preStop=handlers(ports), postStart=handlers(ports)),
            workingDir=words,
            tty=st.booleans(),
            resources=st.just({"limits": {"cpu": "1"}}),
            **dict.fromkeys(PROBES, handlers(ports)),
        )
    )
    return {"name": name, "image": "example/app:1", "ports": ports, **more}


OPTIONS = st.lists(
    st.sampled_from(
        [
            ("ports", "http,api"),
            ("ports", "grpc"),
            ("mode", "plain"),
            ("app-port-env", "PORT"),
            ("upstream-port", "8080"),
            ("protocol", "tcp"),
            ("propagation", "alb"),
            ("grace", "raise"),
            ("grace", "keep"),
            ("rbac", "none"),
            ("admin-port", "29901"),
            ("app-stop", "7s"),
            ("app-stop", "7"),
        ]
    ).map(lambda pair: (PREFIX + pair[0], pair[1])),
    max_size=2,
).map(dict)


@st.composite
def pods(draw):
    """A pod that Kubernetes takes and that asks for the sidecar."""
    names = ["one", "two", "three"][: draw(st.integers(1, 3))]
    spec = draw(
        optional(
            initContainers=st.just([{"name": "init", "image": "x"}]),
            volumes=st.just([{"name": "data", "emptyDir": {}}]),
            terminationGracePeriodSeconds=st.sampled_from([0, 5, 30, 300]),
            nodeSelector=st.dictionaries(words, words, max_size=2),
            tolerations=st.just([{"operator": "Exists"}]),
            restartPolicy=st.sampled_from(["Always", "Never"]),
            serviceAccountName=words,
            hostNetwork=st.sampled_from([False] * 9 + [True]),
        )
    )
    metadata = {
        "name": "web",
        "labels": {**draw(st.dictionaries(words, words, max_size=2)), **LABEL},
        "annotations": {**draw(st.dictionaries(words, words, max_size=2)), **draw(OPTIONS)},
    }
    http = {"name": "http", "containerPort": 8080}
    spec["containers"] = [draw(containers(name, *[http] * (name == "one"))) for name in names]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def without_us(pod, made: Injected):
    """The pod less what injection may change: an application's ports, what goes there, and its waiting."""
    pod = copy.deepcopy(pod)
    spec, moved = pod["spec"], {each.name for each in made.taken}
    numbers = {each.application for each in made.taken} | {each.listens for each in made.taken}
    pod["metadata"]["labels"].pop(f"{PREFIX}injected", None)
    for key in ("initContainers", "containers"):
        spec[key] = [each for each in spec.get(key, []) if each["name"] != "drainproxy"]
    spec["volumes"] = [each for each in spec.get("volumes", []) if not each["name"].startswith("drainproxy-")]
    spec.pop("terminationGracePeriodSeconds", None)
    for each in applications(spec):
        for port in each.get("ports", []):
            if port.get("name") in moved or port["containerPort"] in numbers:
                for field in ("name", "containerPort", "hostPort"):
                    port.pop(field, None)
        handlers = [each.get(probe, {}) for probe in PROBES] + [*each.get("lifecycle", {}).values()]
        for action in (
            handler[kind] for handler in handlers for kind in ("httpGet", "tcpSocket") if kind in handler
        ):
            if action["port"] in moved | numbers:
                del action["port"]
        each["env"] = [variable for variable in each.get("env", []) if "PORT" not in variable["name"]]
        hooks = each.setdefault("lifecycle", {})
        if (hook := hooks.get("preStop", {})).get("httpGet", {}).get(
            "path"
        ) == "/drain/wait" or "sleep 5" in str(hook):
            del hooks["preStop"]
    return pod


@given(pods())
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_any_pod(pod):
    """The ways agree, a second time changes nothing, Kubernetes takes it, and what is not ours stays."""
    row = Row(id="any", pod=pod)
    before = placed(row)
    try:
        made = inject(before, HOUSE, "shop")
    except InjectionRefused as refusal:
        made = refusal
    event(type(made).__name__)
    if isinstance(made, InjectionRefused):
        assert made.problems
        assert by_webhook(row)[0] == by_file(row)[0] == before == placed(row)
        return
    assert isinstance(made, Injected)
    assert before == placed(row)
    assert by_webhook(row) == by_file(row) == (made.pod, list(made.said))
    assert inject(made.pod, HOUSE, "shop") == "the sidecar is there"
    assert without_us(made.pod, made) == without_us(before, made)
    kubernetes_validate.validate(made.pod, VERSIONS[-1], strict=True)
