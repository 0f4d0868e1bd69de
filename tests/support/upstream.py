"""An application that does what a test scripts, byte by byte, over TCP or a Unix socket.

Either the test takes each accepted connection itself (`await upstream.connection()`), or a handler runs for
each (`Upstream(handle)`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

from tests.support.message import Message, read_request
from tests.support.session import Session
from tests.support.wire import PATIENCE_S, End, Ended, Wire
from tests.support.words import OK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class Connection(Wire):
    """One connection that was accepted. `number` counts from 1."""

    def __init__(self, wire: socket.socket, number: int, keep_alive_s: float | None) -> None:
        super().__init__(wire)
        self.number = number
        self.keep_alive_s = keep_alive_s

    async def read_head(self) -> bytes:
        """Return the next request's head. Closes the connection, and raises Ended, after an idle time-out."""
        if self.keep_alive_s is not None and not self.received:
            try:
                async with asyncio.timeout(self.keep_alive_s):
                    await self.more()
            except TimeoutError:
                self.close()
                raise Ended(End.FIN, b"") from None
        return await super().read_head()

    async def read_request(self) -> Message:
        """Return the next request with its body; see `ending` for whether it was complete."""
        return await read_request(self)


class Upstream:
    """A listening socket and what came to it."""

    def __init__(
        self,
        handle: Callable[[Connection], Awaitable[None]] | None = None,
        *,
        path: Path | str | None = None,
        keep_alive_s: float | None = None,
        host: str = "127.0.0.1",
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`path`: a Unix socket. `keep_alive_s`: close a connection that idles for so long.

        `tls`: speak it; see Wire.session.
        """
        self._tls = tls
        self._handle = handle
        self._keep_alive_s = keep_alive_s
        self.path = None if path is None else str(path)
        if self.path is None:
            self._wire = socket.create_server((host, 0))
        else:
            self._wire = socket.socket(socket.AF_UNIX)
            self._wire.bind(self.path)
            self._wire.listen(100)
        if receive_buffer is not None:
            self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._wire.setblocking(False)
        self.connections: list[Connection] = []
        """Every connection accepted, oldest first."""
        self._new: asyncio.Queue[Connection] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._wire.getsockname()[1]

    @property
    def address(self) -> str:
        """What to write into the setting `upstream`."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}" if self.path is None else f"unix:{self.path}"

    @property
    def accepted(self) -> int:
        """How many connections have been accepted."""
        return len(self.connections)

    async def connection(self) -> Connection:
        """Return the next connection accepted, that was not returned yet."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._new.get()

    async def connection_with_bytes(self) -> Connection:
        """Return the next connection on which something was sent: a probe only connects and hangs up."""
        async with asyncio.timeout(PATIENCE_S):
            while not await (connection := await self.connection()).more():
                pass
        return connection

    def _accept(self) -> None:
        """Take in whoever has connected. Called by the loop."""
        with contextlib.suppress(BlockingIOError):
            while True:
                wire, _ = self._wire.accept()
                connection = Connection(wire, self.accepted + 1, self._keep_alive_s)
                if self._tls is not None:
                    connection.session = Session(self._tls, server_side=True)
                self.connections.append(connection)
                if self._handle is None:
                    self._new.put_nowait(connection)
                else:
                    self._spawn(self._run(connection))

    async def _run(self, connection: Connection) -> None:
        assert self._handle is not None
        try:
            with contextlib.suppress(Ended, ConnectionError, ssl.SSLError):
                await self._handle(connection)
        except Exception as failure:
            self.failures.append(failure)
        finally:
            connection.close()

    def _spawn(self, work) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def __aenter__(self) -> Upstream:
        asyncio.get_running_loop().add_reader(self._wire, self._accept)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await self.close()
        if kind is None and self.failures:
            raise self.failures[0]

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._wire.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._wire)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._wire.close()
        for connection in self.connections:
            connection.close()


def answering(response: bytes = OK) -> Callable[[Connection], Awaitable[None]]:
    """Return a handler that answers every request with the same bytes."""

    async def handle(connection: Connection) -> None:
        while (await connection.read_request()).start:
            await connection.send(response)

    return handle
