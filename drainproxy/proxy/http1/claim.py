"""How a request comes to a connection: its turn, one that idles or a new one, and a second one where the
first has ended without an answer.

Base of exchange.py, which says what goes over it.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from drainproxy import errors
from drainproxy.proxy.accounting.outcome import ClientWork
from drainproxy.proxy.http1 import states

if TYPE_CHECKING:
    from typing import Any

    from drainproxy.proxy.http1.downstream import Downstream
    from drainproxy.proxy.http1.request import Request
    from drainproxy.proxy.limits.deadlines import Deadlines
    from drainproxy.proxy.plane import Plane
    from drainproxy.proxy.upstream.connection import UpstreamConnection


LOOKS_S: Final[tuple[float, ...]] = (0.002, 0.008, 0.04)
STALE_LOOKS_S: Final[tuple[float, ...]] = LOOKS_S[:2]
"""After a connection that ended with a request on it, where that one may be served all the same; and after
one that had idled, which most often was its time."""


class Claim(ClientWork):
    """Written by its client connection and its upstream connection."""

    __slots__ = ("_again", "_begun_in_turn", "_client", "_connecting", "_plane", "_upstream", "_writing",
                 "deadlines", "request", "sibling")  # fmt: skip
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
    sibling: str
    """The pod's address to which it was handed on; empty: it is served here."""

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
        request, plane, private = self.request, self._plane, self._client.private
        if private is not None and (upstream := private.take()) is not None:
            self._begin(upstream)
        elif (
            request.upgrade
            or request.elsewhere is not None
            or (plane.handoff is not None and plane.handoff.first)
            or (upstream := plane.pool.take(repeatable=request.repeatable)) is None
        ):
            self._connecting = plane.tasks.spawn(self._connect(), "connect")
        else:
            self._begin(upstream)

    async def _connect(self) -> None:
        self._plane.connection_limit.spare_descriptor()
        try:
            upstream = await self._reach()
        except errors.RequestError as error:
            self._connecting = None
            self.fail(error)
            return
        self._connecting = None
        try:
            self._begin(upstream)
        except Exception as defect:
            self._client.defective(defect)

    async def _reach(self) -> UpstreamConnection:
        """Connect to the application, or to a sibling where it cannot serve."""
        request, hold_s = self.request, self.request.timeouts.hold
        handoff = None if request.handed else self._plane.handoff
        if handoff is None:
            return await self._own(hold_s)
        refused = request.elsewhere
        if refused is None and not handoff.first:
            try:
                return await self._own(0.0)
            except (errors.UpstreamRefused, errors.BreakerOpen) as error:
                refused = error
        taken = await handoff.connect(self.head, request.target.target, self.deadlines.end)
        if taken is None:
            if refused is not None and (refused is request.elsewhere or not hold_s):
                raise refused
            return await self._own(hold_s)
        upstream, self.sibling = taken
        return upstream

    async def _own(self, hold_s: float) -> UpstreamConnection:
        return await self._plane.connector.connect(
            self.request.timeouts.connect, latest=self.deadlines.end, hold_s=hold_s, waits=self
        )

    def refused(self, error: errors.LimitReached) -> None:
        """There is no turn for it here (Waiting): a sibling may have one."""
        handoff = self._plane.handoff
        if handoff is None or not handoff.limits or self.request.handed or not handoff.possible:
            self.fail(error)
            return
        self.request.elsewhere = error
        self.deadlines.count_from(self._plane.loop.time())
        self._connecting = self._plane.tasks.spawn(self._connect(), "connect")

    def held(self, *, on: bool) -> None:
        """It waits for an application that restarts, or goes on (Held)."""
        self._client.answer_last()
        self.deadlines.count_from(math.inf if on else self._plane.loop.time())

    def _lost(self, *, stale: bool) -> None:
        """Go on without its connection, which has ended before the answer had: a second time, if it may."""
        if self.sibling:
            self.fail(errors.UpstreamGone("a sibling closed its connection"))
            return
        presence, gone = self._plane.pool.presence, self._client.gone
        if not stale or gone:
            presence.failed()
        if gone or not (stale or self._outlives()):
            self.fail(errors.UpstreamGone())
            return
        # A connection that idled may close as a request meets it. What was not touched is sent again, once,
        # on a connection that never idled.
        self._again = True
        self._plane.metrics.retries.inc()
        self._upstream = None
        doubtful = not presence.fallen and (not stale or self._survives)
        again = self._doubt(stale=stale) if doubtful else self._connect()
        self._connecting = self._plane.tasks.spawn(again, "connect")

    async def _doubt(self, *, stale: bool) -> None:
        """Go on once it is seen whether the application has fallen: a process that dies closes its
        connections one after the other, and its door may be the last."""
        presence = self._plane.pool.presence
        for pause_s in STALE_LOOKS_S if stale else LOOKS_S:
            await asyncio.sleep(pause_s)
            if presence.look() is None or presence.fallen:
                await self._connect()
                return
        if stale:
            await self._connect()
        else:
            self._connecting = None
            self.fail(errors.UpstreamGone())

    @property
    def _survives(self) -> bool:
        """It may be served though the application has fallen."""
        elsewhere = self._plane.handoff is not None and not self.request.handed
        return elsewhere or self.request.timeouts.hold > 0

    def _outlives(self) -> bool:
        """Tell whether a request may be sent again: once an application that fell is back, or elsewhere."""
        if self._again or self._writing is not states.WAITING or not self._survives:
            return False
        return self.request.repeatable or self._begun_in_turn < 0

    def handed_on(self) -> None:
        """Count what came of having been handed on."""
        handoff = self._plane.handoff
        assert handoff is not None
        gone = isinstance(self.error, errors.ClientGone)
        handoff.ended("answered" if self.head_at else "left" if gone else "lost")

    def said(self) -> dict[str, Any]:
        """See Outcome."""
        line = super().said()
        return {**line, "sibling": self.sibling} if self.sibling else line
