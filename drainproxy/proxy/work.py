"""Time, for one piece of work of a client connection: its own deadlines, and the drain's.

Base of whatever is a Work (lifecycle/inflight.py) in the data plane. The connection has one timer; work that
has no deadline never sets it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drainproxy.errors import RequestError, ResponseHeadTimeout, TotalTimeout

if TYPE_CHECKING:
    from drainproxy.proxy.connection import ClientConnection


class TimedWork:
    """Deadlines are loop times in seconds, `math.inf` for none."""

    __slots__ = ("_client", "_head_deadline", "_server", "_total_deadline", "deadline", "started")

    def __init__(self, client: ClientConnection, now: float) -> None:
        self._client = client
        self._server = server = client.server
        self.started = now
        settings = server.settings
        total = settings.total_timeout
        self._total_deadline = math.inf if total is None else now + total
        self.deadline = min(self._total_deadline, server.controller.published.work_deadline)
        self._head_deadline = math.inf
        if settings.response_head_timeout is not None:
            self._head_deadline = now + settings.response_head_timeout

    def fail(self, error: RequestError) -> None:
        """End with `error`, unless it has ended."""
        raise NotImplementedError

    def cut(self, reason: str) -> None:
        """End at the drain's deadline (Work)."""
        raise NotImplementedError

    def arm(self) -> None:
        """Set the connection's timer to the nearest deadline."""
        head_deadline = self._head_deadline
        self._client.timer.set(head_deadline if head_deadline < self.deadline else self.deadline)

    def expired(self) -> None:
        """Fail with what ran out."""
        now = self._client.loop.time()
        if now >= self._server.controller.published.work_deadline:
            self.cut("drain-deadline")
        elif now >= self.deadline:
            self.fail(TotalTimeout(sent=True))
        elif now >= self._head_deadline:
            self.fail(ResponseHeadTimeout(sent=True))
        else:
            self.arm()

    def drain_by(self, deadline: float) -> None:
        """End by the drain's deadline too, or no longer (Work)."""
        self.deadline = min(self._total_deadline, deadline)
        self.arm()
