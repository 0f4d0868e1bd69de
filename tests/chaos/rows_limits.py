"""Rows about what runs out: descriptors, memory, processor time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from tests.chaos.flood import Flood
from tests.chaos.row import Evidence, Measured, row
from tests.integration.scene import OK, get, status
from tests.integration.test_memory_limit import BODY
from tests.integration.test_memory_limit import Application as Archive
from tests.integration.test_out_of_descriptors import processor_s
from tests.support.cgroup import memory_group
from tests.support.client import Client
from tests.support.upstream import Connection, Upstream

if TYPE_CHECKING:
    from tests.chaos.ground import Ground, Watched

MB = 1 << 20
DESCRIPTORS, LIMIT_BYTES = 128, 128 * MB


PIECE = bytes(range(256)) * 4


async def _reader(connection: Connection) -> None:
    """Answer with a page every 20 ms to whoever is inside, at once to everybody else."""
    while (request := await connection.read_request()).start:
        if b" /inside/" not in request.start:
            await connection.send(OK)
            continue
        pieces = int(request.start.split(b"/")[2].split(b" ")[0])
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (pieces * len(PIECE)))
        for _ in range(pieces):
            await connection.send(PIECE)
            await asyncio.sleep(0.02)


@row(
    "descriptor limit",
    Evidence(line="request: too-many-connections", series='refused_total{reason="too-many-connections"}'),
    Evidence(series="client_connections_evicted_total"),
    most=1,
    unit="s until new clients are served",
    timed=True,
)
async def descriptors(ground: Ground) -> Measured:
    """1,000 clients crowd 128 descriptors: who is inside is served, nothing spins, the rest once they go."""
    count, pieces = ground.pick((1000, 400), (200, 100))
    # The standard loop accepts a whole backlog at once, finds no descriptor left, and waits a second.
    ground.tolerated = ("socket.accept() out of system resource",)
    async with Upstream(_reader) as upstream:
        proxy = await ground.start(upstream.address, descriptors=DESCRIPTORS)
        assert (await status(proxy))["limits"]["descriptors"] == DESCRIPTORS
        inside = [await proxy.client() for _ in range(8)]
        for client in inside:
            await client.send(get(f"/inside/{pieces}"))
            await client.read_head()
        reading = [asyncio.ensure_future(client.read_exactly(pieces * len(PIECE))) for client in inside]
        crowd = [await proxy.client() for _ in range(count)]
        for number, client in enumerate(crowd):
            with contextlib.suppress(OSError):
                # A third is silent, a third has begun, a third has asked.
                await client.send((b"", get()[:20], get())[number % 3])
        busy_s, began = processor_s(proxy.pid), time.monotonic()
        await asyncio.sleep(1.0)
        used = (processor_s(proxy.pid) - busy_s) / (time.monotonic() - began)
        assert proxy.descriptors() <= DESCRIPTORS
        await ground.books(proxy)
        for client in crowd:
            client.close()
        began = time.monotonic()
        while not await _answered(proxy):
            assert time.monotonic() - began < 10.0
        took_s = time.monotonic() - began
        whole = await asyncio.gather(*reading)
    assert {*whole} == {PIECE * pieces}, "somebody inside got something else"
    assert used < 0.6, f"it spins: {used:.0%} of a core"
    return Measured(took_s, f"after {count:,} clients, all 8 inside served, {used:.0%} of a core")


async def _answered(proxy: Watched) -> bool:
    try:
        async with asyncio.timeout(0.5), await Client.connect(proxy.addresses[0]) as client:
            return (await client.ask(get())).raw == OK
    except (OSError, TimeoutError):
        return False


@row("memory limit", Evidence(line="buffers", series="buffered_bytes"), most=128, unit="MiB")
async def memory(ground: Ground) -> Measured:
    """1,000 downloads of a MiB that nobody reads, under 128 MiB: others are served, nobody is cut."""
    count = ground.pick(1000, 300)
    server = await asyncio.get_running_loop().create_server(Archive, "127.0.0.1", 0, backlog=1024)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    peak_bytes = 0
    with memory_group(LIMIT_BYTES) as group:
        # Where no limit can be set, the process is told what it would have made of it.
        settings = {} if group else {"max_connections": "8192", "max_buffer_bytes": "32MiB"}
        try:
            proxy = await ground.start(address, cgroup=group, drain_timeout="100ms", **settings)
            clients = []
            for _ in range(count):
                clients.append(await proxy.client())
                await clients[-1].send(get("/large"))
                peak_bytes = max(peak_bytes, proxy.rss_bytes())
            await proxy.line("buffers", tight=True)
            async with await proxy.client() as other:
                for _ in range(ground.pick(200, 20)):
                    assert (await other.ask(get("/small"))).body == b"ok"
                    peak_bytes = max(peak_bytes, proxy.rss_bytes())
            for client in (clients[0], clients[-1]):
                assert (await client.final()).body == BODY
            seen = await ground.books(proxy)
            assert not seen["client_connections_evicted_total"]
            for client in clients:
                client.close()
            await ground.end(())
        finally:
            # The group must be empty before it can be taken away.
            await ground.stack.aclose()
    server.close()
    limit = "a memory group" if group else "the settings alone"
    return Measured(peak_bytes / MB, f"resident at most, with {count:,} downloads, limited by {limit}")


@row("admin at saturation", Evidence(series="requests_total{"), most=100, unit="ms", timed=True)
async def admin(ground: Ground) -> Measured:
    """Twice as many requests are sent as can be answered: probes and /metrics are answered all the same."""
    for_s = ground.pick(8.0, 1.0)
    async with Flood.application() as address:
        proxy = await ground.start(address)
        flood = Flood(proxy.addresses[0], connections=64)
        async with flood:
            capacity = await flood.capacity(for_s / 4)
            flood.rate = 2 * capacity
            await asyncio.sleep(0.5)
            took_s = []
            sent, answered, began = flood.sent, flood.answered, time.monotonic()
            while time.monotonic() < began + for_s:
                for path in ("/livez", "/readyz", "/metrics"):
                    at = time.monotonic()
                    assert (await proxy.get(path)).status == 200
                    took_s.append(time.monotonic() - at)
                await asyncio.sleep(0.02)
            span_s = time.monotonic() - began
            offered, served = (flood.sent - sent) / span_s, (flood.answered - answered) / span_s
    worst_ms = 1000 * max(took_s)
    return Measured(
        worst_ms, f"at most of {len(took_s):,}, {served:,.0f} requests/s answered of {offered:,.0f} offered"
    )
