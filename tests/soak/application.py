"""The application of the soak: pages, orders, event streams, WebSockets; and the fault its caller asks for.

`X-Fault` names it. What a body holds follows from its path, so that every byte can be checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web

from tests.support.http2 import DATA, END_STREAM, HEADERS, Http2, frame
from tests.support.wire import Ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.upstream import Connection

PIECE_BYTES = 16 * 1024
EVENT_EVERY_S = 0.1
IN_BODY = ("reset-body", "fin-body", "stall-body")
HEAD_FAULTS = ("reset-head", "stall-head", "garbage")


def page(size: int) -> bytes:
    """Return the body of /bytes/SIZE."""
    pattern = b"%08x" % size
    return (pattern * (size // 8 + 1))[:size]


def event(number: int) -> bytes:
    """Return an event of /events/COUNT."""
    return b"id: %d\ndata: event %d\n\n" % (number, number)


class Soaked:
    """`async with Soaked().serving() as address:`; `orders` counts how often each came."""

    def __init__(self) -> None:
        self.orders: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Listen on a free port; yield the address."""
        app = web.Application()
        app.router.add_get("/bytes/{size}", self._page)
        app.router.add_get("/events/{count}", self._events)
        app.router.add_post("/orders", self._order)
        app.router.add_get("/chat", self._chat)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=5.0, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _page(self, request: web.Request) -> web.StreamResponse:
        body = page(int(request.match_info["size"]))
        await _fail(request, HEAD_FAULTS)
        response = web.StreamResponse()
        response.content_length = len(body)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            await response.write(body[: len(body) // 2])
            await _fail(request, IN_BODY)
            for at in range(len(body) // 2, len(body), PIECE_BYTES):
                await response.write(body[at : at + PIECE_BYTES])
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        await _fail(request, HEAD_FAULTS)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for number in range(int(request.match_info["count"])):
                if number == 1:
                    await _fail(request, IN_BODY)
                await response.write(event(number))
                await asyncio.sleep(EVENT_EVERY_S)
        return response

    async def _order(self, request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        try:
            body = await request.read()
        except ConnectionError as gone:
            raise web.HTTPBadRequest from gone
        self.orders[key] += 1
        await _fail(request, HEAD_FAULTS)
        return web.Response(status=201, body=b"%b %d" % (key.encode(), len(body)))

    async def _chat(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(timeout=1.0)
        await ws.prepare(request)
        async for message in ws:
            if message.data == "reset":
                _reset(request)
                break
            await ws.send_str(message.data)
        return ws


async def _fail(request: web.Request, faults: tuple[str, ...]) -> None:
    """Do what the caller asks for, if it is one of these."""
    fault = request.headers.get("X-Fault", "")
    if fault not in faults or request.transport is None:
        return
    # What was said before is on its way: a reset takes back what is not.
    await asyncio.sleep(0.05)
    if fault.startswith("reset"):
        _reset(request)
    elif fault.startswith("fin"):
        request.transport.close()
    elif fault == "garbage":
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nno")
        request.transport.close()
    # Nothing more is said, by this time or ever.
    await asyncio.sleep(60 if fault.startswith("stall") else 0)
    raise asyncio.CancelledError


def _reset(request: web.Request) -> None:
    assert request.transport is not None
    wire = request.transport.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


async def speak_http2(connection: Connection) -> None:
    """Answer each stream of a connection; /die resets it."""
    peer = Http2(connection)
    await peer.greet()
    with contextlib.suppress(Ended):
        while True:
            got = await peer.next(HEADERS)
            if dict(peer.decoder.decode(got.payload)).get(":path") == "/die":
                connection.reset()
                return
            await peer.send(peer.response(got.stream), frame(DATA, END_STREAM, got.stream, b"ok"))
