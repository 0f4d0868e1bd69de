"""May this request in? One step, no await: a claim or a refusal, and the books of a drain.

Decided before a byte of the request reaches the application, from the published policy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from drainproxy.errors import LIMITS, Blame, DrainEnding, Draining
from drainproxy.lifecycle.machine import NewRequest, Streams

if TYPE_CHECKING:
    import asyncio

    from drainproxy.errors import RequestError
    from drainproxy.lifecycle.port import Lifecycle
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.message.parser import RequestHead


class Caller(Protocol):
    """A client's connection."""

    accepted_at: float
    loop: asyncio.AbstractEventLoop


class Admission:
    """The gate between a parsed head and the application."""

    def __init__(self, lifecycle: Lifecycle, metrics: Metrics, health_paths: tuple[str, ...] = ()) -> None:
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._health_paths = frozenset(path.encode() for path in health_paths)

    def admit(
        self, head: RequestHead, *, accepted_at: float, first: bool, now: float, tunnel: str = ""
    ) -> None:
        """Account for a request that says something; raise a Refusal if it must not be forwarded.

        Of a connection that was made before a drain, only the first request says something: that it came.

        `accepted_at` is when its connection was accepted, `first` whether it is the first one on it, `tunnel`
        what kind of tunnel it would become, empty for none.
        """
        health_path = self._asks_health(head)
        health_check = health_path or self._checks(head)
        self.came(health_check=health_check, accepted_at=accepted_at, first=first, now=now)
        if health_path and not self._lifecycle.ready:
            raise Draining
        if tunnel and self._lifecycle.published.policy.streams is not Streams.RUN:
            self._metrics.drain_tunnels.inc(tunnel, "refused")
            raise Draining
        if self.ending(now):
            self._metrics.drain_requests.inc("refused")
            raise DrainEnding

    def turned_away(
        self,
        client: Caller,
        error: RequestError,
        head: RequestHead | None = None,
        *,
        first: bool = True,
        tunnel: str = "",
    ) -> None:
        """Account for a caller that was not let in, with its head if that was read; once `admit` has said no,
        it is accounted for. It came all the same: callers are still sent here."""
        draining = self._lifecycle.published.draining
        if (head is not None and isinstance(error, DrainEnding | Draining)) or not (first or draining):
            return
        health_check = head is not None and (self._asks_health(head) or self._checks(head))
        at, now = client.accepted_at, client.loop.time()
        self.came(health_check=health_check, accepted_at=at, first=first, now=now)
        if isinstance(error, LIMITS) or error.blame is Blame.POLICY:
            self._ended("refused", tunnel)
        elif error.blame is Blame.UPSTREAM:
            self._ended("lost", tunnel)

    def _ended(self, outcome: str, tunnel: str) -> None:
        if not self._lifecycle.published.draining:
            return
        if tunnel:
            self._metrics.drain_tunnels.inc(tunnel, outcome)
        else:
            self._metrics.drain_requests.inc(outcome)

    def _asks_health(self, head: RequestHead) -> bool:
        return bool(self._health_paths) and head.target.split(b"?", 1)[0] in self._health_paths

    def _checks(self, head: RequestHead) -> bool:
        return self._lifecycle.sound.is_health_check(head.noted.get(b"user-agent", b""))

    def is_health_check(self, head: RequestHead) -> bool:
        """Tell whether a kubelet or a balancer asks how this pod is."""
        return self._asks_health(head) or self._checks(head)

    def ending(self, now: float) -> bool:
        """Tell whether too little of the drain is left to answer what comes at loop time `now`."""
        published = self._lifecycle.published
        return (
            published.policy.new_request is NewRequest.FORWARD_UNTIL_REFUSE and now >= published.refuse_from
        )

    def came(self, *, health_check: bool, accepted_at: float, first: bool, now: float) -> None:
        """Account for a request of whatever protocol: to the sound before a drain, or to its arrivals."""
        published = self._lifecycle.published
        if not published.draining:
            if not health_check:
                self._lifecycle.sound.arrived(now)
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
