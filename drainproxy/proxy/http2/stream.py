"""One HTTP/2 stream as a Work: from its HEADERS until both sides have ended it, or one has reset it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.frames import Code

if TYPE_CHECKING:
    from drainproxy.proxy.http2.connection import Http2Connection
    from drainproxy.proxy.http2.streams import Streams

MAX_PATH_BYTES = 200


class Stream:
    """See lifecycle/inflight.py. Written by its connection."""

    __slots__ = (
        "_connection", "_table", "_timeouts", "answered", "client_ended", "deadline", "grpc", "id", "method",
        "path", "started", "upstream_ended",
    )  # fmt: skip
    kind = "http2"

    def __init__(self, connection: Http2Connection, table: Streams, number: int, now: float) -> None:
        self._connection = connection
        self._table = table
        self.id = number
        self.started = now
        self.client_ended = False
        self.upstream_ended = False
        self.answered = False
        """A frame of the response has gone to the client."""
        self.method = self.path = b""
        """What was asked, where requests are read (`h2_inspect`)."""
        self.grpc = False
        self._timeouts = connection.plane.routes.default
        self.deadline = self._ends_by()

    def asks(self, fields: dict[bytes, bytes]) -> None:
        """Take what the request says of itself."""
        method, path = fields.get(b":method", b""), fields.get(b":path", b"")
        self.grpc = fields.get(b"content-type", b"").startswith(b"application/grpc")
        self._timeouts = self._connection.plane.routes.find(method, path)
        # What is shown, and no more: a thousand long paths would be a lot. A query may hold secrets.
        self.method, self.path = method[:32], path.partition(b"?")[0][:MAX_PATH_BYTES]
        self.drain_by(self.deadline)

    def _ends_by(self) -> float:
        published = self._connection.plane.lifecycle.published
        return min(self.started + self._timeouts.total, self._timeouts.ends_by(published))

    def drain_by(self, deadline: float) -> None:
        """End by the drain's deadline too, or no longer (Work); a route may have one of its own."""
        self.deadline = self._ends_by()
        self._connection.wake_by(self.deadline)

    def leave(self) -> None:
        """A call just finishes; its connection has been told to open no further one (Work)."""

    def cut(self, reason: str) -> None:
        """End at a deadline (Work). Without an answer it can be tried again safely (section 8.7)."""
        if self.id not in self._table.streams:
            return
        if not self.answered:
            self._table.cut(self, frames.rst_stream(self.id, Code.REFUSED_STREAM), "timed_out")
        elif self.grpc and not self.upstream_ended:
            self._table.cut(self, frames.grpc_unavailable(self.id), "cut")
        else:
            self._table.cut(self, frames.rst_stream(self.id, Code.CANCEL), "cut")

    def describe(self) -> dict[str, str]:
        """Say what is known of it (Work)."""
        path = self.path.decode("ascii", "replace")
        return {"method": self.method.decode("ascii", "replace"), "path": path or f"(stream {self.id})"}
