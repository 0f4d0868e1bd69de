"""Will this workload's pods drain? Verdicts over what kube/survey.py found, each with its fix.

Pure. A verdict is ok, failed, or unknown where something could not be read. Called by check_command.py.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from drainproxy import podspec
from drainproxy.cli.network_verdicts import network
from drainproxy.cli.service_verdicts import Doubt, always_ready, routes, target_ports, upstreams
from drainproxy.cli.wiring import Unknown
from drainproxy.config import Config
from drainproxy.injector.annotations import LABEL as INJECT
from drainproxy.kube.lint import spec_problems
from drainproxy.kube.owners import label
from drainproxy.kube.survey import Survey

GATES = {
    "target-health.elbv2.k8s.aws/": "alb",
    "target-health.alb.ingress.k8s.aws/": "alb",
    "cloud.google.com/load-balancer-neg-ready": "gce-neg",
}
"""Readiness gate -> the preset for the balancer that sets it."""

MAX_NAMES = 3
"""Of pods in one sentence."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`passed` None: it cannot be told."""

    what: str
    passed: bool | None
    detail: str


def judge(found: Survey, config: Config, unseen: Unknown | None = None) -> Iterator[Verdict]:
    """Yield every verdict; after a missing sidecar there is nothing left to judge.

    `config`: what the sidecar's own settings mean, with what is wrong with them as `warnings`; `unseen`: what
    of them is not known.
    """
    unseen = unseen or Unknown()
    yield from _sidecars(found)
    ours, _ = podspec.sidecar(found.pod["spec"])
    if ours is None:
        return
    for row in _rows(found, ours, config, unseen):
        said = [Verdict(row.what, None if isinstance(each, Doubt) else False, each) for each in row.problems]
        if why := unseen.among(*row.needs):
            yield Verdict(row.what, None, f"cannot be told: {why}")
            continue
        yield from said
        if row.source in found.unread:
            yield Verdict(row.what, None, f"cannot be told: {found.unread[row.source]}")
        elif not said:
            yield Verdict(row.what, True, row.good)


class _Row(NamedTuple):
    what: str
    source: str
    """Of the survey: what has to have been read."""
    needs: tuple[str, ...]
    """Settings that have to be known."""
    problems: list[str]
    good: str


_SUM = ("propagation", "propagation_max", "leave_spread", "app_stop", "reserve", "grace_period")


def _rows(found: Survey, ours: Mapping[str, Any], config: Config, unseen: Unknown) -> Iterator[_Row]:
    spec, budget, rbac = found.pod["spec"], config.budget(), config.kube.rbac
    settings = [each for each in config.warnings if each not in budget.problems]
    settings += [Doubt(each) for each in unseen.all()]
    # What is not known makes nothing wrong that is wrong without it.
    max_s = math.inf if unseen.among("propagation", "propagation_max") else config.rules.max_s
    grace_s = None if unseen.among("grace_period") else config.lifecycle.grace_period
    timers = spec_problems(spec, grace_s, max_s, config.admin.admin)
    meshed = any(each.get("name") in podspec.MESH_PROXIES for each in podspec.containers(spec))
    rows: tuple[tuple[str, str, tuple[str, ...], Iterable[str], str], ...] = (
        ("settings", "", (), settings, "they fit together"),
        ("hooks, probes", "", ("admin",), timers, "the application is kept until the drain is over"),
        ("grace period", "", _SUM, _grace(spec, config), f"{budget.needed_s:g} s are enough"),
        (
            "targetPort",
            "services",
            ("listen", "admin"),
            target_ports(found, config),
            "every Service leads to drainproxy",
        ),
        ("upstream", "", ("upstream",), upstreams(spec, config), "a container listens there"),
        ("successor", "", (), (), _successor(found)),
        ("endpoints", "services", (), always_ready(found), "they say when this pod is chosen no more"),
        (
            "mesh",
            "",
            ("propagation", "admin") if meshed else (),
            _mesh(found.pod, config),
            "none, or provided for",
        ),
        ("gRPC", "services", ("upstream_http2",), _grpc(found, config), "none, or passed through"),
        ("HPA", "autoscalers", (), _autoscalers(found, ours), "none, or it has what it needs"),
        ("CPU", "limits", (), _cpu(found, ours), "no limit that stops drainproxy in mid drain"),
        ("RBAC", "permissions", ("rbac",), _rights(found, ours, config), f"tier {rbac} is granted"),
        ("PodSecurity", "namespace", (), _security(found, ours), "the namespace's level is met"),
        (
            "NetworkPolicy",
            "policies",
            ("listen", "rbac", "handoff"),
            network(found, config),
            "the ports are open",
        ),
        ("preset", "services", ("propagation",), _preset(found, config), str(config.lifecycle.propagation)),
    )
    for what, source, needs, problems, good in rows:
        yield _Row(what, source, needs, list(problems), good)


def _sidecars(found: Survey) -> Iterator[Verdict]:
    """Say which of the workload's own pods have the sidecar, or what its template says of those to come."""
    ours, native = podspec.sidecar(found.pod["spec"])
    name = found.workload["metadata"].get("name")
    kind = str(found.workload.get("kind", "workload"))
    bare = [each for each in found.pods if podspec.sidecar(each["spec"])[0] is None]
    where = "" if found.pods else "; no pod runs, and the template is judged"
    asks = label(found.pod, INJECT) == "true"
    if ours is None and not found.pods and (asks or "pods" in found.unread):
        why = (
            found.unread.get("pods") or f"no pod runs (replicas: {found.workload['spec'].get('replicas', 1)})"
        )
        yield Verdict(
            "sidecar", None, f"cannot be told: the template has none, a webhook may add it, and {why}"
        )
    elif ours is None:
        yield Verdict("sidecar", False, "no container runs drainproxy; inject it, and see the webhook's log")
    elif bare:
        names = ", ".join(str(each["metadata"].get("name")) for each in bare[:MAX_NAMES])
        more = f" and {len(bare) - MAX_NAMES} more" if len(bare) > MAX_NAMES else ""
        restart = f"replace what is older than the sidecar: kubectl rollout restart {kind.lower()}/{name}"
        yield Verdict(
            "sidecar",
            False,
            f"{len(bare)} of {len(found.pods)} pods run without it ({names}{more}); {restart}",
        )
    elif "pods" in found.unread:
        yield Verdict("sidecar", None, f"in the template; pods cannot be told: {found.unread['pods']}")
    else:
        yield Verdict("sidecar", True, f"container {ours['name']}, {'native' if native else 'plain'}{where}")


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
    for route in routes(found):
        words = f"{route.port.get('name', '')} {route.port.get('appProtocol', '')}"
        if any(word in words for word in ("grpc", "http2", "h2c")):
            port = route.port["port"]
            yield f"Service {route.name} speaks HTTP/2 on port {port}; set upstream_http2 to auto"


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


def _cpu(found: Survey, ours: Mapping[str, Any]) -> Iterator[str]:
    limit = ((ours.get("resources") or {}).get("limits") or {}).get("cpu")
    who, chosen = "drainproxy has a CPU limit", limit is not None
    if limit is None:
        for each in found.limits:
            for item in each["spec"].get("limits") or ():
                given = (item.get("default") or {}).get("cpu")
                if item.get("type") == "Container" and given is not None:
                    limit, who = given, f"LimitRange {each['metadata']['name']} gives drainproxy a CPU limit"
    share = math.inf if limit is None else podspec.cores(str(limit))
    if share < 1:
        said = (
            f"{who} of {limit}: once that is used up it stands still for the rest of each 100 ms, in mid"
            " drain too; a limit of its own of 1 or more never does that, since it has one thread"
        )
        # Whoever has set one may know the load, which is not to be seen here.
        yield Doubt(said) if chosen and share >= podspec.cores(podspec.MIN_CPU_LIMIT) else said


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
    if label(found.namespace, "pod-security.kubernetes.io/enforce") != "restricted":
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


def _preset(found: Survey, config: Config) -> Iterator[str]:
    for gate in found.pod["spec"].get("readinessGates") or ():
        for prefix, preset in GATES.items():
            if gate["conditionType"].startswith(prefix) and config.lifecycle.propagation != preset:
                yield f"a balancer sets readiness gate {gate['conditionType']}; set propagation to {preset}"
    headless = [each for each in found.services if each["spec"].get("clusterIP") == "None"]
    if headless and len(headless) == len(found.services) and config.lifecycle.propagation == "cluster":
        name = headless[0]["metadata"]["name"]
        yield f"Service {name} is headless, and clients resolve pods by DNS; set propagation to headless-dns"
