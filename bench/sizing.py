"""Fills the table of docs/operations.md by which people size the sidecar: `make sizing`, about three minutes.

Each row is a real process with the image's environment: CPU by the kernel's count while clients keep a pace,
memory while connections are held. What the clients cost is not in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import cpu_s, peak_rss_mb, rss_mb
from tests.chaos.table import markdown, where, write
from tests.support.process import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operations.md"
PACES = (10, 100, 1000, 3000)
CALLERS = 30
RUN_S = 15.0
SETTLE_S = 2.0
HELD = (100, 1000, 5000)
READERS = 400

GET = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + b"x" * 40
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


def image() -> dict[str, str]:
    """Return how the image sets the allocator."""
    return dict(re.findall(r"(MALLOC_\w+)=(\d+)", (ROOT / "Dockerfile").read_text()))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer 40 bytes, and a megabyte to /large."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            writer.write(LARGE + b"y" * 1_000_000 if b"/large" in head else ANSWER)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxied(env: dict[str, str]) -> AsyncIterator[Proxy]:
    """Enter with a proxy that is ready, and idle."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    host, port = server.sockets[0].getsockname()
    async with Proxy(upstreams=[f"http://{host}:{port}"], env=env) as proxy:
        await proxy.ready()
        await asyncio.sleep(SETTLE_S)
        yield proxy
    server.close()


async def call(proxy: Proxy, pace: float, until: float, *, keep: bool) -> None:
    """Ask `pace` times a second, on one connection or on a new one each time."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(*proxy.addresses[0])
    due = loop.time()
    while due < until:
        if not keep:
            writer.close()
            reader, writer = await asyncio.open_connection(*proxy.addresses[0])
        writer.write(GET)
        await reader.readexactly(len(await reader.readuntil(b"\r\n\r\n")) and 40)
        due += 1 / pace
        await asyncio.sleep(due - loop.time())
    writer.close()


async def busy(pace: int, *, keep: bool) -> tuple[str, ...]:
    """Return a row: CPU and memory at a pace."""
    async with proxied(image()) as proxy:
        loop, before = asyncio.get_running_loop(), cpu_s(proxy.pid)
        began = loop.time()
        callers = min(CALLERS, pace)
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(call(proxy, pace / callers, began + RUN_S, keep=keep))
        used = (cpu_s(proxy.pid) - before) / (loop.time() - began)
        connections = "on kept connections" if keep else "each on a new connection"
        return f"{pace:,} requests a second, {connections}", f"{used * 1000:.0f}m", mb(peak_rss_mb(proxy.pid))


async def held(count: int) -> tuple[str, ...]:
    """Return a row: memory with idle connections that have each carried a request."""
    async with proxied(image()) as proxy:
        wires = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(*proxy.addresses[0])
            writer.write(GET)
            await reader.readexactly(len(await reader.readuntil(b"\r\n\r\n")) and 40)
            wires.append(writer)
        await asyncio.sleep(SETTLE_S)
        row = f"{count:,} idle connections", "", mb(rss_mb(proxy.pid))
        for writer in wires:
            writer.transport.abort()
        return row


async def slow_readers() -> tuple[str, ...]:
    """Return a row: memory while many do not read what they asked for, and after they have gone."""
    async with proxied(image()) as proxy:
        wires = []
        for _ in range(READERS):
            # With a limit so small that the stream stops reading, and the kernel's window closes.
            _, writer = await asyncio.open_connection(*proxy.addresses[0], limit=1)
            writer.write(GET.replace(b"/ ", b"/large "))
            wires.append(writer)
        await asyncio.sleep(SETTLE_S)
        peak = peak_rss_mb(proxy.pid)
        for writer in wires:
            writer.transport.abort()
        await asyncio.sleep(2 * SETTLE_S)
        after = f"{mb(peak)}, and {mb(rss_mb(proxy.pid))} afterwards"
        return f"{READERS} clients that do not read their answers of 1 MB", "", after


def mb(megabytes: float) -> str:
    """Return megabytes as Kubernetes writes memory."""
    return f"{megabytes * 1e6 / 2**20:.0f}Mi"


async def rows() -> AsyncIterator[tuple[str, ...]]:
    """Measure one row after the other."""
    yield "what is measured", "CPU", "memory"
    async with proxied(image()) as proxy:
        yield "ready and idle", "", mb(rss_mb(proxy.pid))
    for pace in PACES:
        yield await busy(pace, keep=True)
    yield await busy(100, keep=False)
    for count in HELD:
        yield await held(count)
    yield await slow_readers()


async def main() -> None:
    """Measure, and write the table where people read it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    measured = []
    async for row in rows():
        print(*row, sep=" | ", flush=True)
        measured.append(row)
    write("sizing", f"{where('make sizing')}\n\n{markdown(measured)}", PAGE)


if __name__ == "__main__":
    asyncio.run(main())
