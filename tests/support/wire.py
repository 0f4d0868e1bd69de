"""One end of a socket: what both the scripted application and the raw client are made of.

Nothing is read unless a test asks for it, so a test that does not read is a peer that does not read.
Works on both event loops. Every wait ends after PATIENCE_S: a hang fails, a slow machine does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.session import Session

PATIENCE_S = 20.0
_RECEIVE_BYTES = 256 * 1024


class End(StrEnum):
    """How the other side stopped sending."""

    FIN = "fin"
    RESET = "reset"


class Ended(Exception):
    """The other side stopped sending before what was waited for had come."""

    def __init__(self, end: End, had: bytes) -> None:
        super().__init__(f"{end} after {had[-200:]!r}")
        self.end = end
        self.had = had


class Wire:
    """A connected socket. `received` holds what was read and not yet taken."""

    def __init__(self, wire: socket.socket) -> None:
        wire.setblocking(False)
        if wire.family != socket.AF_UNIX:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire = wire
        self.received = bytearray()
        self.end: End | None = None
        self.session: Session | None = None
        """TLS, where it is spoken. Handshakes by itself, at the first reading or writing."""

    # Reading.

    async def more(self, limit: int = _RECEIVE_BYTES) -> bool:
        """Read once; return False when the other side has stopped sending."""
        if self.end is not None:
            return False
        try:
            async with asyncio.timeout(PATIENCE_S):
                data = await asyncio.get_running_loop().sock_recv(self.wire, limit)
        except (ConnectionResetError, BrokenPipeError):
            self.end = End.RESET
            return False
        if not data:
            self.end = End.FIN
            return False
        if self.session is None:
            self.received += data
            return True
        had = len(self.received)
        try:
            self.received += self.session.decrypt(data)
        finally:
            await self._send(self.session.to_send())
        return len(self.received) > had or await self.more(limit)

    def take(self, size: int) -> bytes:
        """Take the first `size` bytes of what was received."""
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    async def read_exactly(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises Ended."""
        while len(self.received) < size:
            await self.need()
        return self.take(size)

    async def read_to(self, mark: bytes) -> bytes:
        """Return everything up to and with `mark`. Raises Ended."""
        seen = 0
        while (at := self.received.find(mark, max(0, seen - len(mark)))) < 0:
            seen = len(self.received)
            await self.need()
        return self.take(at + len(mark))

    async def read_head(self) -> bytes:
        """Return a message's head with its empty line. Raises Ended."""
        return await self.read_to(b"\r\n\r\n")

    async def read_until_close(self) -> bytes:
        """Return everything until the other side stops sending; `end` tells how it did."""
        while await self.more():
            pass
        return self.take(len(self.received))

    async def need(self) -> None:
        """Read once. Raises Ended if the other side has stopped sending."""
        if not await self.more():
            assert self.end is not None
            raise Ended(self.end, bytes(self.received))

    # Writing.

    async def send(self, data: bytes) -> None:
        """Hand every byte to the kernel."""
        if self.session is not None:
            await self.shake_hands()
            data = self.session.encrypt(data)
        await self._send(data)

    async def shake_hands(self) -> None:
        """Finish the handshake. Raises ssl.SSLError where it fails, Ended where the other side ends it."""
        session = self.session
        assert session is not None
        while not session.shaken and not session.shake():
            await self._send(session.to_send())
            plain, self.session = self.received, None
            self.received = bytearray()
            try:
                await self.need()
                data = bytes(self.received)
            finally:
                self.received, self.session = plain, session
            try:
                self.received += session.decrypt(data)
            finally:
                await self._send(session.to_send())
        await self._send(session.to_send())

    async def say_bye(self) -> None:
        """Send a close_notify, and nothing more after it."""
        assert self.session is not None
        await self._send(self.session.say_bye())

    async def _send(self, data: bytes) -> None:
        if not data:
            return
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_sendall(self.wire, data)

    async def send_bytewise(self, data: bytes) -> None:
        """Send byte by byte; the loop turns in between, so that a peer in this process sees each alone."""
        for at in range(len(data)):
            await self.send(data[at : at + 1])
            await turns(2)

    async def send_until_stuck(self, piece: bytes, limit: int, quiet_s: float = 0.3) -> int:
        """Send `piece` again and again until nobody takes more for `quiet_s`, or `limit` bytes went.

        Return how many bytes the other side, or the kernel on its way, has taken.
        """
        loop = asyncio.get_running_loop()
        sent, taken_at = 0, loop.time()
        while sent < limit and loop.time() - taken_at < quiet_s:
            try:
                sent += self.wire.send(piece)
                taken_at = loop.time()
            except BlockingIOError:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0)
        return sent

    def half_close(self) -> None:
        """Stop sending: the other side reads an end, and may still answer."""
        self.wire.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        if self.wire.family != socket.AF_UNIX:
            self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close. With unread bytes in the kernel that is a RST too."""
        if self.wire.fileno() >= 0:
            # Somebody may still wait for it: a loop must not watch a number that the next socket gets.
            with contextlib.suppress(RuntimeError):
                loop = asyncio.get_running_loop()
                loop.remove_reader(self.wire)
                loop.remove_writer(self.wire)
        self.wire.close()


async def turns(count: int) -> None:
    """Let the event loop turn `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)
