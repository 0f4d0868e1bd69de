"""One listening side of the admin room: a bounded number of connections, a fixed table of routes.

The port is open to the whole pod network and shares its descriptors with the data plane, so a crowd of
silent connections must cost little: nothing is made for one before it speaks, the address with most of them
gives its oldest away, and the node, where the kubelet is, has places of its own.
Decides nothing about answers; server.py fills the tables.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, cast

from aiohttp import web

from drainproxy.admin.fair_share import FairShare

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Routes = Mapping[str, Mapping[str, Handler]]
"""Path -> method -> handler."""

MAX_CONNECTIONS = 256
"""Waiting hooks included; a few scrapers and some people need a tenth of it."""

NODE_CONNECTIONS = 96
"""Of the node's own addresses: a hook and three probes of each container of a large pod."""

BACKLOG = 1024
"""Connections the kernel completes while the loop is busy; beyond it a probe's SYN would be sent again a
second later."""

ACCEPTED_AT_ONCE = 64
"""The standard loop takes as many in one turn as its server's backlog says, whoever else waits."""

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


class HttpServer(web.Server):
    """What aiohttp's runner hosts on one socket."""

    def __init__(self, routes: Routes, node: frozenset[str] = frozenset()) -> None:
        """`node`: the addresses that the kubelet comes from."""
        # A hook that hangs up must not go on occupying a place: handler_cancellation.
        super().__init__(self._route, handler_cancellation=True)
        self._routes = routes
        self._node = node
        self._others: FairShare[Caller] = FairShare(MAX_CONNECTIONS)
        self._kubelets: FairShare[Caller] = FairShare(NODE_CONNECTIONS)
        self._runner = web.ServerRunner(self, handle_signals=False, shutdown_timeout=STOP_S)

    async def open(self, sock: socket.socket) -> None:
        """Serve on `sock`, which is bound."""
        await self._runner.setup()
        await web.SockSite(self._runner, sock, backlog=ACCEPTED_AT_ONCE).start()
        sock.listen(BACKLOG)

    async def close(self) -> None:
        """Close the sockets, then every connection once its answer under way is written."""
        await self._runner.cleanup()

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]
        """Return the protocol of one accepted connection."""
        return _Silent(self)

    def speaking(self) -> "_Connection":
        """Return the protocol of a connection that has begun to speak."""
        return _Connection(
            self, loop=asyncio.get_running_loop(), access_log=None, keepalive_timeout=KEEPALIVE_S, **_LIMITS
        )

    def enter(self, caller: "Caller", transport: asyncio.Transport) -> None:
        """Take a connection in, at the cost of another one if there are too many."""
        address = caller.address = address_of(transport)
        places = self._places(address)
        places.enter(caller, address)
        for crowd in places.crowds(address):
            # A hook waits by design, and is the oldest.
            silent = (each for each in places.of(crowd) if not each.waiting)
            if (oldest := next(silent, None)) is not None and oldest.wire is not None:
                places.leave(oldest, crowd)
                oldest.wire.abort()
                break

    def replace(self, silent: "_Silent", caller: "_Connection") -> None:
        """A connection has begun to speak."""
        caller.address, caller.wire = silent.address, silent.wire
        self._places(caller.address).replace(silent, caller, caller.address)

    def leave(self, caller: "Caller") -> None:
        """Forget a connection."""
        self._places(caller.address).leave(caller, caller.address)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """See web.Server."""
        assert isinstance(handler, _Connection)
        self.leave(handler)
        super().connection_lost(handler, exc)

    def _places(self, address: str) -> "FairShare[Caller]":
        return self._kubelets if address in self._node else self._others

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


class _Silent(asyncio.Protocol):
    """A connection that has not said anything yet. Thousands a second of them cost next to nothing."""

    __slots__ = ("_door", "_patience", "address", "wire")
    waiting = False

    def __init__(self, door: HttpServer) -> None:
        self._door = door
        self._patience: asyncio.TimerHandle | None = None
        self.address = ""
        self.wire: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.wire = cast("asyncio.Transport", transport)
        self._patience = asyncio.get_running_loop().call_later(KEEPALIVE_S, self.wire.abort)
        self._door.enter(self, self.wire)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. It speaks: from now on it is a connection like any other."""
        wire = self.wire
        self._forget_time()
        if wire is None or wire.is_closing():
            # Turned away at the door; what it says is still in the loop's hands.
            return
        caller = self._door.speaking()
        self._door.replace(self, caller)
        wire.set_protocol(caller)
        caller.connection_made(wire)
        caller.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._forget_time()
        self._door.leave(self)

    def _forget_time(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class _Connection(web.RequestHandler):
    """aiohttp's protocol with its own errors in our clothes."""

    __slots__ = ("address", "waiting", "wire")

    def __init__(self, door: HttpServer, **options: Any) -> None:
        super().__init__(door, **options)
        self.waiting = False
        self.address = ""
        self.wire: asyncio.Transport | None = None

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


Caller = _Silent | _Connection


def address_of(transport: asyncio.BaseTransport | None, end: str = "peername") -> str:
    """Return the IP address of one end of a connection, or nothing where it has none or is gone."""
    name = None if transport is None else transport.get_extra_info(end)
    # What a dual-stack listener calls an IPv4 peer begins like this.
    return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else ""


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
