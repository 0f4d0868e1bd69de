"""What one abusive HTTP/2 connection costs the process: less than a MiB."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.http2 import END_HEADERS, HEADERS, PREFACE, RST, SETTINGS, Http2, frame, settings
from tests.support.process import Proxy
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from tests.support.wire import Wire

CONNECTIONS = 12
STREAMS = 1000
MIB = 1 << 20
LONG_PATH = b"\0\x05:path\x7f\xb9\x16/" + b"a" * 2_999
"""A literal that is not indexed (RFC 7541 section 6.2.2)."""


async def greedy(proxy: Proxy) -> Http2:
    """Hold as much as may be held: every stream, long paths, streams to be remembered, half a block, and
    half a frame."""
    client = Http2(await proxy.client())
    await client.send(PREFACE, settings())
    for first in (1, 2 * STREAMS + 1):
        numbers = range(first, first + 2 * STREAMS, 2)
        for number in numbers:
            await client.send(frame(HEADERS, END_HEADERS, number, LONG_PATH))
        if first == 1:
            await client.send(*(frame(RST, 0, number, bytes(4)) for number in numbers))
    await client.send(frame(HEADERS, 0, 4 * STREAMS + 1, b"x" * 16_000)[:-1])
    return client


async def swallow(connection: Wire) -> None:
    """Take whatever comes, and begin a large frame."""
    await connection.send(settings(max_frame_size=65536) + frame(SETTINGS, 0, 0, bytes(6) * 2000)[:-1])
    while await connection.more():
        connection.received.clear()


@pytest.mark.parametrize("inspect", ["false", "true"])
async def test_an_abusive_connection_costs_less_than_a_mebibyte(inspect: str) -> None:
    """A dozen of them, at the limits that hold if nobody sets any, read or not."""
    async with (
        Upstream(swallow) as upstream,
        Proxy(upstreams=[upstream.address], h2_inspect=inspect) as proxy,
    ):
        await proxy.ready()
        first = await greedy(proxy)
        await streams(proxy, STREAMS)
        before = proxy.rss_bytes()
        rest = await asyncio.gather(*(greedy(proxy) for _ in range(CONNECTIONS)))
        await streams(proxy, STREAMS * (CONNECTIONS + 1))
        cost = (proxy.rss_bytes() - before) / CONNECTIONS
        print(f"{cost / MIB:.2f} MiB each")
        assert cost < MIB
        for client in (first, *rest):
            client.wire.reset()
        await streams(proxy, 0)


async def streams(proxy: Proxy, count: int) -> None:
    """Return when so many are open."""
    async with asyncio.timeout(60):
        while (await proxy.metrics())['requests_in_flight{kind="http2"}'] != count:
            await asyncio.sleep(0.05)
