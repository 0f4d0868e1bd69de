"""Kubernetes Events about this pod's drain: a short queue that never holds anything up.

What does not fit or cannot be sent is dropped and counted. `kubectl describe pod` shows them, and they
outlive the pod by an hour. Called by cluster.py.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.kube.client import Api
from drainproxy.kube.identity import PodIdentity
from drainproxy.kube.rate_limit import RateLimit
from drainproxy.metrics import Metrics

MAX_QUEUED = 8
MAX_NOTE_BYTES = 1024
"""Of an Event's note (events.k8s.io/v1)."""

REPORT_ANNOTATION = "drainproxy.io/report"
"""The whole report, as the termination message has it: that is gone with its pod."""

TRIES = 2


@dataclass(eq=False)
class Events:
    """The queue. `put` from anywhere on the loop; `send` by one task at a time."""

    me: PodIdentity
    pace: RateLimit
    metrics: Metrics
    complain: Callable[[str, KubernetesError], None]
    _queue: deque[dict[str, Any]] = field(default_factory=deque, init=False)

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, reason: str, note: str, *, warning: bool = False, report: str = "") -> None:
        """Queue one Event; the newest is dropped where the queue is full. `report`: for machines."""
        if len(self._queue) >= MAX_QUEUED:
            self.metrics.kubernetes_events_dropped.inc()
            return
        made = event(self.me, reason, note, "Warning" if warning else "Normal")
        if report:
            made["metadata"]["annotations"] = {REPORT_ANNOTATION: report}
        self._queue.append(made)

    async def send(self, api: Api) -> None:
        """Send what is queued, oldest first. Raises no KubernetesError."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.me.namespace}/events"
        while self._queue:
            body = self._queue.popleft()
            for attempt in range(TRIES):
                await self.pace.turn()
                try:
                    await api.create(path, body, lambda _: None)
                    break
                except KubernetesError as error:
                    self.pace.failed(error.retry_after_s)
                    if error.reason == "denied" or attempt + 1 == TRIES:
                        self.complain("events", error)
                        self.metrics.kubernetes_events_dropped.inc()
                        break

    def drop(self) -> None:
        """Nobody will send what is left."""
        self.metrics.kubernetes_events_dropped.inc(by=len(self._queue))
        self._queue.clear()


def event(me: PodIdentity, reason: str, note: str, kind: str) -> dict[str, Any]:
    """Return an events.k8s.io/v1 Event about this pod."""
    regarding = {"apiVersion": "v1", "kind": "Pod", "name": me.name, "namespace": me.namespace, "uid": me.uid}
    reporter = ("drainproxy.io/sidecar", me.name)
    return event_about(regarding, reason=reason, note=note, kind=kind, action="Drain", reporter=reporter)


def event_about(
    regarding: Mapping[str, Any], *, reason: str, note: str, kind: str, action: str, reporter: tuple[str, str]
) -> dict[str, Any]:
    """Return an Event about an object. `reporter`: the controller and its instance."""
    name, namespace = str(regarding["name"]), regarding["namespace"]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{name[:200]}.{os.urandom(8).hex()}", "namespace": namespace},
        "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": reporter[0],
        "reportingInstance": reporter[1],
        "action": action,
        "reason": reason,
        "type": kind,
        "note": note.encode()[:MAX_NOTE_BYTES].decode(errors="ignore"),
        "regarding": dict(regarding),
    }
