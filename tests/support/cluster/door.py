"""The listening socket: open, shut, or one of the ways in which a network swallows connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


class Mode(Enum):
    """What becomes of a connection."""

    OPEN = auto()
    REFUSING = auto()
    """Nobody listens."""
    RESETTING = auto()
    """It is made and reset."""
    BLACKHOLE = auto()
    """It is made, and nothing is ever read or said."""
    DROPPING = auto()
    """It is never made: the SYN is dropped, as by a NetworkPolicy that denies egress."""


class Door:
    """Accepts connections for an asyncio protocol factory. `accepted` is called with each one's coming."""

    def __init__(
        self,
        factory: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        accepted: Callable[[], None],
    ) -> None:
        self._factory = factory
        self._tls = tls
        self._accepted = accepted
        self._mode = Mode.OPEN
        self._held: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._wire = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._wire.getsockname()[1]
        self._listen()

    @property
    def mode(self) -> Mode:
        """What becomes of a connection now."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        loop = asyncio.get_running_loop()
        if self._wire.fileno() >= 0:
            loop.remove_reader(self._wire)
        for wire in self._held:
            wire.close()
        self._held.clear()
        self._mode = mode
        if mode is Mode.REFUSING:
            self._wire.close()
            return
        if self._wire.fileno() < 0:
            self._wire = socket.create_server(("127.0.0.1", self.port))
        if mode is Mode.DROPPING:
            self._fill()
        else:
            self._listen()

    def _listen(self) -> None:
        self._wire.setblocking(False)
        self._wire.listen(128)
        asyncio.get_running_loop().add_reader(self._wire, self._accept)

    def _fill(self) -> None:
        """Leave no room in the backlog: Linux then drops further SYNs, and the client's connect hangs."""
        self._wire.listen(0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._held.append(filler)

    def _accept(self) -> None:
        try:
            wire, _ = self._wire.accept()
        except BlockingIOError:
            return
        self._accepted()
        if self._mode is Mode.BLACKHOLE:
            self._held.append(wire)
        elif self._mode is Mode.RESETTING:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            wire.close()
        else:
            task = asyncio.get_running_loop().create_task(self._serve(wire))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, wire: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # A client may leave in the middle of a handshake.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(self._factory, wire, ssl=self._tls)

    def close(self) -> None:
        """Shut it for good."""
        self.mode = Mode.REFUSING
        for task in self._tasks:
            task.cancel()
