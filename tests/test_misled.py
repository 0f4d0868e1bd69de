"""What made `drainproxy check` call a workload good that loses requests, or bad that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy.cli.wiring import wiring
from tests.kube import workload
from tests.kube.workload import policy, service
from tests.test_verdicts import doubts, failures, good, ours, setting, the

if TYPE_CHECKING:
    from drainproxy.kube.survey import Survey

WAIT = {"path": "/drain/wait", "port": 29900}


def hooked(**asked) -> Survey:
    """Return a workload whose application's hook asks for something else."""
    found = good()
    found.pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"] = {**WAIT, **asked}
    return found


HOOKS = {
    "port": ({"port": 29901}, "port 29901 is not the admin port; write 29900"),
    "port in quotes": ({"port": "8080"}, "port 8080 is not the admin port"),
    "host": ({"host": "127.0.0.1"}, "the kubelet asks 127.0.0.1 from the node; leave host out"),
    "scheme": ({"scheme": "HTTPS"}, "the admin port speaks no HTTPS; write scheme: HTTP"),
}


@pytest.mark.parametrize(("asked", "sentence"), HOOKS.values(), ids=HOOKS.keys())
def test_a_hook_that_does_not_come_to_the_admin_port(asked, sentence):
    """It fails at once, and the application ends in mid drain."""
    assert sentence in the(hooked(**asked), "hooks, probes")


@pytest.mark.parametrize("asked", [{}, {"port": "29900"}, {"scheme": "HTTP"}, {"host": ""}], ids=str)
def test_a_hook_that_does(asked):
    """However it is written."""
    assert failures(hooked(**asked)) == {}


def test_a_hook_of_another_admin_port():
    """What the sidecar was told counts, not the usual number."""
    found = setting(hooked(port=9901), admin=":9901")
    ours(found)["readinessProbe"]["httpGet"]["port"] = 9901
    assert failures(found) == {}
    assert any("write 9901" in each for each in failures(setting(good(), admin=":9901"))["hooks, probes"])


def test_a_command_that_asks_the_admin_port_waits_too():
    """For what has no httpGet hook but curl."""
    found = good()
    command = ["/bin/sh", "-c", "curl --silent http://127.0.0.1:29900/drain/wait"]
    found.pod["spec"]["containers"][0]["lifecycle"]["preStop"] = {"exec": {"command": command}}
    assert failures(found) == {}
    command[2] = command[2].replace("29900", "29901")
    assert "another preStop hook" in the(found, "hooks, probes")


def test_a_probe_of_ours_that_goes_elsewhere():
    """By its own container's names, too."""
    found = good()
    ours(found)["readinessProbe"]["httpGet"]["port"] = "drain-admin"
    assert "port drain-admin is not the admin port" in the(found, "hooks, probes")
    ours(found)["ports"].append({"name": "drain-admin", "containerPort": 29900})
    assert failures(found) == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_admin_on_loopback(host):
    """The kubelet asks from the node: no hook is answered and no probe."""
    assert "set admin to :29900" in the(setting(good(), admin=f"{host}:29900"), "hooks, probes")


def test_a_listener_on_loopback():
    """No Service leads there."""
    assert "set listen to :28080" in the(setting(good(), listen="127.0.0.1:28080"), "targetPort")


PROMETHEUS = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
FRONTEND = {"podSelector": {"matchLabels": {"app": "frontend"}}}
OFFICE = {"ipBlock": {"cidr": "10.1.0.0/16"}}
ANYWHERE = {"ipBlock": {"cidr": "0.0.0.0/0"}}
NEIGHBOURS, EVERYWHERE = {"podSelector": {}}, {"namespaceSelector": {}}


def rules(*given: tuple[list, list]) -> dict:
    """Return a policy of rules, each ports and peers."""
    made = policy(28080)
    made["spec"]["ingress"] = [
        {
            **(
                {"ports": [port if isinstance(port, dict) else {"port": port} for port in ports]}
                if ports
                else {}
            ),
            **({"from": peers} if peers else {}),
        }
        for ports, peers in given
    ]
    return made


SHUT = {
    "UDP": (rules(([{"port": 28080, "protocol": "UDP"}], [])), "lets nobody reach port 28080"),
    "a range of UDP": (
        rules(([{"port": 20000, "endPort": 30000, "protocol": "UDP"}], [])),
        "lets nobody reach port 28080",
    ),
    "only Prometheus may": (
        rules(([], [PROMETHEUS]), ([8080], [FRONTEND])),
        '{"podSelector": {"matchLabels": {"app": "frontend"}}} reach the application\'s port 8080',
    ),
    "everybody may to the old number": (rules(([28080], [FRONTEND]), ([8080], [])), "lets everybody reach"),
    "by its name": (rules(([28080], [PROMETHEUS]), (["web"], [FRONTEND])), "and not drainproxy's 28080"),
    "a part of a network": (rules(([28080], [OFFICE]), ([8080], [ANYWHERE])), "and not drainproxy's 28080"),
    "this namespace only": (
        rules(([28080], [NEIGHBOURS]), ([8080], [EVERYWHERE])),
        "and not drainproxy's 28080",
    ),
}
OPEN = {
    "the same": rules(([28080, 8080], [FRONTEND])),
    "more": rules(([28080], []), ([8080], [FRONTEND])),
    "all of the namespace": rules(([28080], [NEIGHBOURS]), ([8080], [FRONTEND])),
    "all namespaces": rules(([28080], [EVERYWHERE]), ([8080], [PROMETHEUS])),
    "a wider network": rules(([28080], [ANYWHERE]), ([8080], [OFFICE])),
    "the monitoring's own port beside it": rules(([28080], [FRONTEND]), ([9090], [PROMETHEUS])),
    "TCP by name": rules(([{"port": "http", "protocol": "TCP"}], [])),
    "a number in quotes": rules((["28080"], [])),
}


@pytest.mark.parametrize(("shut", "sentence"), SHUT.values(), ids=SHUT.keys())
def test_a_policy_that_shuts_out_those_whom_the_application_had(shut, sentence):
    """By protocol, or by peers: whoever may reach the application has to reach drainproxy."""
    assert sentence in the(good(policies=[shut]), "NetworkPolicy")


@pytest.mark.parametrize("opened", OPEN.values(), ids=OPEN.keys())
def test_a_policy_that_lets_them_in(opened):
    """However wide."""
    assert failures(good(policies=[opened])) == {}


def test_policies_add_up():
    """What one of them lets in is in."""
    admitting = {**rules(([28080], [FRONTEND])), "metadata": {"name": "more"}}
    assert failures(good(policies=[rules(([8080], [FRONTEND])), admitting])) == {}


def egress(*peers: dict, port: int = 443, protocol: str = "TCP") -> dict:
    """Return a policy that lets the pod out to peers."""
    made = policy({"port": port, "protocol": protocol}, direction="egress")
    made["spec"]["egress"][0] |= {"to": list(peers)} if peers else {}
    return made


OUT = {
    "anywhere": (egress(), True),
    "its own port": (egress(port=16443), True),
    "a network with it": (egress({"ipBlock": {"cidr": "172.20.0.0/16"}}), True),
    "a network without it": (egress(OFFICE), False),
    "a network but for it": (
        egress({"ipBlock": {"cidr": "172.0.0.0/8", "except": ["172.20.0.0/16"]}}),
        False,
    ),
    "pods": (egress(NEIGHBOURS), False),
    "every pod": (egress(EVERYWHERE), False),
    "UDP": (egress(protocol="UDP"), False),
}


@pytest.mark.parametrize(("made", "reaches"), OUT.values(), ids=OUT.keys())
def test_no_selector_chooses_the_api_server(made, reaches):
    """It is an address: a policy that lets out to pods keeps drainproxy from it."""
    found = good(policies=[made], api_addresses=["172.20.0.1"], api_ports=[16443])
    assert ("not reach the API server" in str(failures(found))) is not reaches


@pytest.mark.parametrize(
    ("peers", "becomes"), [([service(9090, clusterIP="")], "failed"), ([service()], "fine")], ids=str
)
def test_a_peer_service_needs_another_to_the_same_port(peers, becomes):
    """One that leads elsewhere has no callers of the application."""
    headless = service(clusterIP="None", publishNotReadyAddresses=True)
    found = good(services=[headless, *peers])
    found.pod["spec"]["containers"][0]["ports"].append({"containerPort": 9090})
    assert ("endpoints" in failures(found)) is (becomes == "failed")


STARVES, DOUBTFUL, ENOUGH = ("1m", "49m", "0.04"), ("50m", "100m", "0.5", "999m"), ("1", "2000m", "1.5")


@pytest.mark.parametrize("limit", [*STARVES, *DOUBTFUL, *ENOUGH])
def test_a_cpu_limit_that_starves(limit):
    """Below the one processor that it can use, it is stopped in each period once its share is used up.

    Whether the load does that is not to be seen where somebody has chosen it; below what was tried it fails.
    """
    found = good()
    ours(found)["resources"]["limits"] = {"cpu": limit}
    said = f"a CPU limit of {limit}"
    assert (said in str(failures(found).get("CPU"))) is (limit in STARVES)
    assert (said in str(doubts(found))) is (limit in DOUBTFUL)


def test_a_limit_range_gives_one():
    """Whoever has none of its own gets the namespace's (Kubernetes: Limit Ranges)."""
    given = {"type": "Container", "default": {"cpu": "200m", "memory": "256Mi"}}
    ranged = {
        "metadata": {"name": "usual"},
        "spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}, given]},
    }
    found = good(limits=[ranged])
    assert "LimitRange usual gives drainproxy a CPU limit of 200m" in the(found, "CPU")
    ours(found)["resources"]["limits"] = {"cpu": "1"}
    assert failures(found) == {}


@pytest.mark.parametrize(
    ("env", "what", "why"),
    [
        (
            {"name": "DRAINPROXY_LISTEN", "valueFrom": {"configMapKeyRef": {"name": "net", "key": "listen"}}},
            "targetPort",
            "listen comes from ConfigMap net",
        ),
        (
            {"name": "DRAINPROXY_ADMIN", "valueFrom": {"secretKeyRef": {"name": "net", "key": "admin"}}},
            "hooks, probes",
            "admin comes from Secret net",
        ),
        (
            {"name": "DRAINPROXY_CONFIG", "valueFrom": {"configMapKeyRef": {"name": "net", "key": "file"}}},
            "NetworkPolicy",
            "listen may come from a file that ConfigMap net names",
        ),
        (
            {"name": "DRAINPROXY_CONFIG", "value": "/etc/drainproxy/settings.yaml"},
            "grace period",
            "propagation may come from the file /etc/drainproxy/settings.yaml",
        ),
    ],
    ids=["a ConfigMap", "a Secret", "a file of a ConfigMap's name", "a file"],
)
def test_what_is_set_elsewhere_is_a_question_mark(env, what, why):
    """Its default would be a guess: that verdict cannot be told, and others can."""
    found = good()
    ours(found)["env"].append(env)
    assert why in doubts(found)[what]
    assert "settings" in doubts(found)
    assert failures(found) == {}


def test_what_is_unknown_hides_nothing_that_is_known():
    """A hook that misses the admin port does so whatever the preset is; without a mesh there is none."""
    found = hooked(host="127.0.0.1")
    ref = {"configMapKeyRef": {"name": "net", "key": "preset"}}
    ours(found)["env"].append({"name": "DRAINPROXY_PROPAGATION", "valueFrom": ref})
    assert "leave host out" in the(found, "hooks, probes")
    assert set(doubts(found)) == {"settings", "grace period", "preset"}


def test_what_is_set_in_plain_sight_wins_over_a_file():
    """And a flag over the environment: those verdicts stand."""
    found = setting(good(), config="/etc/settings.yaml", listen=":28080", admin=":29900")
    assert "targetPort" not in doubts(found)
    found = good()
    ref = {"configMapKeyRef": {"name": "net", "key": "listen"}}
    ours(found)["env"].append({"name": "DRAINPROXY_LISTEN", "valueFrom": ref})
    ours(found)["args"] = ["run", "--listen=:28080"]
    assert doubts(found) == {}


@pytest.mark.parametrize(
    ("source", "doubtful"),
    [
        ({"configMapRef": {"name": "everything"}}, True),
        ({"prefix": "DRAINPROXY_", "configMapRef": {"name": "ours"}}, True),
        ({"prefix": "APP_", "configMapRef": {"name": "theirs"}}, False),
    ],
    ids=["anything", "with our prefix", "with another"],
)
def test_a_whole_config_map_may_set_anything(source, doubtful):
    """Unless no name in it can be one of ours."""
    found = good()
    ours(found)["envFrom"] = [source]
    assert ("targetPort" in doubts(found)) is doubtful


def test_variables_are_put_in_as_the_kubelet_does():
    """The pod's address, a port that stands above; what comes from elsewhere is not known."""
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    port = {"name": "PORT", "value": "8080"}
    upstream = {"name": "DRAINPROXY_UPSTREAM", "value": "http://[$(POD_IP)]:$(PORT)"}
    found = good()
    ours(found)["env"] += [address, port, upstream]
    assert failures(found) == {}
    assert str(wiring(ours(found), found.pod).proxy.upstream[0]) == "http://192.0.2.1:8080"
    port.pop("value")
    port["valueFrom"] = {"configMapKeyRef": {"name": "app", "key": "port"}}
    assert "upstream comes from ConfigMap app" in doubts(found)["upstream"]


def test_the_name_on_both_containers():
    """The first in `containers` wins (the EndpointSlice controller's FindPort): everything goes around us."""
    found = good()
    found.pod["spec"]["containers"][0]["ports"][0]["name"] = "http"
    detail = the(found, "targetPort")
    assert "container app has a port of that name too, which comes first" in detail
    found.pod["spec"]["containers"][0]["ports"][0]["protocol"] = "UDP"
    assert "targetPort" not in failures(found)


def test_a_native_sidecars_name_below_1_33():
    """No Service finds it there."""
    assert "finds in no native sidecar (1.33 does)" in the(good(version=(1, 32)), "targetPort")
    assert failures(good(version=(1, 33))) == {}
    assert failures(good(version=(1, 32), services=[service(28080)])) == {}


def test_a_name_that_nobody_has():
    """Its Service has no endpoints."""
    assert "a name that no container's port has" in the(good(services=[service("htpp")]), "targetPort")


def running(found: Survey, *names: str) -> list[dict]:
    """Let pods of the workload run."""
    found.pods = [
        {**found.pod, "metadata": {**found.pod["metadata"], "name": name, "uid": f"uid-{name}"}}
        for name in names
    ]
    found.pod = found.pods[0]
    return found.pods


def rows(port: int, *pods: dict, name: str = "web") -> dict:
    """Return an EndpointSlice as its controller writes it."""
    return {
        "metadata": {"name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": name, "port": port, "protocol": "TCP"}],
        "endpoints": [
            {"targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}}
            for pod in pods
        ],
    }


def test_real_endpoints_count_more_than_names():
    """What the controller has resolved is where callers go, whatever the spec seems to say."""
    found = good()
    pods = running(found, "web-1")
    found.slices = [rows(8080, *pods)]
    assert "around drainproxy" in the(found, "targetPort")
    found.slices = [rows(28080, *pods)]
    assert failures(found) == {}
    found.slices = [rows(28080, *pods, name="other")]
    assert "nobody is sent there" in the(found, "targetPort")


def test_pods_without_the_sidecar_beside_others():
    """A webhook that came later, or was away: they lose requests, and are named."""
    found = good()
    running(found, "web-1", "web-2", "web-3")
    found.pods[1]["spec"] = {"containers": [{"name": "app"}]}
    detail = the(found, "sidecar")
    assert "1 of 3 pods run without it (web-2)" in detail
    assert "kubectl rollout restart deployment/web" in detail


UPSTREAMS = {
    "declared": ("http://127.0.0.1:8080", {}, True),
    "by localhost": ("http://localhost:8080", {}, True),
    "of another container": ("http://127.0.0.1:9999", {}, False),
    "in its environment": ("http://127.0.0.1:9999", {"env": [{"name": "PORT", "value": "9999"}]}, True),
    "in its command": ("http://127.0.0.1:9999", {"args": ["--listen=:9999"]}, True),
    "in its probe": ("http://127.0.0.1:9999", {"readinessProbe": {"tcpSocket": {"port": 9999}}}, True),
    "a part of a number": ("http://127.0.0.1:999", {"args": ["--listen=:9999"]}, False),
    "elsewhere": ("http://db.shop:5432", {}, True),
    "a socket": ("unix:/run/app.sock", {}, True),
}


@pytest.mark.parametrize(("upstream", "more", "there"), UPSTREAMS.values(), ids=UPSTREAMS.keys())
def test_an_upstream_port_where_nobody_listens(upstream, more, there):
    """As far as the containers say: they declare others, and name this one nowhere."""
    found = setting(good(), upstream=upstream)
    found.pod["spec"]["containers"][0] |= more
    assert ("where nobody is known to listen" in str(failures(found))) is not there


def test_a_container_that_says_nothing_of_its_ports():
    """It may listen anywhere: that cannot be told."""
    found = good()
    del found.pod["spec"]["containers"][0]["ports"]
    assert "no container says where it listens" in doubts(found)["upstream"]


def test_a_template_without_the_sidecar_and_without_pods():
    """With its label a webhook may add it; nobody can tell before there is a pod."""
    found = good()
    found.pod["spec"]["initContainers"] = []
    found.workload["spec"]["replicas"] = 0
    assert "no container runs drainproxy" in the(found, "sidecar")
    found.pod["metadata"]["labels"] = {**workload.LABELS, "drainproxy.io/inject": "true"}
    assert failures(found) == {}
    assert "no pod runs (replicas: 0)" in doubts(found)["sidecar"]


def test_packets_that_are_led_to_drainproxy():
    """A Service to the application's number reaches drainproxy, and policies decide before."""
    found = good(services=[service(8080)], policies=[rules(([8080], [FRONTEND]))])
    leads = {"name": "drainproxy-redirect", "args": ["redirect", "8080:28080"]}
    found.pod["spec"]["initContainers"].insert(0, leads)
    assert failures(found) == {}
    leads["args"] = ["redirect", "8081:28080"]
    assert set(failures(found)) == {"targetPort", "NetworkPolicy"}
