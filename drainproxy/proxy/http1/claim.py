"""How a request comes to a connection: its turn, one that idles or a new one, and a second one where the
first has ended without an answer.

Base of exchange.py, which says what goes over it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drainproxy import errors
from drainproxy.proxy.accounting.outcome import ClientWork
from drainproxy.proxy.http1 import states

if TYPE_CHECKING:
    import asyncio

    from drainproxy.proxy.http1.downstream import Downstream
    from drainproxy.proxy.http1.request import Request
    from drainproxy.proxy.limits.deadlines import Deadlines
    from drainproxy.proxy.plane import Plane
    from drainproxy.proxy.upstream.connection import UpstreamConnection


class Claim(ClientWork):
    """Written by its client connection and its upstream connection."""

    __slots__ = ("_again", "_begun_in_turn", "_client", "_connecting", "_plane", "_upstream", "_writing",
                 "deadlines", "request")  # fmt: skip
    _client: Downstream
    _plane: Plane
    request: Request
    deadlines: Deadlines
    _upstream: UpstreamConnection | None
    _connecting: asyncio.Task[None] | None
    _writing: states.Writing
    _begun_in_turn: int
    _again: bool
    """It was sent twice."""

    def _begin(self, upstream: UpstreamConnection) -> None:
        """Send the request's head, and as much of its body as is here."""
        raise NotImplementedError

    def fail(self, error: errors.RequestError) -> None:
        """End with `error`, unless it has ended."""
        raise NotImplementedError

    def resume(self) -> None:
        """Go, after having waited for a turn."""
        if self._writing is states.ENDED:
            return
        try:
            self.deadlines.count_from(self._plane.loop.time())
            self._go()
        except Exception as defect:
            self._client.defective(defect)

    def _go(self) -> None:
        """Claim a connection and send the request."""
        repeatable, changes, private = self.request.repeatable, self.request.upgrade, self._client.private
        if private is not None and (upstream := private.take()) is not None:
            self._begin(upstream)
        elif changes or (upstream := self._plane.pool.take(repeatable=repeatable)) is None:
            self._connecting = self._plane.tasks.spawn(self._connect(), "connect")
        else:
            self._begin(upstream)

    async def _connect(self) -> None:
        plane, timeouts = self._plane, self.request.timeouts
        plane.connection_limit.spare_descriptor()
        try:
            upstream = await plane.connector.connect(
                timeouts.connect, latest=self.deadlines.end, hold_s=timeouts.hold, waits=self
            )
        except errors.RequestError as error:
            self._connecting = None
            self.fail(error)
            return
        self._connecting = None
        try:
            self._begin(upstream)
        except Exception as defect:
            self._client.defective(defect)

    def held(self, *, on: bool) -> None:
        """It waits for an application that restarts, or goes on (Held)."""
        self._client.answer_last()
        self.deadlines.count_from(math.inf if on else self._plane.loop.time())

    def _lost(self, *, stale: bool) -> None:
        """Go on without its connection, which has ended before the answer had: a second time, if it may."""
        if not stale or self._client.gone:
            presence = self._plane.pool.presence
            presence.failed()
            if self._client.gone or not (presence.fallen and self._outlives()):
                self.fail(errors.UpstreamGone())
                return
        # A connection that idled may close as a request meets it. What was not touched is sent again, once,
        # on a connection that never idled.
        self._again = True
        self._plane.metrics.retries.inc()
        self._upstream = None
        self._connecting = self._plane.tasks.spawn(self._connect(), "connect")

    def _outlives(self) -> bool:
        """Tell whether a request may be sent again once an application that fell is back."""
        if self._again or self._writing is not states.WAITING or not self.request.timeouts.hold:
            return False
        return self.request.repeatable or self._begun_in_turn < 0
