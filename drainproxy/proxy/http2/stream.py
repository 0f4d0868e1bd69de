"""One HTTP/2 stream as a Work: from its HEADERS until both sides have ended it, or one has reset it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

from drainproxy.errors import DrainDeadline
from drainproxy.proxy.accounting.outcome import outcome_of
from drainproxy.proxy.accounting.shown import shown, shown_path
from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.faults import Code
from drainproxy.proxy.limits.deadlines import Deadlines
from drainproxy.proxy.message import replies

if TYPE_CHECKING:
    import asyncio

    from drainproxy.errors import RequestError
    from drainproxy.lifecycle.lazytimer import LazyTimer
    from drainproxy.metrics import StreamEnded
    from drainproxy.proxy.http2.frame_reader import FrameReader
    from drainproxy.proxy.limits.routing import RouteTimeouts
    from drainproxy.proxy.plane import Plane

MAX_PATH_BYTES: Final = 200


class StreamOwner(Protocol):
    """The connection that it is on (connection.py)."""

    loop: asyncio.AbstractEventLoop
    plane: Plane
    peer: bytes
    timer: LazyTimer

    @property
    def from_upstream(self) -> FrameReader:
        """What the application says."""


class OpenStreams(Protocol):
    """Those of its connection (streams.py)."""

    open: dict[int, Stream]

    def cut(self, stream: Stream, last: bytes, outcome: StreamEnded) -> None:
        """End a stream on both sides; `last` is the client's last frame of it."""


class Stream:
    """See lifecycle/inflight.py. Written by its connection."""

    __slots__ = (
        "_connection", "_streams", "answered", "body_read", "error", "grpc", "id", "limits", "method",
        "outcome", "path", "started", "upstream_ended",
    )  # fmt: skip
    kind = "http2"
    event = "request"
    tunnel = ""
    status = 0
    head = None
    head_at = 0.0
    bytes_received = 0
    bytes_sent = 0

    def __init__(self, connection: StreamOwner, streams: OpenStreams, number: int, now: float) -> None:
        self._connection = connection
        self._streams = streams
        self.id = number
        self.started = now
        self.body_read = False
        self.upstream_ended = False
        self.answered = False
        """A frame of the response has gone to the client."""
        self.method = self.path = b""
        """What was asked, where requests are read (`h2_inspect`)."""
        self.grpc = False
        self.error: RequestError | None = None
        self.outcome: StreamEnded = "finished"
        self.limits: Deadlines | None = None
        """None: nothing is due, since nobody reads requests, no time holds for all, and no drain has begun.
        Most streams end like this."""

    def asks(self, fields: dict[bytes, bytes]) -> None:
        """Take what the request says of itself."""
        method, path = fields.get(b":method", b""), fields.get(b":path", b"")
        self.grpc = fields.get(b"content-type", b"").startswith(b"application/grpc")
        self.limit(self._connection.plane.routes.find(method, path))
        # What is shown, and no more: a thousand long paths would be a lot. A query may hold secrets.
        self.method, self.path = method[:32], path.partition(b"?")[0][:MAX_PATH_BYTES]

    def limit(self, timeouts: RouteTimeouts) -> None:
        """Hold it to these times, and to the drain's."""
        connection = self._connection
        published = connection.plane.lifecycle.published
        self.limits = limits = Deadlines(timeouts, self.started, published, connection.timer, shared=True)
        limits.arm()

    def responding(self) -> None:
        """The head of an answer passes."""
        self.answered = True
        if self.limits is not None:
            self.limits.response_head = math.inf

    def moved(self) -> None:
        """Data passes, either way."""
        if self.limits is not None and self.limits.idle < math.inf:
            self.limits.moved(self._connection.loop.time())

    @property
    def deadline(self) -> float:
        """See Work."""
        return math.inf if self.limits is None else self.limits.end

    def drain_by(self, deadline: float) -> None:
        """End by the drain's deadline too, or no longer (Work); a route may have one of its own."""
        if self.limits is None:
            self.limit(self._connection.plane.routes.unread)
        else:
            self.limits.follow(self._connection.plane.lifecycle.published)

    def leave(self) -> None:
        """A call just finishes; its connection has been told to open no further one (Work)."""

    def cut(self, reason: str) -> None:
        """See Work."""
        self.fail(DrainDeadline())

    def fail(self, error: RequestError) -> None:
        """End at a deadline (Timed), so that the client can tell whether it may try again.

        What the application cannot have taken is refused (RFC 9113 section 8.7); what it may be working on
        gets the answer that it would get over HTTP/1.1.
        """
        if self.id not in self._streams.open:
            return
        taken = self._connection.from_upstream.begun
        self.error, error.sent = error, taken
        if not self.answered:
            last = self._answer(error) if taken else frames.rst_stream(self.id, Code.REFUSED_STREAM)
        elif self.grpc and not self.upstream_ended:
            last = frames.last_fields(self.id, frames.GRPC_UNAVAILABLE)
        else:
            last = frames.rst_stream(self.id, Code.CANCEL)
        # What its client has not sent ends by the client's own doing, as a reset does.
        self._streams.cut(self, last, outcome_of(error, begun=self.answered) or "reset")

    def _answer(self, error: RequestError) -> bytes:
        answer = frames.last_fields(self.id, replies.fields(error))
        # Nobody reads the rest of the request (section 8.1).
        return answer if self.body_read else answer + frames.rst_stream(self.id, Code.NO_ERROR)

    def refuse(self, error: RequestError) -> None:
        """End it before anybody has acted on it: it may be tried again elsewhere."""
        if self.id in self._streams.open:
            self.error = error
            self._streams.cut(self, frames.rst_stream(self.id, Code.REFUSED_STREAM), "refused")

    def describe(self) -> dict[str, str]:
        """Say what is known of it (Work)."""
        path = self.path.decode("ascii", "replace")
        return {"method": self.method.decode("ascii", "replace"), "path": path or f"(stream {self.id})"}

    @property
    def peer(self) -> bytes:
        """See Outcome."""
        return self._connection.peer

    def said(self) -> dict[str, Any]:
        """See Outcome."""
        line: dict[str, Any] = {"protocol": "HTTP/2", "stream": self.id}
        return line | {"method": shown(self.method), "path": shown_path(self.path), "outcome": self.outcome}
