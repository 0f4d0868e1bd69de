"""A raw byte client: writes what it is told, keeps every byte that comes back.

It knows nothing of requests; replies are read by `answers` each time bytes arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from tests.conformance import answers
from tests.conformance.answers import Answers, Ended
from tests.conformance.pace import pieces

if TYPE_CHECKING:
    from tests.conformance.bell import Bell


class Client(asyncio.Protocol):
    """One connection to the proxy; `methods` are those of the requests it sends."""

    def __init__(self, bell: Bell, methods: list[bytes]) -> None:
        self.received = bytearray()
        self.ended = Ended.OPEN
        self._bell = bell
        self._methods = methods
        self._transport: asyncio.Transport
        self._room = asyncio.Event()
        self._room.set()
        self._read: tuple[int, Ended] | None = None
        self._answers = Answers()

    @classmethod
    async def connect(cls, port: int, bell: Bell, methods: list[bytes]) -> Client:
        """Connect to a loopback port without Nagle's delay."""
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_connection(lambda: cls(bell, methods), "127.0.0.1", port)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep the bytes."""
        self.received += data
        self._bell.ring()

    def eof_received(self) -> bool:
        """Note the FIN, stay open for writing: a proxy may answer and half-close."""
        self.ended = Ended.FIN
        self._bell.ring()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note a reset; a FIN seen before it counts as the end."""
        if self.ended is Ended.OPEN:
            self.ended = Ended.RESET if exc else Ended.FIN
        self._room.set()
        self._bell.ring()

    def pause_writing(self) -> None:
        """The kernel's buffer is full."""
        self._room.clear()

    def resume_writing(self) -> None:
        """There is room again."""
        self._room.set()

    @property
    def answers(self) -> Answers:
        """What the bytes so far say."""
        state = (len(self.received), self.ended)
        if self._read != state:
            self._answers = answers.read(bytes(self.received), self._methods, self.ended)
            self._read = state
        return self._answers

    @property
    def closed(self) -> bool:
        """Whether the proxy ended the connection."""
        return self.ended is not Ended.OPEN

    async def send(self, data: bytes, *, bytewise: bool = False) -> None:
        """Write until all is taken or the connection is gone."""
        for piece in pieces(data, bytewise=bytewise):
            if self._transport.is_closing():
                return
            self._transport.write(piece)
            await asyncio.sleep(0)  # let the other lanes run: the next byte is another packet
            await self._room.wait()

    def finish(self) -> None:
        """Send FIN, go on reading."""
        with contextlib.suppress(OSError):  # a reset may be on its way
            if not self._transport.is_closing():
                self._transport.write_eof()

    def close(self) -> None:
        """Leave at once."""
        self._transport.abort()
