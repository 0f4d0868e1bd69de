"""What stands beside a pod that gets the sidecar, and does not follow by itself: whoever goes by a number.

Pure. A finding bypasses (callers reach the application around the sidecar), cuts off (callers reach nobody),
or is a remark. Each says what to write, and knows how to write it where that is sure. Called by manifest.py,
which says in which line. What a NetworkPolicy allows is judged in policies.py.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from drainproxy.injector import policies
from drainproxy.injector.finding import Finding, Moved
from drainproxy.injector.objects import Thing
from drainproxy.kube.rules.selectors import fits, listed, mapping
from drainproxy.podspec import applications

HEALTH_CHECK_PORT = re.compile(r"health-?(check|probe)[a-z-]*port|port_[0-9]+_health-probe_port")
"""Of annotations of AWS, Azure and others, on Ingresses and Services."""
BESIDE = frozenset({"Ingress", "BackendConfig", "HorizontalPodAutoscaler", "PodDisruptionBudget"})
"""Kinds that are looked at, beside Services and NetworkPolicies."""
BACKEND_CONFIG = "cloud.google.com/backend-config"
BY_ADDRESS = {
    "alb.ingress.kubernetes.io/target-type": ("ip", "alb"),
    "cloud.google.com/neg": ("ingress", "gce-neg"),
}
"""Annotation, what in it means that a balancer sends callers to pods, and the preset for it."""


def judge(moved: Moved, things: Sequence[Thing]) -> Iterator[Finding]:
    """Yield what leads around a sidecar, is cut off by it, or counts differently with it."""
    near = [thing for thing in things if thing.kind in BESIDE and thing.near(moved.thing)]
    services = list(services_of(moved.thing, moved.labels, things))
    for service in services:
        yield from _service(moved, service)
    names = {str(service.metadata.get("name")) for service in services}
    fronts = [
        *services,
        *(thing for thing in near if thing.kind == "Ingress" and not names.isdisjoint(_backends(thing.spec))),
    ]
    for thing in fronts:
        yield from _health_checks(moved, thing)
        yield from _balancer(moved, thing)
    wanted = {name for service in services for name in _named_configs(service)}
    for thing in near:
        if (thing.group, thing.kind) == ("cloud.google.com", "BackendConfig"):
            if str(thing.metadata.get("name")) in wanted:
                yield from _backend_config(moved, thing)
        elif thing.kind == "HorizontalPodAutoscaler":
            yield from _autoscaler(moved, thing)
        elif thing.kind == "PodDisruptionBudget":
            yield from _budget(moved, thing)
    yield from policies.judge(moved, things)


def services_of(thing: Thing, labels: Mapping[str, Any], things: Iterable[Thing]) -> Iterator[Thing]:
    """Yield the Services that choose pods with these labels."""
    for each in things:
        if each.kind != "Service" or each.group:
            continue
        selector = mapping(each.spec.get("selector"))
        # A stream may have hundreds of either: what costs least is asked first.
        if selector and selector.items() <= labels.items() and each.near(thing):
            yield each


def _service(moved: Moved, service: Thing) -> Iterator[Finding]:
    headless = service.spec.get("clusterIP") == "None"
    for i, port in enumerate(listed(service.spec.get("ports"))):
        if not isinstance(port, dict) or port.get("protocol", "TCP") != "TCP":
            continue
        path = ("spec", "ports", i)
        target = port.get("targetPort") or port.get("port")
        for taken in moved.renumbered:
            # Clients of a headless Service connect to pods: no targetPort comes between.
            if headless and taken.application in (target, port.get("port")):
                yield Finding(
                    service,
                    (*path, "port"),
                    f"it is headless, and its clients connect to port {taken.application} of the pods, around"
                    f" {moved.name}'s sidecar: annotate the pods with drainproxy.io/app-port-env or"
                    " drainproxy.io/app-host-env, so that the number stays",
                    bypasses=True,
                )
            elif target == taken.application:
                right: int | str = taken.name or taken.callers
                yield Finding(
                    service,
                    (*path, "targetPort") if "targetPort" in port else path,
                    f"targetPort {taken.application} goes around {moved.name}'s sidecar: write {right}",
                    bypasses=True,
                    fix=partial(port.__setitem__, "targetPort", right),
                )


def _backends(value: Any) -> Iterator[str]:
    """Yield the Services that an Ingress sends callers to, however it is written."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in {"service", "serviceName"}:
                yield str(mapping(each).get("name") if isinstance(each, dict) else each)
            yield from _backends(each)
    elif isinstance(value, list):
        for each in value:
            yield from _backends(each)


def _health_checks(moved: Moved, thing: Thing) -> Iterator[Finding]:
    for name, text in thing.annotations.items():
        if not HEALTH_CHECK_PORT.search(str(name)):
            continue
        for taken in moved.renumbered:
            if str(text) == str(taken.application):
                yield Finding(
                    thing,
                    ("metadata", "annotations", str(name)),
                    f"{name} asks port {text} around {moved.name}'s sidecar, and hears nothing of a drain:"
                    f' write "{taken.callers}"',
                    bypasses=True,
                    fix=partial(thing.annotations.__setitem__, name, str(taken.callers)),
                )


def _backend_config(moved: Moved, thing: Thing) -> Iterator[Finding]:
    check = mapping(thing.spec.get("healthCheck"))
    for taken in moved.renumbered:
        if check.get("port") == taken.application:
            yield Finding(
                thing,
                ("spec", "healthCheck", "port"),
                f"its health check asks port {taken.application} around {moved.name}'s sidecar, and hears"
                f" nothing of a drain: write {taken.callers}",
                bypasses=True,
                fix=partial(check.__setitem__, "port", taken.callers),
            )


def _named_configs(service: Thing) -> list[str]:
    """Return the BackendConfigs that a Service names, in JSON as GKE reads it."""
    return re.findall(r':\s*"([^"]+)"', str(service.annotations.get(BACKEND_CONFIG, "")))


def _balancer(moved: Moved, thing: Thing) -> Iterator[Finding]:
    """Remark that a balancer sends callers to pods, which takes another preset."""
    for name, (word, preset) in BY_ADDRESS.items():
        if word in str(thing.annotations.get(name, "")) and moved.propagation == "cluster":
            yield Finding(
                thing,
                ("metadata", "annotations", name),
                f"its balancer sends callers to the pods of {moved.name}, and follows a pod's end later than"
                f" kube-proxy: annotate them with drainproxy.io/propagation: {preset}",
            )


def _autoscaler(moved: Moved, thing: Thing) -> Iterator[Finding]:
    target = mapping(thing.spec.get("scaleTargetRef"))
    if (target.get("kind"), target.get("name")) != (moved.thing.kind, moved.thing.metadata.get("name")):
        return
    names = [each.get("name") for each in applications(moved.pod["spec"])]
    for i, metric in enumerate(listed(thing.spec.get("metrics"))):
        resource = mapping(mapping(metric).get("resource"))
        if mapping(metric).get("type") != "Resource" or not resource:
            continue
        fix = partial(_by_container, metric, str(names[0])) if len(names) == 1 else None
        yield Finding(
            thing,
            ("spec", "metrics", i, "type"),
            f"its {resource.get('name')} is that of all containers of {moved.name}, and the sidecar's counts"
            f" too: write type: ContainerResource with container: {names[0]}",
            fix=fix,
        )


def _by_container(metric: dict[str, Any], container: str) -> None:
    resource = metric.pop("resource")
    metric["type"] = "ContainerResource"
    metric["containerResource"] = {**resource, "container": container}


def _budget(moved: Moved, thing: Thing) -> Iterator[Finding]:
    """Remark that no pod may be evicted: a node that is drained waits for ever."""
    if not fits(thing.spec.get("selector"), moved.labels):
        return
    replicas = moved.thing.spec.get("replicas", 1)
    least, most = thing.spec.get("minAvailable"), thing.spec.get("maxUnavailable")
    none_may = most in (0, "0%") or least == "100%" or (isinstance(least, int) and least >= _number(replicas))
    if none_may:
        key = "minAvailable" if most is None else "maxUnavailable"
        yield Finding(
            thing,
            ("spec", key),
            f"it lets none of the {replicas} pods of {moved.name} be evicted, so that no drain of a node"
            " ends: write maxUnavailable: 1",
        )


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 1
