"""What becomes of a client's bytes, computed without a socket: the same steps as connection.py takes.

A course ends with the first error, close or change of protocol; what was forwarded until then stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.errors import RequestError
from drainproxy.proxy.http1.request import receive
from drainproxy.proxy.limits.routes import default_timeouts
from drainproxy.proxy.limits.routing import Routes
from drainproxy.proxy.message import framing, headers
from drainproxy.proxy.message.framing import Framing
from drainproxy.proxy.message.http2_preface import Http2Preface
from drainproxy.proxy.message.parser import RequestReader
from drainproxy.proxy.settings import ProxySettings
from tests.fuzz.pieces import pieces

if TYPE_CHECKING:
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import RequestHead

SETTINGS = ProxySettings(max_request_line_bytes=400, max_fields=20, max_head_bytes=1500)
ROUTES = Routes((), default_timeouts(SETTINGS))


class Course:
    """Written by `feed` alone."""

    def __init__(self) -> None:
        self.forwarded: list[bytes] = []
        """Requests that were completed, as the application gets them."""
        self.partial = b""
        """The head of one that was begun."""
        self._payload = b""
        self.answered = 0
        """Requests that went no further than here, by their Max-Forwards."""
        self.end = ""
        self._reader = RequestReader(SETTINGS)
        self._body: Body | None = None
        self._head: RequestHead | None = None

    @property
    def inside(self) -> bool:
        """A head or a body has begun."""
        return self._reader.begun or self._body is not None

    @property
    def refused(self) -> bool:
        """It ended with an error."""
        return self.end[:1] in {"4", "5"}

    def feed(self, data: bytes) -> None:
        """Take what a client sends next."""
        try:
            while data and not self.end:
                data = self._feed_body(data) if self._body is not None else self._feed_head(data)
        except RequestError as error:
            self.end = f"{error.status} {error.reason}"
        except Http2Preface:
            self.end = "http2"
        except ValueError:  # as exchange.py takes it: a fault in a body
            self.end = "400 malformed-body"

    def _feed_head(self, data: bytes) -> bytes:
        read = self._reader.feed(data)
        if read is None:
            return b""
        head, rest = read
        request = receive(head, ROUTES, SETTINGS)
        if request.for_us:
            self.answered += 1
            self.end = "" if headers.ends_with_head(head) else "close"
        else:
            self._head, self._body = head, request.body
            out, _ = headers.request_head(
                head, request.target, request.body, b"192.0.2.1", b"http", b"app:80", request.upgrade
            )
            self.partial = out
            if request.body is None:
                self._complete()
            if request.upgrade:
                self.end = "upgrade"  # what comes now is for the application's answer to decide
        return rest

    def _feed_body(self, data: bytes) -> bytes:
        body = self._body
        assert body is not None
        assert self._head is not None
        payload, rest = body.feed(data)
        self._payload += payload
        if rest is None:
            return b""
        if body.framing is Framing.CHUNKED:
            # One chunk, so that courses can be compared: where chunks are cut means nothing.
            self.partial += framing.chunk(self._payload) if self._payload else b""
            self.partial += headers.last_chunk(body.trailers, self._head.named)
        else:
            self.partial += self._payload
        self._complete()
        return rest

    def _complete(self) -> None:
        assert self._head is not None
        self.forwarded.append(self.partial)
        self.partial = self._payload = b""
        self._body = None
        if b"close" in self._head.named or not self._head.http_1_1:
            self.end = "close"


def taken(data: bytes, cuts: list[int]) -> Course:
    """Feed the bytes, cut where `cuts` say."""
    course = Course()
    for piece in pieces(data, cuts):
        course.feed(piece)
    return course
