"""A request whose head has begun and not ended: work too, since its sender means to be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.errors import DrainDeadline

if TYPE_CHECKING:
    from drainproxy.proxy.connection import ClientConnection


class PartialHead:
    """A request whose head has begun: a Work, so that a drain waits for it (lifecycle/inflight.py)."""

    __slots__ = ("_client", "_own_deadline", "deadline", "started")
    kind = "http"

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self.started = client.loop.time()
        self._own_deadline = client.timer.when
        self.deadline = self._own_deadline
        self.drain_by(client.server.controller.published.work_deadline)

    def drain_by(self, deadline: float) -> None:
        """End by the drain's deadline too, or no longer (Work)."""
        self.deadline = min(self._own_deadline, deadline)
        self._client.timer.set(self.deadline)

    def leave(self) -> None:
        """A request just finishes (Work)."""

    def cut(self, reason: str) -> None:
        """End at the drain's deadline (Work)."""
        self._client.fail_head(DrainDeadline())

    def describe(self) -> dict[str, str]:
        """Say what is known of it (Work)."""
        return {"method": "", "path": "(reading the head)"}
