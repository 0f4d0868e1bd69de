"""A deliberately bad proxy, to show that the runner can fail: bytes in, bytes out, no HTTP.

It keeps a connection to the application for the next client whatever was going on, which is
how one client comes to read the answer to another.  Real sockets, no process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """Forwards everything; `pooled` says whether connections to the application are kept."""

    name = "relay"
    pid: int | None = None  # it lives in the test's own process

    def __init__(self, *, pooled: bool = True) -> None:
        self.fronts: list[int] = []
        self.reads = 0
        self.pooled = pooled
        self._servers: list[asyncio.Server] = []
        self._idle: dict[int, list[Pair]] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, upstreams: list[int]) -> None:
        """Listen once for each application."""
        for upstream in upstreams:
            server = await asyncio.start_server(self._handler(upstream), "127.0.0.1", 0)
            self._servers.append(server)
            self.fronts.append(server.sockets[0].getsockname()[1])
            self._idle[upstream] = []

    async def stop(self) -> str:
        """Close everything."""
        for server in self._servers:
            server.close()
        for writer in self._open:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return ""

    def died(self) -> str:
        """It does not die."""
        return ""

    async def in_flight(self) -> int | None:
        """It does not know."""
        return None

    def _handler(self, upstream: int):
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            self._open.add(writer)
            with contextlib.suppress(OSError):
                await self._relay(upstream, (reader, writer))
            writer.close()

        return handle

    async def _relay(self, upstream: int, client: Pair) -> None:
        idle = self._idle[upstream]
        app = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", upstream)
        self._open.add(app[1])
        ways = [
            asyncio.ensure_future(self._copy(client[0], app[1])),
            asyncio.ensure_future(self._copy(app[0], client[1])),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        if self.pooled and not app[0].at_eof():
            idle.append(app)
        else:
            app[1].close()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            self.reads += 1
            sink.write(data)
            await sink.drain()
