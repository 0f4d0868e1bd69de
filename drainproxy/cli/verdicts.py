"""Will this workload's pods drain? Verdicts over what kube/survey.py found, each with its fix.

Pure. A verdict is ok, failed, or unknown where something could not be read. Called by check_command.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drainproxy import podspec
from drainproxy.config import Config
from drainproxy.kube.lint import spec_problems
from drainproxy.kube.survey import Survey

GATES = {
    "target-health.elbv2.k8s.aws/": "alb",
    "target-health.alb.ingress.k8s.aws/": "alb",
    "cloud.google.com/load-balancer-neg-ready": "gce-neg",
}
"""Readiness gate -> the preset for the balancer that sets it."""

API_PORTS = (443, 6443)
"""Of the API server's Service, and of most API servers behind it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`passed` None: it cannot be told."""

    what: str
    passed: bool | None
    detail: str


def judge(found: Survey, config: Config) -> Iterator[Verdict]:
    """Yield every verdict; after a missing sidecar there is nothing left to judge.

    `config`: what the sidecar's own settings mean, with what is wrong with them as `warnings`.
    """
    spec = found.pod["spec"]
    ours, native = podspec.sidecar(spec)
    if ours is None:
        yield Verdict("sidecar", False, "no container runs drainproxy; inject it, and see the webhook's log")
        return
    yield Verdict("sidecar", True, f"container {ours['name']}, {'native' if native else 'plain'}")
    budget, rbac = config.budget(), config.kube.rbac
    settings = [each for each in config.warnings if each not in budget.problems]
    timers = spec_problems(spec, config.lifecycle.grace_period, config.rules.max_s)
    rows: tuple[tuple[str, str, Iterable[str], str], ...] = (
        ("settings", "", settings, "they fit together"),
        ("hooks, probes", "", timers, "the application is kept until the drain is over"),
        ("grace period", "", _grace(spec, config), f"{budget.needed_s:g} s are enough"),
        ("targetPort", "services", _target_ports(found, ours, config), "every Service leads to drainproxy"),
        ("successor", "", (), _successor(found)),
        ("endpoints", "services", _endpoints(found), "they say when this pod is chosen no more"),
        ("mesh", "", _mesh(found.pod, config), "none, or provided for"),
        ("gRPC", "services", _grpc(found, config), "none, or passed through"),
        ("HPA", "autoscalers", _autoscalers(found, ours), "none, or it has what it needs"),
        ("RBAC", "permissions", _rights(found, ours, config), f"tier {rbac} is granted"),
        ("PodSecurity", "namespace", _security(found, ours), "the namespace's level is met"),
        ("NetworkPolicy", "policies", _network(found, ours, config), "the ports are open"),
        ("preset", "services", _preset(found, config), str(config.lifecycle.propagation)),
    )
    for what, source, problems, good in rows:
        failed = [Verdict(what, False, problem) for problem in problems]
        yield from failed
        if source in found.unread:
            yield Verdict(what, None, f"cannot be told: {found.unread[source]}")
        elif not failed:
            yield Verdict(what, True, good)


def _grace(spec: Mapping[str, Any], config: Config) -> Iterator[str]:
    real = spec.get("terminationGracePeriodSeconds", podspec.DEFAULT_GRACE_S)
    if config.budget().needed_s > real:
        yield (
            f"terminationGracePeriodSeconds {real:g} is less than the {config.budget().needed_s:g} s that"
            f" preset {config.lifecycle.propagation} and app_stop need; raise it, or lower propagation_max"
        )


def _successor(found: Survey) -> str:
    """Say when the pod that takes over starts. It is somebody's choice, and no failure."""
    spec = found.workload["spec"]
    recreated = (spec.get("strategy") or {}).get("type") == "Recreate"
    if recreated or (found.workload.get("kind") == "StatefulSet" and spec.get("replicas", 1) == 1):
        return (
            "starts only when the pod is gone: callers miss it for that long, however it ends; a Deployment"
            " with the strategy RollingUpdate starts it before"
        )
    return "starts before the pod is gone, or others serve meanwhile"


def _target_ports(found: Survey, ours: Mapping[str, Any], config: Config) -> Iterator[str]:
    if not found.services and "services" not in found.unread:
        yield "no Service selects these pods; label them as one does, or ignore this for a worker"
    named = {port.get("name"): port["containerPort"] for port in ours.get("ports") or ()}
    for name, port in _service_ports(found):
        target = port.get("targetPort", port["port"])
        number = named.get(target) if isinstance(target, str) else target
        if number not in {address.port for address in (*config.proxy.listen, config.admin.admin)}:
            yield (
                f"Service {name} sends port {port['port']} to {target}, around drainproxy;"
                f" set its targetPort to {config.proxy.listen[0].port}"
            )


def _endpoints(found: Survey) -> Iterator[str]:
    ready = [each for each in found.services if each["spec"].get("publishNotReadyAddresses")]
    for service in ready:
        # A headless one for peers says nothing, and does no harm beside one that does.
        if service["spec"].get("clusterIP") == "None" and len(ready) < len(found.services):
            continue
        yield (
            f"Service {service['metadata']['name']} has publishNotReadyAddresses: its endpoints stay ready"
            " until their pods are gone, and callers come to the last moment; take it off, and give peers a"
            " headless Service of their own"
        )


def _service_ports(found: Survey) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each TCP port of the Services that choose the pods, with the Service's name."""
    for service in found.services:
        for port in service["spec"].get("ports") or ():
            if port.get("protocol", "TCP") == "TCP":
                yield service["metadata"]["name"], port


def _mesh(pod: Mapping[str, Any], config: Config) -> Iterator[str]:
    everybody = podspec.containers(pod["spec"])
    name = next((each["name"] for each in everybody if each.get("name") in podspec.MESH_PROXIES), None)
    if name is None:
        return
    mesh = podspec.MESH_PROXIES[name]
    if config.lifecycle.propagation != "mesh":
        yield f"{name} pools connections, and their silence means nothing; set propagation to mesh"
    if gone := podspec.gone_in_mid_drain(pod, mesh):
        yield gone
    if str(config.admin.admin.port) not in podspec.excluded_ports(pod, mesh):
        setting = podspec.EXCLUDED_PORTS[mesh]
        yield f"the mesh intercepts probes and hooks; annotate {setting}: {config.admin.admin.port}"


def _grpc(found: Survey, config: Config) -> Iterator[str]:
    if config.proxy.upstream_http2 != "off":
        return
    for name, port in _service_ports(found):
        words = f"{port.get('name', '')} {port.get('appProtocol', '')}"
        if any(word in words for word in ("grpc", "http2", "h2c")):
            yield f"Service {name} speaks HTTP/2 on port {port['port']}; set upstream_http2 to auto"


def _autoscalers(found: Survey, ours: Mapping[str, Any]) -> Iterator[str]:
    requests = (ours.get("resources") or {}).get("requests") or {}
    for autoscaler in found.autoscalers:
        for metric in autoscaler["spec"].get("metrics") or ():
            resource = (metric.get("resource") or {}).get("name")
            utilization = ((metric.get("resource") or {}).get("target") or {}).get("type") == "Utilization"
            if metric.get("type") == "Resource" and utilization and resource not in requests:
                yield (
                    f"HPA {autoscaler['metadata']['name']} needs a request of {resource} in every container;"
                    f" give drainproxy one, or use metrics of type ContainerResource"
                )


def _rights(found: Survey, ours: Mapping[str, Any], config: Config) -> Iterator[str]:
    if config.kube.rbac == "none":
        return
    for need in found.lacking:
        yield f"the ServiceAccount may not {need.verb} {need.resource}: {need.lost}"
    told = {each["name"] for each in ours.get("env") or ()}
    if "DRAINPROXY_POD_NAMESPACE" not in told or not told & {"DRAINPROXY_POD_UID", "DRAINPROXY_POD_NAME"}:
        yield "the pod does not know itself: set DRAINPROXY_POD_NAMESPACE, _NAME and _UID by the Downward API"
    mounts = [str(each.get("mountPath")) for each in ours.get("volumeMounts") or ()]
    if found.pod["spec"].get("automountServiceAccountToken") is False and not any(
        "serviceaccount" in path for path in mounts
    ):
        yield "no token is mounted: project one into the drainproxy container"


def _security(found: Survey, ours: Mapping[str, Any]) -> Iterator[str]:
    labels = ((found.namespace or {}).get("metadata") or {}).get("labels") or {}
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        return
    whole, own = found.pod["spec"].get("securityContext") or {}, ours.get("securityContext") or {}
    wanted = {
        "allowPrivilegeEscalation: false": own.get("allowPrivilegeEscalation") is False,
        "capabilities.drop: [ALL]": "ALL" in ((own.get("capabilities") or {}).get("drop") or ()),
        "runAsNonRoot: true": own.get("runAsNonRoot", whole.get("runAsNonRoot")) is True,
        "seccompProfile.type: RuntimeDefault": bool(own.get("seccompProfile") or whole.get("seccompProfile")),
    }
    for setting, there in wanted.items():
        if not there:
            yield f"the namespace enforces restricted; give the drainproxy container {setting}"


def _network(found: Survey, ours: Mapping[str, Any], config: Config) -> Iterator[str]:
    named = {port.get("name"): port["containerPort"] for port in ours.get("ports") or ()}
    ports = [address.port for address in config.proxy.listen]
    if shut := _shut(found, "Ingress", ports, named):
        yield f"NetworkPolicy {shut} lets nobody reach port {ports[0]}; add it to the ingress ports"
    if config.kube.rbac != "none" and (shut := _shut(found, "Egress", API_PORTS, {})):
        yield f"NetworkPolicy {shut} lets drainproxy not reach the API server; allow egress to its port"


def _shut(found: Survey, way: str, ports: Iterable[int], named: Mapping[Any, int]) -> str:
    """Name the policies that govern a way and open none of `ports`; empty where it is open."""
    policies = [each for each in found.policies if way in _types(each)]
    rules = [rule for policy in policies for rule in policy["spec"].get(way.lower()) or ()]
    if any(_opens(rule, port, named) for rule in rules for port in ports):
        return ""
    return ", ".join(policy["metadata"]["name"] for policy in policies)


def _types(policy: Mapping[str, Any]) -> list[str]:
    return policy["spec"].get("policyTypes") or [
        "Ingress",
        *(["Egress"] if "egress" in policy["spec"] else []),
    ]


def _opens(rule: Mapping[str, Any], port: int, named: Mapping[Any, int]) -> bool:
    ports = rule.get("ports")
    return not ports or any(
        "port" not in each
        or named.get(each["port"], each["port"]) == port
        or (isinstance(each["port"], int) and each["port"] <= port <= each.get("endPort", each["port"]))
        for each in ports
    )


def _preset(found: Survey, config: Config) -> Iterator[str]:
    for gate in found.pod["spec"].get("readinessGates") or ():
        for prefix, preset in GATES.items():
            if gate["conditionType"].startswith(prefix) and config.lifecycle.propagation != preset:
                yield f"a balancer sets readiness gate {gate['conditionType']}; set propagation to {preset}"
    headless = [each for each in found.services if each["spec"].get("clusterIP") == "None"]
    if headless and len(headless) == len(found.services) and config.lifecycle.propagation == "cluster":
        name = headless[0]["metadata"]["name"]
        yield f"Service {name} is headless, and clients resolve pods by DNS; set propagation to headless-dns"
