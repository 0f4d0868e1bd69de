"""Hundreds of WebSockets and event streams leave a real process inside their windows, none in mid message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from drainproxy.proxy.framing import ChunkedBody
from tests.proxy.test_events import EVENTS
from tests.proxy.test_websocket import CLOSE, message
from tests.proxy.test_websocket_leaving import AGREE, ANSWER, ASK
from tests.support.process import Proxy
from tests.support.upstream import Connection, Upstream
from tests.support.wire import End

if TYPE_CHECKING:
    from tests.support.client import Client

SOCKETS, STREAMS = 500, 100
SAID = message([b"first", b"second"])
EVENT = b"data: one\r\ndata: two\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def application(connection: Connection) -> None:
    """Say something in two pieces every fifth of a second; close when a WebSocket's client does."""
    request = await connection.read_head()
    socket = b"Upgrade: websocket" in request
    await connection.send(AGREE if socket else HEAD)
    said = SAID if socket else b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
    heard = asyncio.ensure_future(connection.read_until_close() if not socket else answered(connection))
    while not heard.done():
        await connection.send(said[:9])
        await asyncio.wait([heard], timeout=0.2)
        await connection.send(said[9:])
    await heard


async def answered(connection: Connection) -> None:
    """Wait for the client's Close."""
    assert await connection.read_exactly(len(ANSWER)) == ANSWER


async def told(client: Client, *, socket: bool) -> float:
    """Read until the end; check that everything is whole; return when it came."""
    if socket:
        data = await client.read_to(CLOSE)
        at = asyncio.get_running_loop().time()
        await client.send(ANSWER)
        await client.read_eof()
        assert data == SAID * (len(data) // len(SAID)) + CLOSE
    else:
        data = await client.read_until_close()
        at = asyncio.get_running_loop().time()
        payload, rest = ChunkedBody().feed(data)
        assert rest == b""
        assert payload == EVENT * (len(payload) // len(EVENT))
    assert client.end is End.FIN
    return at


async def test_five_hundred_websockets_and_a_hundred_event_streams_leave_in_time() -> None:
    """Spread over `leave_spread`, each with a clean end, and long before the deadline."""
    async with Upstream(application) as upstream, Proxy(upstreams=[upstream.address]) as proxy:
        await proxy.ready()
        clients = []
        for number in range(SOCKETS + STREAMS):
            client = await proxy.client()
            await client.send(ASK if number < SOCKETS else EVENTS)
            await client.read_head()
            clients.append(client)
        proxy.signal()
        waits = [told(client, socket=number < SOCKETS) for number, client in enumerate(clients)]
        ends = sorted(await asyncio.gather(*waits))
        report = await proxy.line("drain_report")
        assert await proxy.exit_code() == 0
    assert report["tunnels"]["websocket"] == counts(SOCKETS)
    assert report["tunnels"]["stream"] == counts(STREAMS)
    assert report["unused_s"] > 2
    spread = ends[-1] - ends[0]
    assert spread > 3, "a herd"
    per_second = max(sum(start <= end < start + 1 for end in ends) for start in ends[::20])
    assert per_second < 0.6 * len(ends)


def counts(told: int) -> dict[str, int]:
    """Return a tally of nothing else."""
    usual = {"finished": 0, "timed_out": 0, "cut": 0, "refused": 0, "lost": 0, "late": 0}
    return usual | {"told_to_leave": told}
