"""A raw byte client: writes what it is told, keeps every byte that comes back.

It reads and writes the socket itself: an asyncio transport whose write fails drops what it had
yet to read, and a reply that the kernel holds would look like none.
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

READ_BYTES = 65_536


class Client:
    """One connection to the proxy; `methods` are those of the requests it sends."""

    def __init__(self, sock: socket.socket, bell: Bell, methods: list[bytes]) -> None:
        self.received = bytearray()
        self.ended = Ended.OPEN
        self._sock = sock
        self._bell = bell
        self._methods = methods
        self._broken = False  # a write failed: what the proxy sent before may still be read
        self._read: tuple[int, Ended] | None = None
        self._answers = Answers()
        self._reader = asyncio.get_running_loop().create_task(self._keep_reading())

    @classmethod
    async def connect(cls, port: int, bell: Bell, methods: list[bytes]) -> Client:
        """Connect to a loopback port without Nagle's delay."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        return cls(sock, bell, methods)

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
        loop = asyncio.get_running_loop()
        for piece in pieces(data, bytewise=bytewise):
            if self._broken or self.closed:
                return
            try:
                await loop.sock_sendall(self._sock, piece)
            except OSError:
                self._broken = True
                return
            await asyncio.sleep(0)  # let the other lanes run: the next byte is another packet

    def finish(self) -> None:
        """Send FIN, go on reading."""
        with contextlib.suppress(OSError):  # a reset may be on its way
            self._sock.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Leave at once."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._sock.close()

    async def _keep_reading(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._sock, READ_BYTES):
                self.received += data
                self._bell.ring()
        except OSError:
            self._broken = True
        # A failed write has taken the reset's error with it: reading then ends without one.
        self.ended = Ended.RESET if self._broken else Ended.FIN
        self._bell.ring()
