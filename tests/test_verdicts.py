"""Each verdict of `drainproxy check`, over what a survey found."""

from __future__ import annotations

import pytest

from drainproxy.cli.verdicts import judge
from drainproxy.cli.wiring import unknown, wiring
from drainproxy.kube.permissions import needs
from drainproxy.kube.survey import Survey
from drainproxy.podspec import sidecar
from tests.kube import workload
from tests.kube.workload import autoscaler, policy, service

RESTRICTED = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}


def good(**changes) -> Survey:
    """Return what a survey finds of the workload that drains well."""
    deployment = workload.deployment()
    found = Survey(deployment, deployment["spec"]["template"])
    found.services, found.namespace = [service()], RESTRICTED
    found.autoscalers, found.policies = [autoscaler()], [policy(28080, 29900)]
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def ours(found: Survey):
    """Return our container."""
    return sidecar(found.pod["spec"])[0]


def setting(found: Survey, **settings: str) -> Survey:
    """Set settings of the sidecar."""
    ours(found)["env"] += [
        {"name": f"DRAINPROXY_{name.upper()}", "value": text} for name, text in settings.items()
    ]
    return found


def failures(found: Survey) -> dict[str, list[str]]:
    """Return the details of failed verdicts by what they are about."""
    failed: dict[str, list[str]] = {}
    for verdict in verdicts(found):
        if verdict.passed is False:
            failed.setdefault(verdict.what, []).append(verdict.detail)
    return failed


def verdicts(found: Survey):
    """Return what is said."""
    container = ours(found) or {}
    return list(judge(found, wiring(container, found.pod), unknown(container)))


def doubts(found: Survey) -> dict[str, str]:
    """Return what cannot be told, and why."""
    return {each.what: each.detail for each in verdicts(found) if each.passed is None}


def the(found: Survey, what: str) -> str:
    """Return the one failure there is, which is about `what`."""
    ((failed, (detail,)),) = failures(found).items()
    assert failed == what
    return detail


def test_a_workload_that_drains_well_passes_everything():
    """Every verdict is ok, and each subject has one."""
    assert [verdict.passed for verdict in verdicts(good())] == [True] * 16


def test_without_a_sidecar_there_is_one_verdict():
    """Nothing else would mean anything."""
    found = good()
    found.pod["spec"]["initContainers"] = []
    assert "no container runs drainproxy" in the(found, "sidecar")


@pytest.mark.parametrize(
    "words", [["--allow-half-close", "--listen", ":28081"], ["--listen=:28081", "--h2-inspect"]]
)
def test_a_switch_among_the_flags_needs_no_value(words):
    """What follows it is the next flag: both hold, and nothing is wrong with them."""
    found = good()
    ours(found)["args"] = words
    meant = wiring(ours(found))
    assert ([address.port for address in meant.proxy.listen], meant.warnings) == ([28081], ())


def test_what_could_not_be_read_is_not_passed():
    """A question mark and the reason; what was found beside it still counts."""
    found = good(services=[], unread={"services": "403: forbidden"})
    assert "403: forbidden" in doubts(found)["targetPort"]


TARGETS = {
    "the application's name": (service("web"), "sends port 80 to web, around drainproxy"),
    "the application's number": (service(8080), "set its targetPort to 28080"),
    "none": (service(None), "set its targetPort"),
}


@pytest.mark.parametrize(("routed", "sentence"), TARGETS.values(), ids=TARGETS.keys())
def test_a_service_must_lead_to_the_proxy(routed, sentence):
    """By name or by number."""
    assert sentence in the(good(services=[routed]), "targetPort")


def test_a_service_may_lead_to_any_port_of_ours():
    """Numbers, several listeners, and the admin port for whoever scrapes through a Service."""
    scraped = service(29900, port={"name": "metrics"})
    found = setting(good(services=[service(28081), scraped]), listen=":28080,:28081", upstream="x")
    found.pod["spec"]["containers"][0]["ports"].append({"containerPort": 8081})
    ours(found)["env"][-1]["value"] = "http://127.0.0.1:8080,http://127.0.0.1:8081"
    assert failures(found) == {}


def test_a_service_of_callers_onto_the_admin_port_is_named():
    """It is ours, and answers no application's request."""
    assert "drainproxy's admin port, which has no application" in the(
        good(services=[service(29900)]), "targetPort"
    )


def test_pods_without_a_service_are_said_to_be():
    """A label may be missing, or it is a worker: that cannot be told, and is no failure."""
    found = good(services=[])
    assert "no Service selects these pods: right for a worker" in doubts(found)["targetPort"]
    assert failures(found) == {}


def test_the_settings_of_the_sidecar_are_read():
    """From its environment and its flags; mistakes are those of `config --check`."""
    assert "DRAINPROXY_NONSENSE" in the(setting(good(), nonsense="1"), "settings")
    found = good()
    ours(found)["args"] = ["run", "--settle=banana", "--propagation", "cluster"]
    assert "banana" in the(found, "settings")


def test_the_grace_period_must_hold_the_sum():
    """Of the preset's cap and what comes after it."""
    found = setting(good(), propagation="alb")
    assert "less than the 105 s that preset alb" in the(found, "grace period")
    found.pod["spec"]["terminationGracePeriodSeconds"] = 105
    assert failures(found) == {}


def test_the_hooks_are_looked_at():
    """As at start."""
    found = good()
    del found.pod["spec"]["containers"][0]["lifecycle"]
    assert "container app has no preStop hook" in the(found, "hooks, probes")


def meshed(*, native: bool = True, **settings: str) -> Survey:
    """Return a workload beside an istio-proxy."""
    found = setting(good(), **settings)
    spec = found.pod["spec"]
    proxy = {"name": "istio-proxy", **({"restartPolicy": "Always"} if native else {})}
    spec["initContainers" if native else "containers"].insert(0, proxy)
    spec["terminationGracePeriodSeconds"] = 60
    return found


EXCLUDED = {"traffic.sidecar.istio.io/excludeInboundPorts": "15020, 29900"}


def test_beside_a_mesh_its_preset_and_its_ports_matter():
    """What each sentence asks for makes it pass."""
    failed = failures(meshed())["mesh"]
    assert len(failed) == 2
    assert "set propagation to mesh" in failed[0]
    assert "traffic.sidecar.istio.io/excludeInboundPorts: 29900" in failed[1]
    found = meshed(propagation="mesh")
    found.pod["metadata"]["annotations"] = EXCLUDED
    assert failures(found) == {}


@pytest.mark.parametrize("native", [True, False], ids=["we are native", "we are plain"])
def test_a_plain_mesh_proxy_that_does_not_wait_is_lost(native):
    """It leaves in mid drain, as injection says when it refuses such a pod; its own settings make it stay."""
    found = meshed(native=False, propagation="mesh")
    if not native:
        ours = found.pod["spec"].pop("initContainers")[0]
        del ours["restartPolicy"]
        found.pod["spec"]["containers"].append(ours)
    found.pod["metadata"]["annotations"] = EXCLUDED
    assert "the istio proxy would be gone in mid drain: make it a native sidecar" in the(found, "mesh")
    waits = {"proxy.istio.io/config": "terminationDrainDuration: 60s"}
    found.pod["metadata"]["annotations"] = {**EXCLUDED, **waits}
    assert failures(found) == {}


def test_what_is_no_tcp_goes_nowhere_else():
    """UDP is not proxied, and its Service port is none of ours."""
    assert failures(good(services=[service(), service(53, port={"protocol": "UDP"})])) == {}


def test_grpc_passes_unless_it_was_switched_off():
    """By a port's name or its appProtocol."""
    for port in ({"name": "grpc"}, {"appProtocol": "kubernetes.io/h2c"}):
        found = good(services=[service(port=port)])
        assert failures(found) == {}
        assert "set upstream_http2 to auto" in the(setting(found, upstream_http2="off"), "gRPC")


def test_an_autoscaler_needs_a_request_of_every_container():
    """One without makes it blind, for every pod (Kubernetes: Horizontal Pod Autoscaling)."""
    found = good()
    ours(found)["resources"] = {"limits": {"memory": "128Mi"}}
    assert "needs a request of cpu in every container" in the(found, "HPA")
    found.autoscalers = [autoscaler("ContainerResource")]
    assert failures(found) == {}


def test_the_tier_must_be_granted_and_usable():
    """Rights, identity and token."""
    assert "may not list endpointslices" in the(good(lacking=needs("slices")[:1]), "RBAC")
    found = good()
    ours(found)["env"] = []
    assert "does not know itself" in the(found, "RBAC")
    found = good()
    found.pod["spec"]["automountServiceAccountToken"] = False
    assert "no token is mounted" in the(found, "RBAC")
    ours(found)["volumeMounts"] = [{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]
    assert failures(found) == {}
    assert failures(setting(good(lacking=needs("slices")), rbac="none")) == {}


def test_a_restricted_namespace_refuses_a_careless_sidecar():
    """Each missing field is named; another level asks for none."""
    found = good()
    del ours(found)["securityContext"], found.pod["spec"]["securityContext"]
    assert len(failures(found)["PodSecurity"]) == 4
    found.namespace = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    assert failures(found) == {}


OPEN = {
    "a number": policy(28080),
    "a name": policy("http"),
    "a range": policy({"port": 20000, "endPort": 30000}),
    "every port": policy(),
    "a protocol": policy({"protocol": "TCP"}),
    "egress to the API": policy(443, direction="egress"),
    "no rule for egress": {
        "metadata": {"name": "web"},
        "spec": {"podSelector": {}, "ingress": [{}], "egress": []},
    },
}
SHUT = {
    "the application's": (policy(8080), "lets nobody reach port 28080"),
    "a name of another": (policy("web"), "lets nobody reach port 28080"),
    "egress elsewhere": (policy(53, direction="egress"), "not reach the API server"),
}


@pytest.mark.parametrize("opened", OPEN.values(), ids=OPEN.keys())
def test_a_policy_that_opens_the_port_is_good(opened):
    """However it is written."""
    assert failures(good(policies=[opened])) == {}


@pytest.mark.parametrize(("closed", "sentence"), SHUT.values(), ids=SHUT.keys())
def test_a_policy_that_shuts_the_port_is_named(closed, sentence):
    """It was written for the application's port."""
    assert sentence in the(good(policies=[closed]), "NetworkPolicy")


GATES = {
    "target-health.elbv2.k8s.aws/k8s-shop-web": "alb",
    "cloud.google.com/load-balancer-neg-ready": "gce-neg",
}


@pytest.mark.parametrize(("gate", "preset"), GATES.items())
def test_a_balancers_readiness_gate_tells_the_preset(gate, preset):
    """It is there because the balancer sends callers to pods."""
    found = good()
    found.pod["spec"] |= {"readinessGates": [{"conditionType": gate}], "terminationGracePeriodSeconds": 200}
    assert f"set propagation to {preset}" in the(found, "preset")
    assert failures(setting(found, propagation=preset)) == {}


@pytest.mark.parametrize("headless", [{}, {"clusterIP": "None"}], ids=["ClusterIP", "headless"])
def test_a_service_whose_endpoints_are_always_ready_is_named(headless):
    """Its rows never flip, so that callers are sent to a pod until it is gone."""
    found = good(services=[service(publishNotReadyAddresses=True, **headless)])
    (detail,) = failures(found)["endpoints"]
    assert "take it off, and give peers a headless Service of their own" in detail


def test_a_headless_service_for_peers_does_no_harm_beside_another():
    """StatefulSets have one; its rows are left out. One with a ClusterIP has callers of its own."""
    peers = {"publishNotReadyAddresses": True}
    assert failures(good(services=[service(clusterIP="None", **peers), service()])) == {}
    assert "publishNotReadyAddresses" in the(good(services=[service(**peers), service()]), "endpoints")


def test_a_headless_service_tells_the_preset():
    """Its clients resolve pods; a Service with an address beside it is no such sign."""
    headless = service(clusterIP="None")
    assert "set propagation to headless-dns" in the(good(services=[headless]), "preset")
    assert failures(good(services=[headless, service()])) == {}


def successor(**changes) -> str:
    """Return what is said of the pod that takes over from one of this workload's."""
    found = good()
    found.workload = {
        **found.workload,
        "spec": {**found.workload["spec"], **changes.pop("spec", {})},
        **changes,
    }
    verdict = next(each for each in verdicts(found) if each.what == "successor")
    assert verdict.passed is True
    return verdict.detail


def test_where_the_successor_waits_for_the_pods_end_it_is_said():
    """No way of draining makes up for that."""
    waits = "starts only when the pod is gone"
    assert waits in successor(spec={"strategy": {"type": "Recreate"}})
    assert waits in successor(kind="StatefulSet", spec={"replicas": 1})
    assert waits not in successor(kind="StatefulSet", spec={"replicas": 2})
    assert waits not in successor(spec={"replicas": 1})


SELVES = {
    "everybody": {},
    "by label": {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]},
    "by expression": {
        "from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}}]
    },
    "every pod": {"from": [{"podSelector": {}}]},
    "an address": {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
}
OTHERS = {
    "the ingress": {"podSelector": {"matchLabels": {"app": "ingress"}}},
    "another namespace": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}},
    "not these": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}},
    "all but these": {
        "podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}
    },
}


def handing_on(rule: dict[str, object], **changes: object) -> Survey:
    """A workload whose pods hand on, and one policy with this rule."""
    chosen = policy(28080, 29900)
    chosen["spec"]["ingress"][0] |= rule
    found = setting(good(policies=[chosen], **changes), handoff="on")
    found.pod.setdefault("metadata", {})["labels"] = {"app": "web"}
    return found


@pytest.mark.parametrize("rule", SELVES.values(), ids=SELVES.keys())
def test_pods_that_hand_on_and_may_reach_one_another_are_good(rule):
    """However it is said."""
    assert failures(handing_on(rule)) == {}


@pytest.mark.parametrize("peer", OTHERS.values(), ids=OTHERS.keys())
def test_a_policy_that_keeps_them_from_one_another_is_named(peer):
    """What it lets through is the ingress, say: a request handed on would wait, and be refused."""
    found = handing_on({"from": [peer]})
    assert "keeps the pods from handing requests to one another" in the(found, "NetworkPolicy")
    ours(found)["env"].pop()
    assert failures(found) == {}
