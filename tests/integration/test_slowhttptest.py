"""Slow clients by the hundred, made by slowhttptest: others are served, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from tests.support.process import Proxy
from tests.support.upstream import Connection, Upstream

TOOL = shutil.which("slowhttptest")
pytestmark = [
    pytest.mark.skipif(TOOL is None, reason="needs slowhttptest (Debian: slowhttptest)"),
    pytest.mark.slow,
]

CLIENTS = 400
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"y" * 1_000_000
SMALL = b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n"
GROWTH_BYTES = 16 << 20
TRIM = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""What is freed goes back to the system. As glibc comes, it keeps some 50 MiB for the next time, and not more
with each time: but then the allocator's habits would be measured."""

ATTACKS = {
    "slow heads": ["-H", "-i", "1"],
    "slow bodies": ["-B", "-i", "1", "-s", "8192"],
    "slow readers": ["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32"],
}


async def serve(connection: Connection) -> None:
    """Give much to whoever asks, little to /small."""
    while (request := await connection.read_request()).start:
        small = b"/small" in request.start
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" if small else LARGE)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_slow_clients_leave_nothing_behind(attack: str):
    """A client is served meanwhile; afterwards descriptors, memory and work in flight are as before."""
    limits = {"head_timeout": "1s", "total_timeout": "2s"}
    async with Upstream(serve) as upstream, Proxy(upstreams=[upstream.address], env=TRIM, **limits) as proxy:
        await proxy.ready()
        await small(proxy)
        await settled(proxy)
        descriptors, rss_bytes = proxy.descriptors(), proxy.rss_bytes()
        host, port = proxy.addresses[0]
        await besieged(proxy, [*ATTACKS[attack], "-u", f"http://{host}:{port}/large"])
        await settled(proxy)
        async with asyncio.timeout(20):
            while proxy.descriptors() > descriptors:
                await asyncio.sleep(0.1)
        assert proxy.rss_bytes() < rss_bytes + GROWTH_BYTES
        await small(proxy)
        proxy.signal()
        assert await proxy.exit_code() == 0
        assert [line for line in proxy.lines if line["event"] in {"defect", "library"}] == []


async def besieged(proxy: Proxy, attack: list[str]) -> None:
    """Let the tool do its work, and ask for something small meanwhile."""
    assert TOOL is not None
    size = ["-c", str(CLIENTS), "-r", str(CLIENTS), "-l", "3"]
    tool = await asyncio.create_subprocess_exec(
        TOOL, *size, *attack, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    ending = asyncio.ensure_future(tool.wait())
    own = 0
    before = (await proxy.metrics())["client_connections_accepted_total"]
    while not ending.done():
        await small(proxy)
        own += 1
        await asyncio.wait([ending], timeout=0.2)
    came = (await proxy.metrics())["client_connections_accepted_total"] - before - own
    assert came > CLIENTS / 4, "the tool did not do its work"


async def small(proxy: Proxy) -> None:
    """Ask, and get the answer."""
    client = await proxy.client()
    answer = await client.ask(SMALL)
    assert answer.body == b"ok"
    client.close()


async def settled(proxy: Proxy) -> None:
    """Wait until no client and no work is left."""
    async with asyncio.timeout(20):
        while True:
            metrics = await proxy.metrics()
            work = sum(value for name, value in metrics.items() if name.startswith("requests_in_flight"))
            if not work and not metrics['client_connections{state="active"}']:
                return
            await asyncio.sleep(0.1)
