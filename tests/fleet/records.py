"""Pods, Events and reports as an API server hands them out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 29, 18, 0, 0, tzinfo=UTC)
NATIVE: dict[str, Any] = {
    "terminationGracePeriodSeconds": 30,
    "initContainers": [{"name": "drainproxy", "restartPolicy": "Always"}],
    "containers": [
        {"name": "app", "lifecycle": {"preStop": {"httpGet": {"path": "/drain/wait", "port": 29900}}}}
    ],
}
BARE: dict[str, Any] = {"containers": [{"name": "app"}]}


def stamp(in_s: float) -> str:
    """Return a time as objects carry it."""
    return (NOW + timedelta(seconds=in_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


def report(
    *, cause: str = "deletion", ended: str | None = "slices_quiet", told: int = 0, **changes: Any
) -> dict[str, Any]:
    """Return a report; counts of requests by their names, other fields as they are."""
    outcomes = dict.fromkeys(("finished", "timed_out", "cut", "refused", "lost", "late"), 0)
    counted = {name: changes.pop(name) for name in [*changes] if name in outcomes}
    return {
        "cause": cause,
        "ended_by": "nothing is in flight",
        "phases_s": {"propagating": 5.0, "draining": 0.5},
        "propagation_ended": ended,
        "last_late_after_flip_s": 1.0,
        "in_flight_at_start": 3,
        "requests": outcomes | {"finished": 40} | counted,
        "tunnels": {"stream": outcomes | {"told_to_leave": told}},
        "unused_s": 16.0,
        "flipped_after_s": 0.5,
        "last_late_s": 1.5,
        "longest_silence_s": 0.5,
        "arrivals_per_s": 20.0,
        "longest_request_s": 0.8,
        **changes,
    }


def pod(
    *,
    name: str = "web-5d4f7c9b8-x2x9k",
    uid: str = "u-1",
    spec: dict[str, Any] = NATIVE,
    deleted_s: float | None = None,
    message: str | None = None,
    exit_code: int = 0,
    reason: str = "Completed",
    last: str | None = None,
    ended_s: float = 0.0,
    phase: str = "Running",
    status_reason: str = "",
) -> dict[str, Any]:
    """Return a pod. `deleted_s`: so long ago; `last`: the message of the sidecar's run before this one."""
    metadata: dict[str, Any] = {"name": name, "uid": uid}
    if deleted_s is not None:
        metadata |= {"deletionTimestamp": stamp(30 - deleted_s), "deletionGracePeriodSeconds": 30}
    ended = {"exitCode": exit_code, "reason": reason, "finishedAt": stamp(-ended_s), "message": message}
    over = message is not None or exit_code or phase == "Failed"
    sidecar: dict[str, Any] = {
        "name": "drainproxy",
        "state": {"terminated": ended} if over else {"running": {}},
    }
    if last is not None:
        sidecar["lastState"] = {"terminated": {**ended, "message": last}}
    status = {"phase": phase, "reason": status_reason, "initContainerStatuses": [sidecar]}
    return {"metadata": metadata, "spec": {"nodeName": "node-1", **spec}, "status": status}


def event(
    reason: str,
    note: str,
    *,
    pod: str = "web-5d4f7c9b8-x2x9k",
    about: str = "Pod",
    at_s: float = -1.0,
    controller: str = "kubelet",
    said: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return an Event; of a ReplicaSet it is about the one that made the pod."""
    regarding = {"kind": about, "name": pod, "uid": "u-1"}
    if about == "ReplicaSet":
        regarding = {"kind": about, "name": pod.rpartition("-")[0]}
    return {
        "metadata": {"name": "e", "annotations": said},
        "reason": reason,
        "note": note,
        "regarding": regarding,
        "reportingController": controller,
        "eventTime": None,
        "deprecatedLastTimestamp": stamp(at_s),
    }
