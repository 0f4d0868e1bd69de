"""More requests than can be answered: pipelined, paced by the clock and not by the answers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

from tests.integration.crowd import QUESTION, answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANSWER = answer(0)
TICK_S = 0.01
AHEAD = 16
"""Requests that a connection has out while capacity is measured."""


class Desk(asyncio.Protocol):
    """The application's end: an answer for each request, at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


class Mouth(asyncio.Protocol):
    """A client's end: counts answers by their bytes, which are all alike."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Count; ask again where capacity is measured."""
        self._bytes += len(data)
        count, self._bytes = divmod(self._bytes, len(ANSWER))
        self._flood.answered += count
        if not self._flood.rate:
            self.ask(count)

    def ask(self, count: int) -> None:
        """Send so many requests."""
        self._flood.sent += count
        self.transport.write(QUESTION * count)


class Flood:
    """`async with Flood(address, connections=64) as flood:` asks as fast as it is answered.

    From `flood.rate = 20_000` on it asks so often a second, answered or not.
    """

    def __init__(self, address: tuple[str, int], *, connections: int) -> None:
        self._address = address
        self._connections = connections
        self.rate = 0.0
        self.sent = self.answered = 0

    async def __aenter__(self) -> Flood:
        loop = asyncio.get_running_loop()
        pairs = [
            await loop.create_connection(lambda: Mouth(self), *self._address)
            for _ in range(self._connections)
        ]
        self._mouths = [mouth for _, mouth in pairs]
        for mouth in self._mouths:
            mouth.ask(AHEAD)
        self._pacing = asyncio.ensure_future(self._pace())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pacing.cancel()
        for mouth in self._mouths:
            mouth.transport.abort()

    async def capacity(self, for_s: float) -> float:
        """Return how many requests a second are answered when everybody always asks."""
        loop = asyncio.get_running_loop()
        before, began = self.answered, loop.time()
        await asyncio.sleep(for_s)
        return (self.answered - before) / (loop.time() - began)

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        last, due, turn = loop.time(), 0.0, 0
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            due += self.rate * (now - last)
            last = now
            while due >= AHEAD:
                self._mouths[turn % len(self._mouths)].ask(AHEAD)
                turn += 1
                due -= AHEAD

    @staticmethod
    @contextlib.asynccontextmanager
    async def application() -> AsyncIterator[str]:
        """Run an application that costs next to nothing; return its address."""
        server = await asyncio.get_running_loop().create_server(Desk, "127.0.0.1", 0, backlog=256)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
