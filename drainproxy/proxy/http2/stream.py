"""One HTTP/2 stream as a Work: from its HEADERS until both sides have ended it, or one has reset it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drainproxy.proxy.http2.connection import Http2Connection


class Stream:
    """See lifecycle/inflight.py. Written by its connection."""

    __slots__ = ("_connection", "_own_deadline", "answered", "client_ended", "deadline", "id", "started",
                 "upstream_ended")  # fmt: skip
    kind = "http2"

    def __init__(self, connection: Http2Connection, number: int, now: float, own_deadline: float) -> None:
        self._connection = connection
        self.id = number
        self.started = now
        self._own_deadline = own_deadline
        self.deadline = min(own_deadline, connection.server.controller.published.work_deadline)
        self.client_ended = False
        self.upstream_ended = False
        self.answered = False
        """A frame of the response has gone to the client."""

    def drain_by(self, deadline: float) -> None:
        """End by the drain's deadline too, or no longer (Work)."""
        self.deadline = min(self._own_deadline, deadline)
        self._connection.wake_by(self.deadline)

    def leave(self) -> None:
        """A call just finishes; its connection has been told to open no further one (Work)."""

    def cut(self, reason: str) -> None:
        """End at the drain's deadline (Work)."""
        self._connection.cut(self)

    def describe(self) -> dict[str, str]:
        """Say what is known of it (Work): its head was passed on unread."""
        return {"method": "", "path": f"(stream {self.id})"}
