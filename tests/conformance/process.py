"""A child process and its ports: started, watched, ended; used by every proxy under test."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.conformance.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

START_S = 15.0
STOP_S = 15.0


class Process:
    """A child process whose last lines of output are kept."""

    def __init__(self) -> None:
        self.tail: deque[str] = deque(maxlen=20)
        self.listening: list[dict[str, Any]] = []  # its `listening` log lines, in order
        self._spoke = Bell()
        self._child: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id."""
        return self._child.pid if self._child else None

    async def spawn(self, *argv: str) -> None:
        """Start it; the last lines of what it says stay in `tail`."""
        self._child = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        self._reader = asyncio.get_running_loop().create_task(self._drain())

    async def end(self) -> int | None:
        """Send SIGTERM, wait, kill if that does not help; give the exit code (None: killed)."""
        if self._child is None:
            return 0
        if self._child.returncode is None:
            self._child.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                return await self._child.wait()
        except TimeoutError:
            self._child.kill()
            await self._child.wait()
            return None
        finally:
            if self._reader:
                await self._reader

    def died(self) -> str:
        """Give how it died, or nothing while it lives."""
        if self._child is None or self._child.returncode is None:
            return ""
        return f"exit code {self._child.returncode}; last lines: {' | '.join(self.tail)}"

    async def said_listening(self, count: int) -> list[dict[str, Any]]:
        """Wait for `count` listening lines; raise RuntimeError if they do not come."""
        await self._spoke.until(lambda: len(self.listening) >= count or self._ended(), limit_s=START_S)
        if len(self.listening) < count:
            raise RuntimeError(f"the proxy did not start: {self.died() or list(self.tail)}")
        return self.listening

    def _ended(self) -> bool:
        return self._reader is not None and self._reader.done()

    async def _drain(self) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        async for raw in self._child.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.tail.append(line)
            if '"listening"' in line:
                self.listening.append(json.loads(line))
            self._spoke.ring()
        await self._child.wait()
        asyncio.get_running_loop().call_soon(self._spoke.ring)  # once this task is done


async def with_free_ports(start: Callable[[], Awaitable[None]]) -> None:
    """Call `start` until its ports were still free: another process may take one meanwhile."""
    for attempt in range(3):
        try:
            return await start()
        except RuntimeError:
            if attempt == 2:
                raise
    return None


async def wait_listening(process: Process, ports: list[int]) -> None:
    """Wait until every port takes a connection; raise RuntimeError if the process ends first."""
    try:
        async with asyncio.timeout(START_S):
            for port in ports:
                while not await _takes(port):
                    if died := process.died():
                        raise RuntimeError(f"the proxy did not start: {died}")
                    await asyncio.sleep(0.02)  # another process: nothing else tells
    except TimeoutError:
        raise RuntimeError(f"the proxy does not listen on {ports}: {process.tail}") from None


async def _takes(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def http_get(port: int, path: str) -> str:
    """Fetch a page of the admin listener."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    async with asyncio.timeout(5):
        page = await reader.read()
    writer.close()
    return page.decode(errors="replace")


def free_ports(count: int) -> list[int]:
    """Find free loopback ports: held together, so that they differ, then let go."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports
