"""One listening side of the admin room: a bounded number of connections, a fixed table of routes.

The port is open to the whole pod network and shares its descriptors with the data plane, so a crowd of
silent connections must cost little: the oldest gives way to the newest, which may be the kubelet's probe.
Decides nothing about answers; server.py fills the tables.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Routes = Mapping[str, Mapping[str, Handler]]
"""Path -> method -> handler."""

MAX_CONNECTIONS = 256
"""Waiting hooks included; a kubelet, a few scrapers and some people need a tenth of it."""

KEEPALIVE_S = 75.0
"""An idle connection, or one whose head does not come, is closed after this: longer than the usual
60 s between two scrapes."""

STOP_S = 0.5
"""What an answer under way gets when the process exits; aiohttp takes it twice at worst."""

_LIMITS: dict[str, Any] = {
    # No body is ever read here, and a probe's head is a few hundred bytes.
    "max_line_size": 2048,
    "max_field_size": 4096,
    "max_headers": 64,
    "read_bufsize": 4096,
    "lingering_time": 0.0,
}

_FIELDS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # aiohttp would name itself and its version.
    "Server": "drainproxy",
}


class Door(web.Server):
    """What aiohttp's runner hosts on one socket."""

    def __init__(self, routes: Routes) -> None:
        # A hook that hangs up must not go on occupying a place: handler_cancellation.
        super().__init__(self._route, handler_cancellation=True)
        self._routes = routes
        self._oldest_first: dict[web.RequestHandler, asyncio.Transport] = {}
        self._runner = web.ServerRunner(self, handle_signals=False, shutdown_timeout=STOP_S)

    async def open(self, sock: socket.socket) -> None:
        """Serve on `sock`, which is bound."""
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        """Close the sockets, then every connection once its answer under way is written."""
        await self._runner.cleanup()

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]
        """Return the protocol of one accepted connection."""
        return _Connection(
            self, loop=asyncio.get_running_loop(), access_log=None, keepalive_timeout=KEEPALIVE_S, **_LIMITS
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection in, at the cost of the oldest one if there are too many."""
        super().connection_made(handler, transport)
        self._oldest_first[handler] = transport
        if len(self._oldest_first) > MAX_CONNECTIONS:
            oldest = next(each for each in self._oldest_first if not getattr(each, "waiting", False))
            self._oldest_first.pop(oldest).abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        self._oldest_first.pop(handler, None)
        super().connection_lost(handler, exc)

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        methods = self._routes.get(request.path)
        if methods is None:
            response: web.StreamResponse = line(404, "no such path")
        elif (handler := methods.get(request.method)) is None:
            response = line(405, "no such method for this path")
            response.headers["Allow"] = ", ".join(methods)
        else:
            response = await handler(request)
        return dress(response)


class _Connection(web.RequestHandler):
    """aiohttp's protocol with its own errors in our clothes."""

    __slots__ = ("waiting",)

    def __init__(self, door: Door, **options: Any) -> None:
        super().__init__(door, **options)
        self.waiting = False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, or a defect; only the latter is worth a line in the log."""
        if status != 400:
            return dress(super().handle_error(request, status, exc, message))
        response = dress(line(400, "malformed request"))
        response.force_close()
        return response


@contextlib.contextmanager
def waiting(request: web.BaseRequest) -> Iterator[None]:
    """Keep the request's connection from giving way to newer ones: a hook waits on it by design."""
    connection = request.protocol
    assert isinstance(connection, _Connection)
    connection.waiting = True
    try:
        yield
    finally:
        connection.waiting = False


def line(status: int, text: str) -> web.Response:
    """Return an answer of one line."""
    return web.Response(status=status, text=f"{text}\n")


def dress(response: web.StreamResponse) -> web.StreamResponse:
    """Give an answer the fields that every one has."""
    if not response.prepared:
        response.headers.update(_FIELDS)
    return response
