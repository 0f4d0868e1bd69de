"""Hundreds of WebSockets and event streams leave a real process inside their windows, none in mid message."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from drainproxy.proxy.message.framing import ChunkedBody
from tests.integration.scene import command, on_one_loop, report, status
from tests.proxy.test_events import COMPLETION, DONE, EVENTS, LAST, TOKENS, chunk
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
    """Say something in two pieces every second; close when a WebSocket's client does."""
    request = await connection.read_head()
    socket = b"Upgrade: websocket" in request
    await connection.send(AGREE if socket else HEAD)
    said = SAID if socket else b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
    heard = asyncio.ensure_future(answered(connection) if socket else ended(connection))
    while not heard.done():
        await connection.send(said[:9])
        await asyncio.wait([heard], timeout=1.0)
        await connection.send(said[9:])
    await heard


async def answered(connection: Connection) -> None:
    """Wait for the client's Close, however long a slow machine takes to open all the others."""
    while not connection.received:
        with contextlib.suppress(TimeoutError):
            await connection.need()
    assert await connection.read_exactly(len(ANSWER)) == ANSWER


async def ended(connection: Connection) -> None:
    """Wait for the client's end as long."""
    while connection.end is None:
        with contextlib.suppress(TimeoutError):
            await connection.more()


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
    assert report["unused_s"] > 0
    # Whose turn is when, to the moment, is for lifecycle/test_reconnect_spread.py, where time does not jump.
    assert ends[-1] - ends[0] > 3, "a herd"


def counts(told: int) -> dict[str, int]:
    """Return a tally of nothing else."""
    usual = {"finished": 0, "timed_out": 0, "cut": 0, "refused": 0, "lost": 0, "late": 0}
    return usual | {"told_to_leave": told}


@on_one_loop
async def test_who_was_told_to_leave_stands_apart_in_every_book(start, upstream, tmp_path) -> None:
    """Report, message, /status, metrics and access lines agree: an EventSource and a WebSocket were told, a
    WebSocket that had stopped in the middle of a frame was cut, tokens for a POST came to their end."""
    message = tmp_path / "termination-log"
    message.touch()
    proxy = await start(upstream, access_log="all", grace_period="30s", termination_log=str(message))
    listener, listening = await opened(proxy, upstream, EVENTS, HEAD + chunk(TOKENS[0]))
    reader, answering = await opened(proxy, upstream, COMPLETION, HEAD + chunk(TOKENS[0]))
    socket, talking = await opened(proxy, upstream, ASK, AGREE)
    stuck, _ = await opened(proxy, upstream, ASK, AGREE + SAID[:3])
    assert (await command(proxy, "drain", "--prestop"))[0] == 0
    assert (await listener.read_until_close()).endswith(LAST)
    assert await socket.read_exactly(4) == CLOSE
    await socket.send(ANSWER)
    assert await talking.read_exactly(len(ANSWER)) == ANSWER
    talking.close()
    await answering.send(chunk(DONE) + LAST)
    assert (await reader.read_to(LAST)).endswith(chunk(DONE) + LAST)
    await stuck.read_until_close()
    assert stuck.end is End.RESET
    line = await report(proxy, finished=1)
    told = {kind: tally["told_to_leave"] for kind, tally in line["tunnels"].items()}
    assert told == {"websocket": 1, "stream": 1, "other": 0}
    assert line["tunnels"]["websocket"]["cut"] == 1
    assert sum(tally["finished"] for tally in line["tunnels"].values()) == 0
    assert line["unused_s"] > 5
    shown = await status(proxy)
    assert shown["report"]["tunnels"] == shown["drain"]["tunnels"] == line["tunnels"]
    metrics = await proxy.metrics()
    assert metrics['drain_tunnels_total{outcome="told_to_leave"}'] == 2
    assert metrics['drain_tunnels_total{outcome="cut"}'] == 1
    assert metrics['drain_tunnels_total{outcome="finished"}'] == 0
    assert metrics['errors_total{reason="leave-overdue"}'] == 1
    lines = [each for each in proxy.lines if each.get("outcome")]
    assert sorted((each["event"], each["outcome"]) for each in lines) == [
        ("request", "told_to_leave"),
        ("tunnel", "cut"),
        ("tunnel", "told_to_leave"),
    ]
    proxy.signal()
    assert await proxy.exit_code() == 0
    written = message.read_text()
    assert json.loads(written)["tunnels"] == line["tunnels"]
    assert len(written) < 1024
    listening.close()


async def opened(proxy: Proxy, upstream: Upstream, ask: bytes, answer: bytes) -> tuple[Client, Connection]:
    """Ask, and answer so far; return both far ends once the answer has come."""
    client = await proxy.client()
    await client.send(ask)
    application = await upstream.connection_with_bytes()
    await application.read_request()
    await application.send(answer)
    await client.read_head()
    head, _, begun = answer.partition(b"\r\n\r\n")
    assert head
    assert await client.read_exactly(len(begun)) == begun
    return client, application
