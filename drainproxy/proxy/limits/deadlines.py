"""Time, for one piece of work of a client connection: its own deadlines, and the drain's.

Base of whatever is a Work (lifecycle/inflight.py) in the data plane. The connection has one timer; work that
has no deadline never sets it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drainproxy.errors import ClientIdle, IdleTimeout, RequestError, ResponseHeadTimeout, TotalTimeout

if TYPE_CHECKING:
    import asyncio

    from drainproxy.proxy.downstream.client import ClientSocket
    from drainproxy.proxy.limits.routes import Timeouts


class TimedWork:
    """Deadlines are loop times in seconds, `math.inf` for none."""

    __slots__ = (
        "_client", "_connecting", "_head_deadline", "_idle_deadline", "_plane", "_timeouts",
        "_total_deadline", "deadline", "started",
    )  # fmt: skip

    def __init__(self, client: ClientSocket, timeouts: Timeouts, now: float) -> None:
        self._client = client
        self._plane = client.plane
        self._connecting: asyncio.Task[None] | None = None
        self._timeouts = timeouts
        self.started = now
        self._total_deadline = now + timeouts.total
        self._head_deadline = now + timeouts.response_head
        self._idle_deadline = now + timeouts.idle
        self.deadline = min(self._total_deadline, self._drain_deadline())

    async def _connect(self) -> None:
        """Reach the application."""
        raise NotImplementedError

    def _dial(self) -> None:
        """Begin to reach the application."""
        self._connecting = self._plane.tasks.spawn(self._connect(), "connect")

    def _dial_no_more(self) -> None:
        """The client has left, or the deadline has come: nobody waits for the application."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None

    def fail(self, error: RequestError) -> None:
        """End with `error`, unless it has ended."""
        raise NotImplementedError

    def cut(self, reason: str) -> None:
        """End at the drain's deadline (Work)."""
        raise NotImplementedError

    def _drain_deadline(self) -> float:
        """Return by when the drain wants it to end."""
        return self._timeouts.ends_by(self._plane.lifecycle.published)

    def arm(self) -> None:
        """Set the connection's timer to the nearest deadline, if there is any."""
        nearest = min(self._head_deadline, self._idle_deadline, self.deadline)
        if nearest < math.inf:
            self._client.timer.set(nearest)

    def count_from(self, now: float) -> None:
        """Give the application its time from `now` on; `math.inf`: it has not been asked yet."""
        self._head_deadline = now + self._timeouts.response_head
        self._idle_deadline = now + self._timeouts.idle
        self.arm()

    def moved(self) -> None:
        """Note that a byte has moved, where somebody counts the time since (`idle`)."""
        if self._idle_deadline < math.inf:
            self._idle_deadline = self._client.loop.time() + self._timeouts.idle

    def expired(self) -> None:
        """Fail with what ran out."""
        now = self._client.loop.time()
        if now >= self._drain_deadline():
            self.cut("drain-deadline")
        elif now >= self.deadline:
            self.fail(TotalTimeout())
        elif now >= self._head_deadline:
            self.fail(ResponseHeadTimeout())
        elif now >= self._idle_deadline:
            self.fail(ClientIdle() if self._client.awaited else IdleTimeout())
        else:
            self.arm()

    def drain_by(self, deadline: float) -> None:
        """End by the drain's deadline too, or no longer (Work); a route may have one of its own."""
        self.deadline = min(self._total_deadline, self._drain_deadline())
        self.arm()
