"""Who has come: the sound before a drain, late arrivals during one. Who was let in is no matter here.

Said by whoever reads what a client asks, once for each request that says something: of a connection that was
made before a drain, only the first one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.lifecycle.machine import NewRequest

if TYPE_CHECKING:
    from drainproxy.lifecycle.port import Lifecycle
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.message.parser import RequestHead


class Arrivals:
    """Of every listener of the process."""

    def __init__(self, lifecycle: Lifecycle, metrics: Metrics, health_paths: tuple[str, ...] = ()) -> None:
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._health_paths = frozenset(path.encode() for path in health_paths)

    def asks_health(self, head: RequestHead) -> bool:
        """Tell whether it is one of `health_paths` that is asked for."""
        return bool(self._health_paths) and head.target.split(b"?", 1)[0] in self._health_paths

    def is_health_check(self, head: RequestHead) -> bool:
        """Tell whether a kubelet or a balancer asks how this pod is."""
        agent = head.noted.get(b"user-agent", b"")
        return self.asks_health(head) or self._lifecycle.arrival_rate.is_health_check(agent)

    def came(self, accepted_at: float, now: float, *, first: bool, head: RequestHead | None = None) -> None:
        """Take in a request of whatever protocol, at loop time `now`.

        `accepted_at` is when its connection was accepted, `first` whether it is the first one on it.
        """
        published = self._lifecycle.published
        if not (first or published.draining):
            return
        health_check = head is not None and self.is_health_check(head)
        if not published.draining:
            if not health_check:
                self._lifecycle.arrival_rate.arrived(now)
            return
        late = accepted_at >= published.drain_started
        if late and first:
            self._metrics.late_connections.inc("probe" if health_check else "request")
        if not health_check:
            self._lifecycle.request_came(now)
            self._metrics.late_requests.inc()
            if late:
                self._lifecycle.late_arrival(now)
            if published.policy.new_request is NewRequest.FORWARD_AFTER_DRAINED:
                self._metrics.after_drained.inc()

    def left(self, accepted_at: float) -> None:
        """A client has left that never asked anything."""
        if accepted_at >= self._lifecycle.published.drain_started:
            self._metrics.late_connections.inc("empty")
