"""An application for a test's own purposes: it comes late, goes, and comes back to its port."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.client import Client
from tests.support.upstream import Connection, Upstream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Application(Upstream):
    """`port`: the one to listen on, which nobody else holds; 0 for a free one."""

    def __init__(
        self, handle: Callable[[Connection], Awaitable[None]] | None = None, *, port: int = 0, **how: float
    ) -> None:
        super().__init__(handle, **how)
        if port:
            self._wire.close()
            self._wire = socket.create_server(("127.0.0.1", port), backlog=1024)
            self._wire.setblocking(False)

    async def _accept(self) -> None:
        # No accept is under way while this waits: ending it loses no connection.
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()
        loop.add_reader(self._wire, rung.set)
        try:
            while True:
                await rung.wait()
                rung.clear()
                self._take_all()
        finally:
            loop.remove_reader(self._wire)

    def _take_all(self) -> None:
        while True:
            try:
                wire, _ = self._wire.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            connection = Connection(wire, self.accepted + 1, self._keep_alive_s)
            self.connections.append(connection)
            if self._handle is None:
                self._new.put_nowait(connection)
            else:
                self._spawn(self._run(connection))

    async def stop_listening(self) -> None:
        """Refuse new connections; keep those that are open."""
        for task in [task for task in self._tasks if task.get_coro().__name__ == "_accept"]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        address = ("127.0.0.1", self.port)
        self._wire.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(address)
