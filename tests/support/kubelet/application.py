"""The application of the rollouts: the demo's, with event streams and a WebSocket beside its routes.

It knows nothing of drainproxy. Every pod tells the same events: number n happened n tenths of a second of the
machine's monotonic clock ago, so whoever reconnects with Last-Event-ID misses none. Started as a script:
address, port, ledger.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import defaultdict
from pathlib import Path

from aiohttp import web

from drainproxy.proof.demo.application import application

EVENT_EVERY_S = 0.2
TOKENS = 20


def newest_event() -> int:
    """Return the number of the event that happened last."""
    return int(time.monotonic() / EVENT_EVERY_S)


async def ticker(request: web.Request) -> web.StreamResponse:
    """All events after Last-Event-ID, then each as it happens, without an end."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    last = int(request.headers.get("Last-Event-ID") or newest_event() - 1)
    with contextlib.suppress(ConnectionError):
        while True:
            while last < newest_event():
                last += 1
                await response.write(b'id: %d\ndata: {"event": %d}\n\n' % (last, last))
            await asyncio.sleep((last + 1) * EVENT_EVERY_S - time.monotonic())
    return response


async def tokens(request: web.Request) -> web.StreamResponse:
    """An answer of TOKENS pieces and an end, as a language model gives it: asked for once, read by fetch."""
    await request.read()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    for number in range(TOKENS):
        await response.write(b'data: {"token": %d}\n\n' % number)
        await asyncio.sleep(EVENT_EVERY_S)
    await response.write(b"data: [DONE]\n\n")
    return response


async def socket(request: web.Request) -> web.WebSocketResponse:
    """Echo each message."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(json.dumps({"echo": message.data}))
    return ws


class Gates:
    """Requests that wait for another request."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._entered: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def wait(self, request: web.Request) -> web.Response:
        """Answer when the gate is opened."""
        self._entered[request.match_info["name"]].set()
        await self._open[request.match_info["name"]].wait()
        return web.Response(text="through")

    async def entered(self, request: web.Request) -> web.Response:
        """Answer when somebody waits."""
        await self._entered[request.match_info["name"]].wait()
        return web.Response(text="waits")

    async def open(self, request: web.Request) -> web.Response:
        """Open the gate."""
        self._open[request.match_info["name"]].set()
        return web.Response(text="open")


async def health(_request: web.Request) -> web.Response:
    """What a balancer's probe reads."""
    return web.Response(text="ok")


if __name__ == "__main__":
    app = application(Path(sys.argv[3]))
    app.router.add_get("/ticker", ticker)
    app.router.add_post("/tokens", tokens)
    app.router.add_get("/socket", socket)
    app.router.add_get("/healthz", health)
    gates = Gates()
    app.router.add_get("/gate/{name}", gates.wait)
    app.router.add_get("/gate/{name}/entered", gates.entered)
    app.router.add_get("/gate/{name}/open", gates.open)
    web.run_app(app, host=sys.argv[1], port=int(sys.argv[2]), access_log=None)
