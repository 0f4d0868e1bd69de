"""The data plane in a real process: memory, descriptors, several listeners."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.client import Client
from tests.support.process import Proxy
from tests.support.upstream import Connection, Upstream, answering
from tests.support.words import GET, OK, get, ok, post

if TYPE_CHECKING:
    from tests.support.wire import Wire

both_loops = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])

KILOBYTE = 1024
ROOM_BYTES = 512 * KILOBYTE
"""What one stream may hold (http.md, back-pressure), buffers on both sides together."""

STALLED = 16
"""So many streams are looked at together: what an allocator keeps for the next piece, up to 0.5 MiB, it keeps
once. One stream has up to 320 KiB, a read beyond the high water mark."""


async def settled_rss(proxy: Proxy) -> int:
    """Its memory once it neither grows nor runs, however long it waits for a processor, in bytes."""
    last, same = (0, 0.0), 0
    while same < 5:
        await asyncio.sleep(0.1)
        now = (proxy.rss_bytes(), cpu_seconds(proxy.pid))
        same = same + 1 if now[0] <= last[0] and now[1] <= last[1] else 0
        last = now
    return last[0]


async def held_bytes(proxy: Proxy) -> tuple[int, int]:
    """What it says that it holds for others, and its memory."""
    said = int((await proxy.metrics())["buffered_bytes"])
    return said, await settled_rss(proxy)


async def each_holds_little(proxy: Proxy, before: tuple[int, int]) -> None:
    """Neither by its own account nor by its memory does it hold more than STALLED streams may."""
    said, rss = (now - then for now, then in zip(await held_bytes(proxy), before, strict=True))
    assert 0 < said < STALLED * ROOM_BYTES
    assert rss < STALLED * ROOM_BYTES


async def read_the_rest(reader: Wire, size: int) -> None:
    """Read a body of `size` whose beginning has come already."""
    left = size - len(reader.received)
    reader.received.clear()
    while left:
        assert await reader.more()
        left -= len(reader.received)
        reader.received.clear()


@both_loops
async def test_a_client_that_does_not_read_holds_the_application_back(loop: str) -> None:
    """64 MB of response wait at the application, not with us, for each of many clients."""
    size = 64 * KILOBYTE * KILOBYTE
    async with Upstream() as upstream, Proxy(upstreams=[upstream.address], loop=loop) as proxy:
        await proxy.ready()
        warm = await proxy.client()
        await warm.send(GET)
        application = await upstream.connection_with_bytes()
        await application.read_request()
        # Together: no buffer on the way holds so much for a client that does not read.
        await asyncio.gather(application.send(ok(b"x" * 4_000_000, "Connection: close")), warm.final())
        before = await held_bytes(proxy)
        stalled, speaking = [], []
        for _ in range(STALLED):
            stalled.append(await proxy.client())
            await stalled[-1].send(GET)
            speaking.append(await upstream.connection_with_bytes())
            await speaking[-1].read_request()
            await speaking[-1].send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        taken = await asyncio.gather(
            *(application.send_until_stuck(b"x" * 64 * KILOBYTE, size) for application in speaking)
        )
        assert max(taken) < size / 4, "nothing held the application back"
        await each_holds_little(proxy, before)
        # And it goes on when the client does.
        sending = asyncio.ensure_future(speaking[0].send(b"y" * (size - taken[0])))
        head = await stalled[0].read_head()
        assert b"Content-Length: %d\r\n" % size in head
        await read_the_rest(stalled[0], size)
        await sending


@both_loops
async def test_an_application_that_does_not_read_holds_the_client_back(loop: str) -> None:
    """64 MB of request wait at the client, not with us, of each of many clients."""
    size = 64 * KILOBYTE * KILOBYTE
    async with Upstream() as upstream, Proxy(upstreams=[upstream.address], loop=loop) as proxy:
        await proxy.ready()
        warm = await proxy.client()
        sending = asyncio.ensure_future(warm.send(post(b"x" * 4_000_000)))
        application = await upstream.connection_with_bytes()
        await application.read_request()
        await application.send(ok(b"", "Connection: close"))
        await warm.final()
        await sending
        before = await held_bytes(proxy)
        clients, stalled = [], []
        for _ in range(STALLED):
            clients.append(await proxy.client())
            await clients[-1].send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            stalled.append(await upstream.connection_with_bytes())
        taken = await asyncio.gather(
            *(client.send_until_stuck(b"x" * 64 * KILOBYTE, size) for client in clients)
        )
        assert max(taken) < size / 4, "nothing held the client back"
        await each_holds_little(proxy, before)
        await stalled[0].read_head()
        sending = asyncio.ensure_future(clients[0].send(b"y" * (size - taken[0])))
        await read_the_rest(stalled[0], size)
        await sending
        await stalled[0].send(OK)
        assert (await clients[0].final()).status == 200


@both_loops
async def test_a_client_that_asks_and_never_reads_fills_no_memory(loop: str) -> None:
    """Neither with answers of the application nor with refusals of ours."""
    async with Upstream(answering()) as upstream, Proxy(upstreams=[upstream.address], loop=loop) as proxy:
        await proxy.ready()
        before = await settled_rss(proxy)
        asking = await proxy.client(receive_buffer=4 * KILOBYTE)
        await asking.send_until_stuck(GET * 100, 20_000_000, quiet_s=0.5)
        await upstream.close()
        refused = await proxy.client(receive_buffer=4 * KILOBYTE)
        with contextlib.suppress(OSError):  # closed, which is one way to be bounded
            await refused.send_until_stuck(GET * 100, 20_000_000, quiet_s=0.5)
        assert await settled_rss(proxy) - before < 4 * ROOM_BYTES


@both_loops
async def test_each_listener_has_its_own_application(loop: str, tmp_path) -> None:
    """In the order of the settings, over TCP and over a Unix socket."""
    async with (
        Upstream(answering(ok(b"one"))) as one,
        Upstream(answering(ok(b"two")), path=tmp_path / "app.sock") as two,
        Proxy(upstreams=[one.address, two.address], loop=loop) as proxy,
    ):
        await proxy.ready()
        for number, body in ((0, b"one"), (1, b"two")):
            client = await proxy.client(number)
            for _ in range(3):
                assert (await client.ask(GET)).body == body
        metrics = await proxy.metrics()
        for host, port in proxy.addresses:
            assert host == "127.0.0.1"
            series = f'requests_total{{code="200",listener="{port}",method="GET",phase="serving"}}'
            assert metrics[series] == 3


@both_loops
async def test_idle_connections_of_clients_that_left_leave_nothing(loop: str) -> None:
    """Five hundred clients later the descriptors are as many as before."""
    async with Upstream(answering()) as upstream, Proxy(upstreams=[upstream.address], loop=loop) as proxy:
        await proxy.ready()
        async with await Client.connect(proxy.addresses[0]) as first:
            await first.ask(GET)
        before = await few_descriptors(proxy)
        for _ in range(10):
            clients = [await Client.connect(proxy.addresses[0]) for _ in range(50)]
            await asyncio.gather(*(client.ask(GET) for client in clients[::2]))
            for number, client in enumerate(clients):
                client.reset() if number % 3 else client.close()
        assert await few_descriptors(proxy) <= before


@both_loops
async def test_out_of_descriptors_it_neither_spins_nor_forgets(loop: str) -> None:
    """A request in flight is answered; new clients are served within a second of room being there."""
    held = asyncio.Event()

    async def holding(connection: Connection) -> None:
        while (request := await connection.read_request()).start:
            if b"/held" in request.start:
                await held.wait()
            await connection.send(OK)

    async with (
        Upstream(holding) as upstream,
        Proxy(upstreams=[upstream.address], loop=loop, descriptors=64) as proxy,
        contextlib.AsyncExitStack() as crowd,
    ):
        await proxy.ready()
        early = await proxy.client()
        await early.send(get("/held"))
        await crowding(crowd, proxy)
        await asyncio.sleep(0.5)
        spent = cpu_seconds(proxy.pid)
        await asyncio.sleep(1.0)
        assert cpu_seconds(proxy.pid) - spent < 0.5
        held.set()
        assert (await early.final()).status == 200
        await crowd.aclose()
        late = await proxy.client()
        assert (await late.ask(GET)).status == 200
        await crowding(crowd, proxy)
        await asyncio.sleep(0.2)
        proxy.signal()
        assert await proxy.exit_code() == 0


async def crowding(crowd: contextlib.AsyncExitStack, proxy: Proxy) -> None:
    """Connect more clients than there are descriptors; none of them says anything."""
    for _ in range(100):
        await crowd.enter_async_context(await Client.connect(proxy.addresses[0]))


async def few_descriptors(proxy: Proxy) -> int:
    """How many are open once none is closing any more, idle ones to the application left out."""
    least, same = proxy.descriptors(), 0
    while same < 10:
        await asyncio.sleep(0.05)
        now = proxy.descriptors()
        least, same = (now, 0) if now < least else (least, same + 1)
    idle = (await proxy.metrics())['upstream_connections{state="idle"}']
    return least - int(idle)


def cpu_seconds(pid: int) -> float:
    """User and system time a process has spent."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
