"""The application behind clients that stop (standstill.py), in a process of its own: it holds what it gets.

`python -m tests.chaos.holding` says at which port it listens, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, ClassVar, cast

from drainproxy.proxy.limits.capacity import raise_descriptors
from tests.support.http2 import settings
from tests.support.words import OK, switching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Application(asyncio.Protocol):
    """Answers /small, upgrades, speaks HTTP/2; holds everything else, and reads as little as it can."""

    live: ClassVar[set[Application]] = set()
    """Nobody else holds on to one that does not read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self.live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.live.discard(self)

    def data_received(self, data: bytes) -> None:
        """Look at what has come only as far as the first line."""
        if data.startswith(b"PRI "):
            self.transport.write(settings(max_frame_size=65536))
        elif data.startswith(b"GET /small"):
            self.transport.write(OK)
        elif data.startswith(b"GET /large"):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + bytes(1048576))
        elif data.startswith(b"GET /tunnel"):
            protocol = data.lower().partition(b"upgrade: ")[2].partition(b"\r\n")[0]
            if protocol == b"upgrade":
                protocol = data.lower().rpartition(b"upgrade: ")[2].partition(b"\r\n")[0]
            self.transport.write(switching(protocol.decode()))
            self.transport.pause_reading()
        elif data.startswith((b"GET /held", b"POST /unread")):
            self.transport.pause_reading()


@contextlib.asynccontextmanager
async def application() -> AsyncIterator[tuple[str, int]]:
    """Have one run; yield its address as an upstream's, and its process."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.holding",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await child.stdout.readline())}", child.pid
    finally:
        child.stdin.close()
        await child.wait()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Application, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    raise_descriptors()
    asyncio.run(_serve())
