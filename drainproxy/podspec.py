"""What a pod's spec says of us: which container is ours, whom it keeps alive, and with which hooks.

Pure. Two rooms read pods and must agree: kube/lint.py judges what runs, injector/ makes what will run.
"""

import re
from collections.abc import Mapping
from typing import Any

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


def applications(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the containers that we keep alive: neither ours nor a mesh's."""
    return [
        container
        for container in spec.get("containers") or ()
        if not is_ours(container) and container.get("name") not in MESH_PROXIES
    ]


def pre_stop(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a container's preStop hook, empty where it has none."""
    return (container.get("lifecycle") or {}).get("preStop") or {}


def sleeps(hook: Mapping[str, Any]) -> bool:
    """Tell whether a preStop hook does nothing but sleep."""
    command = [str(word) for word in (hook.get("exec") or {}).get("command") or ()]
    if command[:1] and command[0].rpartition("/")[2] in {"sh", "bash"} and command[1:2] == ["-c"]:
        return _ONLY_SLEEP.fullmatch(" ".join(command[2:])) is not None
    return "sleep" in hook or _ONLY_SLEEP.fullmatch(" ".join(command)) is not None
