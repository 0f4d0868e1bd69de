"""Rows about clients: they vanish, they are slow, they stall, they idle by the thousand."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tests.chaos.row import Evidence, Measured, row
from tests.integration.application import Application
from tests.integration.crowd import QUESTION, Caller, Shop, answer
from tests.integration.scene import get
from tests.integration.test_client_resets import application, vanish
from tests.support.authority import Authority

if TYPE_CHECKING:
    from tests.chaos.ground import Ground, Watched
    from tests.support.client import Client
    from tests.support.process import Proxy

MB = 1 << 20


def gone(reason: str) -> Evidence:
    return Evidence(line=f"request: {reason}", series=f'reason="{reason}"')


@row("client resets", gone("client-gone"), most=5, unit="s until all is as before", timed=True)
async def resets(ground: Ground) -> Measured:
    """30,000 clients reset, 10,000 in mid transfer, the others silent, in a head, a wait or a pipeline."""
    count = ground.pick(30_000, 300)
    async with Application(application) as upstream:
        proxy = await ground.start(upstream.address, upstream_idle="200ms")
        await _vanished(proxy, 60)
        await asyncio.sleep(0.5)
        before = await proxy.baseline()
        await _vanished(proxy, count)
        took_s = await ground.settled(proxy, before, 5.0)
        after = await proxy.baseline()
    return Measured(took_s, f"after {count:,} resets; {after.tasks} tasks, {after.descriptors} descriptors")


async def _vanished(proxy: Watched, count: int) -> None:
    for first in range(0, count, 50):
        await asyncio.gather(*(vanish(proxy, number) for number in range(first, min(first + 50, count))))
        proxy._clients.clear()


# Slow ones.


class Library(asyncio.Protocol):
    """An application: a MB for /large, what a Shop says to everything else; bodies are not answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self._uploading = False

    def data_received(self, data: bytes) -> None:
        """Answer a request; of an upload nothing more is read."""
        if data.startswith(b"GET /large"):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MB + bytes(MB))
        elif data.startswith(b"POST") or self._uploading:
            self._uploading = True
        else:
            self.transport.write(answer(0))


HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
LARGE = get("/large")
KINDS = {
    "silent": b"",
    "slow heads": HEAD,
    "slow bodies": UPLOAD,
    "slow readers": LARGE,
    "slow chunks": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    "slow HTTP/2 prefaces": b"PRI * HTTP/2.0\r\n",
    "slow TLS handshakes": b"\x16\x03\x01\x02",
}
LISTEN = ("127.0.0.1:0", "https://127.0.0.1:0")
TRICKLED = ("slow heads", "slow bodies")


@row("slow clients", gone("head-timeout"), most=250, unit="ms for others at the 99th percentile", timed=True)
async def slow(ground: Ground) -> Measured:
    """Hundreds each: silent, slow heads, bodies, chunks, handshakes, prefaces, readers; others are served."""
    each, for_s = ground.pick((200, 12.0), (25, 1.5))
    head_timeout_s = for_s / 2
    server = await asyncio.get_running_loop().create_server(Library, "127.0.0.1", 0, backlog=1024)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    directory = Path(ground.stack.enter_context(tempfile.TemporaryDirectory()))
    certificate, key = Authority(directory).issue()
    tls = {"listen": LISTEN, "tls_certificate": str(certificate), "tls_key": str(key)}
    proxy = await ground.start(
        address, address, head_timeout=f"{head_timeout_s:g}s", drain_timeout="200ms", **tls
    )
    by_kind: dict[str, list[Client]] = {}
    for kind, first in KINDS.items():
        listener = int("TLS" in kind)
        by_kind[kind] = [await proxy.client(listener, receive_buffer=4096) for _ in range(each)]
        for client in by_kind[kind]:
            await client.send(first)
    crowd = [client for clients in by_kind.values() for client in clients]
    trickling = asyncio.ensure_future(_trickle([one for kind in TRICKLED for one in by_kind[kind]]))
    took_s = await _asked(proxy, for_s)
    trickling.cancel()
    late = [await client.read_until_close() for client in by_kind["slow heads"]]
    assert all(b" 408 " in said.split(b"\r\n", 1)[0] for said in late), late[0]
    for client in by_kind["slow TLS handshakes"]:
        await client.read_until_close()
    seen = await ground.books(proxy)
    assert seen['requests_in_flight{kind="http"}'] >= 2 * each, "slow readers and bodies were sent away"
    reading = by_kind["slow readers"][0]
    whole = await reading.final()
    assert len(whole.body) == MB
    for client in crowd:
        client.close()
    await ground.end(())
    server.close()
    p99_ms = 1000 * statistics.quantiles(took_s, n=100)[98]
    return Measured(p99_ms, f"of {len(took_s):,} requests beside {len(crowd):,} slow ones")


async def _trickle(slow: list[Client]) -> None:
    """A byte each a second, spread over it."""
    while True:
        for number, client in enumerate(slow):
            with contextlib.suppress(OSError):
                client.wire.send(b"y")
            if number % 10 == 9:
                await asyncio.sleep(10 / len(slow))
        await asyncio.sleep(0)


async def _asked(proxy: Proxy, for_s: float) -> list[float]:
    """Ask on eight connections, 25 times a second each; every answer must be right."""
    took = []
    until = time.monotonic() + for_s

    async def ask() -> None:
        caller = Caller(proxy.addresses[0])
        while (began := time.monotonic()) < until:
            assert await caller.ask(QUESTION) == answer(0)
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.04)
        caller.close()

    await asyncio.gather(*(ask() for _ in range(8)))
    return took


# Stalled ones.

PIECE = bytes(range(256)) * 256


class Endless(asyncio.Protocol):
    """Answers with `pieces` of 64 KiB, as fast as they are taken."""

    pieces = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self._room = asyncio.Event()
        self._room.set()

    def pause_writing(self) -> None:
        """Wait."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._room.set()

    def data_received(self, data: bytes) -> None:
        """Begin an answer."""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (self.pieces * len(PIECE)))
        self._task = asyncio.ensure_future(self._pour())

    async def _pour(self) -> None:
        for _ in range(self.pieces):
            await self._room.wait()
            if self.transport.is_closing():
                return
            self.transport.write(PIECE)


@row("stalled client", Evidence(series="buffered_bytes"), most=4, unit="MiB more than before")
async def stalled(ground: Ground) -> Measured:
    """A GB for a client that does not read; then it reads, stalls again and again, and gets every byte."""
    size = ground.pick(1 << 30, 64 * MB)
    Endless.pieces = size // len(PIECE)
    server = await asyncio.get_running_loop().create_server(Endless, "127.0.0.1", 0)
    proxy = await ground.start(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with await proxy.client() as once:
        await once.send(get())
        await once.read_exactly(MB)
    await asyncio.sleep(0.2)
    before, peak = proxy.dirty_bytes(), 0
    client = await proxy.client()
    await client.send(get())
    async with asyncio.timeout(20.0):
        while not (await ground.books(proxy))["buffered_bytes"]:
            await asyncio.sleep(0.05)
    await asyncio.sleep(ground.pick(3.0, 0.3))
    head = await client.read_head()
    assert b"Content-Length: %d\r\n" % size in head
    got = 0
    while got < size:
        if not client.received:
            await client.need()
        piece = client.take(len(client.received))
        at = got % 256
        assert piece == (PIECE * (len(piece) // len(PIECE) + 2))[at : at + len(piece)]
        if got // (16 * MB) != (got + len(piece)) // (16 * MB):
            await asyncio.sleep(0.05)
            peak = max(peak, proxy.dirty_bytes())
        got += len(piece)
    client.close()
    server.close()
    return Measured(max(0, peak - before) / MB, f"at most, for {size / MB:,.0f} MiB")


# Idle ones.

BASE_BYTES = 50_000_000
"""What the process may take without a client."""


@row("idle connections", Evidence(series='client_connections{state="idle"}'), most=10, unit="KB each")
async def idle(ground: Ground) -> Measured:
    """10,000 kept connections that have asked once: resident memory beyond 50 MB, shared among them."""
    count = ground.pick(10_000, 500)
    async with Shop(60.0) as shop:
        proxy = await ground.start(shop.address, max_connections="10000")
        kept: list[Caller] = []
        for _ in range(0, count, 100):
            callers = [Caller(proxy.addresses[0]) for _ in range(100)]
            assert {*await asyncio.gather(*(each.ask(QUESTION) for each in callers))} == {answer(0)}
            kept += callers
        seen = await ground.books(proxy)
        assert seen['client_connections{state="idle"}'] == count
        assert not seen["client_connections_evicted_total"]
        rss_bytes = proxy.rss_bytes()
        for caller in kept:
            caller.close()
    each_kb = max(0, rss_bytes - BASE_BYTES) / count / 1000
    return Measured(each_kb, f"with {count:,} connections, {rss_bytes / 1e6:.0f} MB in all")
