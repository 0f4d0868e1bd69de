"""An application for a test's own purposes: it comes late, goes, and comes back to its port."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import Client
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.upstream import Connection


class Application(Upstream):
    """`port`: the one to listen on, which nobody else holds; 0 for a free one."""

    def __init__(
        self, handle: Callable[[Connection], Awaitable[None]] | None = None, *, port: int = 0, **how: Any
    ) -> None:
        super().__init__(handle, **how)
        if port:
            self._wire.close()
            self._wire = socket.create_server(("127.0.0.1", port))
            self._wire.setblocking(False)

    async def stop_listening(self) -> None:
        """Refuse new connections; keep those that are open."""
        address = ("127.0.0.1", self.port)
        asyncio.get_running_loop().remove_reader(self._wire)
        self._wire.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(address)
