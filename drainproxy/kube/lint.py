"""Do a pod's timers and hooks fit together? What is read in its spec, as sentences that name the fix.

Pure. Called at start where `rbac` lets the pod be read, and by `drainproxy check`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WAIT_PATH = "/drain/wait"
MESH_PROXIES = frozenset({"istio-proxy", "linkerd-proxy"})
DEFAULT_GRACE_S = 30
_ONLY_SLEEP = re.compile(r"\s*(exec\s+)?(/usr)?(/bin/)?sleep\s+[0-9.]+[smh]?\s*")


def is_ours(container: Mapping[str, Any]) -> bool:
    """Tell whether a container runs drainproxy."""
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    names = [str(each.get("name", "")) for each in container.get("env") or ()]
    return (
        str(container.get("name")) == "drainproxy"
        or any(str(word).endswith("drainproxy") for word in words)
        or any(name.startswith("DRAINPROXY_") for name in names)
    )


def sidecar(spec: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, bool]:
    """Return our container, and whether it is a native sidecar."""
    for container in spec.get("initContainers") or ():
        if is_ours(container) and container.get("restartPolicy") == "Always":
            return container, True
    return next(filter(is_ours, spec.get("containers") or ()), None), False


def applications(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the containers that we keep alive: neither ours nor a mesh's."""
    return [
        container
        for container in spec.get("containers") or ()
        if not is_ours(container) and container.get("name") not in MESH_PROXIES
    ]


def spec_problems(spec: Mapping[str, Any], grace_s: float | None, propagation_max_s: float) -> list[str]:
    """Return what is wrong with a PodSpec. `grace_s`: what the settings say it is."""
    return [*_grace(spec, grace_s), *_our_container(spec, propagation_max_s), *_hooks(spec)]


def _grace(spec: Mapping[str, Any], grace_s: float | None) -> Iterator[str]:
    real = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    if grace_s is not None and grace_s > real:
        yield (
            f"grace_period is {grace_s:g} s, but terminationGracePeriodSeconds {real:g} s:"
            f" set terminationGracePeriodSeconds to {grace_s:g}, or grace_period to {real:g}s"
        )


def _our_container(spec: Mapping[str, Any], propagation_max_s: float) -> Iterator[str]:
    ours, native = sidecar(spec)
    if ours is None:
        return
    command = [str(word) for word in _hook(ours).get("exec", {}).get("command") or ()]
    if native and "drain" not in command:
        yield (
            "a native sidecar gets SIGTERM only after the application has ended: give its container"
            " preStop exec [drainproxy, drain, --prestop]"
        )
    probe = ours.get("readinessProbe")
    if probe is None:
        yield (
            "the drainproxy container has no readinessProbe: Services choose this pod before the application"
            " is up; add httpGet /readyz on the admin port"
        )
        return
    fails_s = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    if fails_s > propagation_max_s:
        yield (
            f"the readinessProbe takes {fails_s:g} s to fail, longer than propagation_max"
            f" {propagation_max_s:g} s: after a restart nobody hears of the drain;"
            " lower periodSeconds or failureThreshold"
        )


def _hooks(spec: Mapping[str, Any]) -> Iterator[str]:
    for container in applications(spec):
        hook, name = _hook(container), container.get("name")
        if hook.get("httpGet", {}).get("path") == WAIT_PATH:
            if isinstance(hook["httpGet"].get("port"), str):
                yield f"container {name}: write the preStop hook's port as a number, a name is not its own"
        elif not hook:
            yield (
                f"container {name} has no preStop hook: it gets SIGTERM at once and refuses what still comes;"
                f" add httpGet {WAIT_PATH} on drainproxy's admin port"
            )
        elif _sleeps(hook):
            yield (
                f"container {name} only sleeps in its preStop hook, and ends in mid drain if that is over"
                f" first; replace it by httpGet {WAIT_PATH} on drainproxy's admin port"
            )
        else:
            yield f"container {name} has another preStop hook: it ends in mid drain if that is over first"


def _hook(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return (container.get("lifecycle") or {}).get("preStop") or {}


def _sleeps(hook: Mapping[str, Any]) -> bool:
    command = [str(word) for word in (hook.get("exec") or {}).get("command") or ()]
    if command[:1] and command[0].rpartition("/")[2] in {"sh", "bash"} and command[1:2] == ["-c"]:
        return _ONLY_SLEEP.fullmatch(" ".join(command[2:])) is not None
    return "sleep" in hook or _ONLY_SLEEP.fullmatch(" ".join(command)) is not None
