"""Where reviews come in: over TLS, with bodies, on aiohttp, which reads them as whatever they are sent.

A connection counts from its accept on, and each handshake gets the newest certificate. Called by server.py;
only the webhook pays for the library.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from aiohttp import web

from drainproxy.admin import door
from drainproxy.certificates import Certificates
from drainproxy.proxy.wire.tls import Tls

Review = Callable[[web.BaseRequest], Awaitable[web.Response]]

_LIMITS: dict[str, Any] = {
    "max_line_size": 2048,
    "max_field_size": 4096,
    "max_headers": 64,
    "read_bufsize": 4096,
    "lingering_time": 0.0,
    "access_log": None,
}


class ReviewDoor(door.Door):
    """The paths of one listening socket."""

    def __init__(self, reviews: Mapping[str, Review], certificates: Certificates) -> None:
        super().__init__()
        self._reviews = reviews
        self._certificates = certificates
        self._server = _Server(self)
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=door.STOP_S)

    async def open(self, sock: socket.socket) -> None:
        """Serve on `sock`, which is bound."""
        await self._runner.setup()
        await web.SockSite(self._runner, sock, backlog=door.ACCEPTED_AT_ONCE).start()
        sock.listen(door.BACKLOG)

    async def close(self) -> None:
        """Close the socket, then every connection once its answer under way is written."""
        await self._runner.cleanup()
        self.send_home()

    def __call__(self) -> asyncio.Protocol:
        """See Door."""
        tls = Tls(super().__call__(), self._certificates.context, lambda _: None)
        return cast("asyncio.Protocol", tls)

    def speaking(self) -> door.Speaking:
        """See Door."""
        return _Connection(self._server)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        review = self._reviews.get(request.path)
        if review is None:
            response = line(404, "no such path")
        elif request.method != "POST":
            response = line(405, "no such method for this path")
            response.headers["Allow"] = "POST"
        else:
            response = await review(request)
        return dress(response)


class _Server(web.Server):
    """aiohttp's, with the protocols of a door."""

    def __init__(self, reviews: ReviewDoor) -> None:
        super().__init__(reviews.answer, handler_cancellation=True)
        self._reviews = reviews

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]
        return self._reviews()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        assert isinstance(handler, _Connection)
        self._reviews.leave(handler)
        super().connection_lost(handler, exc)


class _Connection(web.RequestHandler):
    """aiohttp's protocol with its own errors in our clothes."""

    __slots__ = ("address", "waiting", "wire")

    def __init__(self, server: _Server) -> None:
        super().__init__(
            server, loop=asyncio.get_running_loop(), keepalive_timeout=door.KEEPALIVE_S, **_LIMITS
        )
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


def line(status: int, text: str) -> web.Response:
    """Return an answer of one line."""
    return web.Response(status=status, text=f"{text}\n")


def dress(response: web.StreamResponse) -> web.StreamResponse:
    """Give an answer the fields that every one has."""
    if not response.prepared:
        response.headers.update(door.FIELDS)
    return response
