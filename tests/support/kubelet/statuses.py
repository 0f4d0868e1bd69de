"""What a pod's status says of its containers, as the kubelet writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.cluster.store import timestamp

if TYPE_CHECKING:
    from tests.support.kubelet.container import Container
    from tests.support.kubelet.kubelet import Pod

MAX_MESSAGE_CHARS = 4096
"""What is kept of a termination message."""


def of(pod: Pod, container: Container) -> dict[str, Any]:
    """Return one entry of containerStatuses, or of initContainerStatuses."""
    state = {"running": {}} if container.running else {"terminated": terminated(pod, container)}
    last = {} if container.last is None else {"terminated": container.last}
    return {
        "name": container.name,
        "ready": container.ready,
        "restartCount": max(0, container.runs - 1),
        "state": state,
        "lastState": last,
    }


def terminated(pod: Pod, container: Container) -> dict[str, Any]:
    """Return how a container's run has ended; a signal's number counts from 128."""
    code = container.exit_code or 0
    code = 128 - code if code < 0 else code
    ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": timestamp()}
    if container.manifest["image"].rpartition("/")[2].partition(":")[0] == "drainproxy":
        # Each container has a file of its own; in these pods only one writes there.
        ended["message"] = pod.termination_log.read_text()[:MAX_MESSAGE_CHARS]
    return ended
