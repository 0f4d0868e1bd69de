"""Clients that vanish at every moment of an exchange leave nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.integration.application import Application
from tests.integration.scene import OK, get, post, report

if TYPE_CHECKING:
    from tests.support.upstream import Connection

CLIENTS = 500
PIECE = b"x" * 65536
STREAM = PIECE * 100
"""More than sockets hold between here and a client that does not read."""


async def application(connection: Connection) -> None:
    """Answer at once, never, or with more than anybody reads, by the path."""
    while (request := await connection.read_request()).start:
        path = request.start.split(b" ")[1]
        if path == b"/hold":
            await connection.more()
        elif path == b"/stream":
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(STREAM))
            await connection.send(STREAM)
        else:
            await connection.send(OK)


async def vanish(proxy, number: int) -> None:
    """Reset a connection in one of six states."""
    client = await proxy.client(receive_buffer=16384)
    match number % 6:
        case 0:
            pass
        case 1:
            await client.send(get()[:20])
        case 2:
            await client.send(post(PIECE)[: 60 + 1000 * (number % 50)])
        case 3:
            await client.send(get("/hold"))
        case 4:
            await client.send(get("/stream"))
            await client.read_exactly(1000)
        case 5:
            assert (await client.ask(get())).raw == OK
            await client.send(get("/hold") + get("/next"))
    client.reset()


async def books(proxy) -> dict[str, float]:
    """Return what the process has open."""
    metrics = await proxy.metrics()
    names = ('requests_in_flight{kind="http"}', "client_connections{", "upstream_connections{")
    return {name: value for name, value in metrics.items() if name.startswith(names)}


async def test_500_resets_leave_nothing_behind(start):
    """Descriptors, connections on both sides and work in flight are back where they were."""
    async with Application(application) as upstream:
        proxy = await start(upstream, upstream_idle="200ms", access_log="off")
        await proxy.metrics()
        before = proxy.descriptors()
        for first in range(0, CLIENTS, 50):
            await asyncio.gather(*(vanish(proxy, number) for number in range(first, first + 50)))
        async with asyncio.timeout(10.0):
            # Nobody announces it: what is left is counted, by descriptor and by the books.
            while any((left := await books(proxy)).values()):
                await asyncio.sleep(0.02)
            while proxy.descriptors() > before:
                await asyncio.sleep(0.02)
        assert set(left.values()) == {0}
        assert len(left) == 5
        client = await proxy.client()
        assert (await client.ask(get())).raw == OK
        client.close()
        proxy.signal()
        assert await proxy.exit_code() == 0
        await report(proxy)
