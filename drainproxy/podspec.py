"""What a pod says of us: which container is ours, whom it keeps alive, with which hooks, beside which mesh.

Pure. Two rooms read pods and must agree: kube/ judges what runs, injector/ makes what will run.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

WAIT_PATH = "/drain/wait"
MESH_PROXIES = {"istio-proxy": "istio", "linkerd-proxy": "linkerd"}
EXCLUDED_PORTS = {
    "istio": "traffic.sidecar.istio.io/excludeInboundPorts",
    "linkerd": "config.linkerd.io/skip-inbound-ports",
}
_OUTLASTS = {
    "istio": ("proxy.istio.io/config", ("terminationDrainDuration", "EXIT_ON_ZERO_ACTIVE_CONNECTIONS")),
    "linkerd": ("config.alpha.linkerd.io/proxy-wait-before-exit-seconds", ("",)),
}
"""Annotation, and what has to be in it, so that a mesh's proxy outlasts the drain as a plain container."""
MIN_CPU_LIMIT = "50m"
"""With less nobody has seen a drain (docs/operations.md, what a CPU limit costs)."""
DEFAULT_GRACE_S = 30
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PAIR = re.compile(r"([0-9]{1,5}):([0-9]{1,5})")
_ONLY_SLEEP = re.compile(r"\s*(exec\s+)?(/usr)?(/bin/)?sleep\s+[0-9.]+[smh]?\s*")


def cores(quantity: str) -> float:
    """Return a quantity of CPU, infinite where it is none (Kubernetes: Quantity)."""
    units = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3}
    try:
        return float(quantity.rstrip("numk")) * units.get(quantity[-1:], 1.0)
    except ValueError:
        return math.inf


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


def containers(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return everybody's containers, those that only start the pod included."""
    return [*(spec.get("initContainers") or ()), *spec["containers"]]


def applications(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the containers that we keep alive: neither ours nor a mesh's."""
    return [
        container
        for container in spec.get("containers") or ()
        if not is_ours(container) and container.get("name") not in MESH_PROXIES
    ]


def redirected(spec: Mapping[str, Any]) -> dict[int, int]:
    """Return which ports packets are led away from, and to which, as an init container of ours was told."""
    found: dict[int, int] = {}
    for container in spec.get("initContainers") or ():
        words = [str(word) for word in (*(container.get("command") or ()), *(container.get("args") or ()))]
        if "redirect" in words:
            pairs = map(_PAIR.fullmatch, words[words.index("redirect") + 1 :])
            found |= {int(pair[1]): int(pair[2]) for pair in pairs if pair}
    return found


def named_port(spec: Mapping[str, Any], name: str, *, native: bool = True) -> tuple[str, int] | None:
    """Return the container and the number that a Service's targetPort of this name means.

    The first in `containers` wins, whoever has the name too; native sidecars come after them, from Kubernetes
    1.33 on (FindPort in the EndpointSlice controller; kubernetes #128850).
    """
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    for container in (*(spec.get("containers") or ()), *(sidecars if native else ())):
        for port in container.get("ports") or ():
            if port.get("name") == name and port.get("protocol", "TCP") == "TCP":
                return str(container.get("name")), int(port["containerPort"])
    return None


def pre_stop(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a container's preStop hook, empty where it has none."""
    return (container.get("lifecycle") or {}).get("preStop") or {}


def sleeps(hook: Mapping[str, Any]) -> bool:
    """Tell whether a preStop hook does nothing but sleep."""
    command = [str(word) for word in (hook.get("exec") or {}).get("command") or ()]
    if command[:1] and command[0].rpartition("/")[2] in {"sh", "bash"} and command[1:2] == ["-c"]:
        return _ONLY_SLEEP.fullmatch(" ".join(command[2:])) is not None
    return "sleep" in hook or _ONLY_SLEEP.fullmatch(" ".join(command)) is not None


def annotations(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a pod's annotations, empty where it has none."""
    return (pod.get("metadata") or {}).get("annotations") or {}


def outlasts(pod: Mapping[str, Any], mesh: str) -> bool:
    """Tell whether a mesh's plain proxy was told to stay until the drain is over."""
    setting, needed = _OUTLASTS[mesh]
    said = annotations(pod).get(setting)
    return said is not None and any(word in said for word in needed)


def to_outlast(mesh: str) -> str:
    """Say what makes it stay."""
    setting, needed = _OUTLASTS[mesh]
    return f"make it a native sidecar, or set {' or '.join(filter(None, needed)) or 'seconds'} in {setting}"


def gone_in_mid_drain(pod: Mapping[str, Any], mesh: str) -> str:
    """Say that a mesh's proxy would be, and what makes it stay; empty where it stays."""
    proxy = next((each for each in pod["spec"]["containers"] if each.get("name") in MESH_PROXIES), None)
    if proxy is None or pre_stop(proxy) or outlasts(pod, mesh):
        return ""
    return f"the {mesh} proxy would be gone in mid drain: {to_outlast(mesh)}"


def excluded_ports(pod: Mapping[str, Any], mesh: str) -> list[str]:
    """Return the ports that a mesh leaves alone."""
    said = annotations(pod).get(EXCLUDED_PORTS[mesh], "")
    return [port.strip() for port in said.split(",") if port.strip()]
