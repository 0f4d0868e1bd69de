"""The demo's application: plain aiohttp under `web.run_app`, as its documentation shows it.

It knows nothing of drainproxy and is the same file in every lane; that is the point of it.
Started as a script with one argument, the ledger: a file that gets one line for each order processed.
"""

import asyncio
import itertools
import os
import sys
from pathlib import Path

from aiohttp import web

LEDGER = web.AppKey("ledger", Path)

_ORDER_S = 0.05  # what an order costs: long enough to be caught by a signal
_PIECE_EVERY_S = 0.1


async def hello(_request: web.Request) -> web.Response:
    return web.json_response({"hello": "world"})


async def order(request: web.Request) -> web.Response:
    await request.read()
    await asyncio.sleep(_ORDER_S)
    _append(request.app[LEDGER], request.headers["Idempotency-Key"])
    return web.json_response({"ordered": True}, status=201)


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(float(request.query["seconds"]))
    return web.json_response({"slow": True})


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for piece in range(round(float(request.query["seconds"]) / _PIECE_EVERY_S)):
        await response.write(b"piece %d\n" % piece)
        await asyncio.sleep(_PIECE_EVERY_S)
    await response.write_eof()
    return response


async def talk(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in itertools.count():
        # In two pieces: there is a wrong moment to end.
        await response.write(b"id: %d\n" % number)
        await asyncio.sleep(_PIECE_EVERY_S)
        await response.write(b"data: tick\n\n")
        await asyncio.sleep(_PIECE_EVERY_S)
    return response


def _append(ledger: Path, key: str) -> None:
    """One write with O_APPEND: two pods share the file and neither tears the other's line."""
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{key}\n".encode())
    finally:
        os.close(descriptor)


def application(ledger: Path) -> web.Application:
    app = web.Application()
    app[LEDGER] = ledger
    app.router.add_get("/", hello)
    app.router.add_post("/orders", order)
    app.router.add_get("/slow", slow)
    app.router.add_get("/stream", stream)
    app.router.add_get("/talk", talk)
    app.router.add_get("/events", events)
    return app


if __name__ == "__main__":
    web.run_app(application(Path(sys.argv[1])), host="127.0.0.1", port=0)
