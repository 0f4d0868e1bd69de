"""One listening side of the admin room: a fixed table of routes, answered over h11.

Reads no bodies: nobody sends one that matters here, and a connection on which one is still to come ends with
its answer. Decides nothing about answers; server.py fills the tables, door.py says who has a place.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from drainproxy.admin import door
from drainproxy.admin.door import Door, address_of

MAX_TARGET_BYTES = 2048
MAX_FIELD_BYTES = 4096
MAX_FIELDS = 64
MAX_HEAD_BYTES = 16 * 1024
"""A probe's head is a few hundred bytes."""
MAX_AHEAD_BYTES = 64 * 1024
"""Said while an answer is under way. Nobody who asks for health has so much to say."""

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks."""

    method: str
    path: str
    query: Mapping[str, str]
    fields: Mapping[str, str]
    """By lower-case name; of one that is repeated the first."""
    connection: "_Connection"

    @property
    def peer(self) -> str:
        """The IP address of who asks; empty on a Unix socket."""
        return self.connection.address

    @property
    def local(self) -> str:
        """The IP address that was asked."""
        return address_of(self.connection.wire, "sockname")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, whole."""

    status: int
    body: bytes
    content_type: str = TEXT
    fields: Mapping[str, str] = field(default_factory=dict)
    sent: Callable[[], None] | None = None
    """Called when it is written; not where nobody was there any more to have it."""


Handler = Callable[[Request], Awaitable[Response]]
Routes = Mapping[str, Mapping[str, Handler]]
"""Path -> method -> handler."""


class HttpServer(Door):
    """What answers on one socket."""

    def __init__(self, routes: Routes, node: frozenset[str] = frozenset()) -> None:
        """`node`: the addresses that the kubelet comes from."""
        super().__init__(node)
        self._routes = routes
        self._server: asyncio.Server | None = None
        self._speaking: set[_Connection] = set()

    async def open(self, sock: socket.socket) -> None:
        """Serve on `sock`, which is bound."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self, sock=sock, backlog=door.ACCEPTED_AT_ONCE)
        sock.listen(door.BACKLOG)

    async def close(self) -> None:
        """Close the socket, then every connection once its answer under way is written."""
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(door.STOP_S):
                for connection in list(self._speaking):
                    connection.stop()
                for connection in list(self._speaking):
                    await connection.gone.wait()
        self.send_home()

    @property
    def connections(self) -> list["_Connection"]:
        """Those that have begun to speak."""
        return list(self._speaking)

    def speaking(self) -> "_Connection":
        """See Door."""
        connection = _Connection(self)
        self._speaking.add(connection)
        return connection

    def ended(self, connection: "_Connection") -> None:
        """Forget a connection that has spoken."""
        self._speaking.discard(connection)
        self.leave(connection)

    async def answer(self, request: Request) -> Response:
        """Return the answer to a request."""
        methods = self._routes.get(request.path)
        if methods is None:
            return line(404, "no such path")
        if (handler := methods.get(request.method)) is None:
            return line(405, "no such method for this path", Allow=", ".join(methods))
        return await handler(request)


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._said = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._patience: asyncio.TimerHandle | None = None
        self._answering: asyncio.Task[None] | None = None
        self._ahead_bytes = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._last = False
        """The connection ends with the answer under way."""
        self.gone = asyncio.Event()
        self.waiting = False
        self.address = ""
        self.wire: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.wire = cast("asyncio.Transport", transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._answering is not None:
            self._ahead_bytes += len(data)
            if self._ahead_bytes > MAX_AHEAD_BYTES:
                self._end()
                return
        self._said.receive_data(data)
        if self._answering is None:
            self._proceed()

    def eof_received(self) -> bool:
        """See asyncio.Protocol. Who has asked, and only stopped sending, gets his answer; a hook has gone."""
        self._last = True
        return self._answering is not None and not self.waiting

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. A hook that hangs up must not go on occupying a place."""
        self._patient()
        if self._answering is not None:
            self._answering.cancel()
        self._server.ended(self)
        self.gone.set()

    def stop(self) -> None:
        """End behind the answer under way."""
        self._last = True
        if self._answering is None:
            self._end()

    def wait_as_hook(self) -> None:
        """Be one that waits by design. Who has stopped to send by then has hung up."""
        self.waiting = True
        if self._last and self.wire is not None:
            self.wire.abort()

    def _proceed(self) -> None:
        """Look for the next request in what has come."""
        try:
            event = self._said.next_event()
            if not isinstance(event, h11.Request):
                # More has to come, for which time runs already; or the end.
                return
            request = self._read(event)
        except (h11.RemoteProtocolError, ValueError):
            self._refuse()
            return
        self._patient()
        self._answering = self._loop.create_task(self._answer(request), name="admin answer")

    def _read(self, event: h11.Request) -> Request:
        """Return a request. Raises ValueError for what only a mistake or an attack would ask."""
        if len(event.target) > MAX_TARGET_BYTES or len(event.headers) > MAX_FIELDS:
            raise ValueError("too long")
        fields: dict[str, str] = {}
        for name, value in event.headers:
            if len(name) + len(value) > MAX_FIELD_BYTES:
                raise ValueError("too long")
            fields.setdefault(name.decode("ascii"), value.decode("latin-1"))
        # A target may name the server too (RFC 9112 section 3.2.2).
        target = urlsplit(event.target.decode("ascii"))
        # Of what is said twice the first holds, as with fields.
        query = dict(reversed(parse_qsl(target.query, keep_blank_values=True)))
        return Request(event.method.decode("ascii"), unquote(target.path), query, fields, self)

    async def _answer(self, request: Request) -> None:
        try:
            response = await self._server.answer(request)
        except Exception as failure:
            # A defect: whoever asked is told that there is one, and the log which.
            self._loop.call_exception_handler(
                {"message": f"no answer to {request.method} {request.path}", "exception": failure}
            )
            response = line(500, "internal error")
        self._write(response, head_only=request.method == "HEAD")
        await self._writable.wait()
        if response.sent is not None and self.wire is not None and not self.wire.is_closing():
            response.sent()
        self._answering = None
        if self._last:
            self._end()
            return
        self._said.start_next_cycle()
        self._ahead_bytes = 0
        self._wait()
        self._proceed()

    def _refuse(self) -> None:
        self._last = True
        self._patient()
        self._write(line(400, "malformed request"))
        self._end()

    def _write(self, response: Response, *, head_only: bool = False) -> None:
        if self.wire is None or self.wire.is_closing():
            self._last = True
            return
        said = self._said
        # What is left of a body is dropped, and not waited for.
        while said.their_state is h11.SEND_BODY and not self._last:
            try:
                self._last = said.next_event() is h11.NEED_DATA
            except h11.RemoteProtocolError:
                self._last = True
        fields = {
            "Content-Type": response.content_type,
            "Content-Length": str(len(response.body)),
            # RFC 9110 section 6.6.1.
            "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
            **door.FIELDS,
            **response.fields,
        }
        if self._last:
            fields["Connection"] = "close"
        reason = HTTPStatus(response.status).phrase
        head = h11.Response(status_code=response.status, headers=list(fields.items()), reason=reason)
        events = [head, *([] if head_only else [h11.Data(data=response.body)]), h11.EndOfMessage()]
        self.wire.write(b"".join(said.send(event) or b"" for event in events))
        # It is h11 that knows what HTTP/1.0 and Connection have agreed upon (RFC 9112 section 9.3).
        self._last = self._last or said.our_state is not h11.DONE or said.their_state is not h11.DONE

    def _end(self) -> None:
        if self.wire is not None:
            self.wire.close()

    def _wait(self) -> None:
        """Give the next head its time."""
        if self.wire is not None:
            self._patience = self._loop.call_later(door.KEEPALIVE_S, self.wire.abort)

    def _patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


@contextlib.contextmanager
def waiting(request: Request) -> Iterator[None]:
    """Keep the request's connection from giving way to newer ones: a hook waits on it by design."""
    request.connection.wait_as_hook()
    try:
        yield
    finally:
        request.connection.waiting = False


def line(status: int, text: str, **fields: str) -> Response:
    """Return an answer of one line."""
    return Response(status, f"{text}\n".encode(), fields=fields)
