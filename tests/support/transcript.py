"""Conversations without sockets: bytes in, bytes out, written down as text and compared to the last one.

A transcript has a step a line; `|` is CRLF, `\\n` a lone LF.

    C: bytes    the client sends        S: bytes    the application says
    C.          the client half-closes  S.          the application closes
    C!          the client resets       S!          the application resets
    C< bytes    the client has got      S< bytes    the application has got
    C<.         it sees an end          S<.         it sees an end
    C<!         it sees a reset         S+          a connection is made to it; the following are on that one
    SIGTERM     the drain begins        refused     nobody listens at the application's address from now on

What was said and is not in the transcript fails it. `Date` is left out of what the client gets.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from typing import TYPE_CHECKING, Any

from drainproxy.proxy.http1.connection import ClientConnection
from tests.support.house import House
from tests.support.wire import turns

if TYPE_CHECKING:
    from collections.abc import Callable

TURNS = 12
"""Turns of the loop after which everybody has said what there is to say: no time passes meanwhile."""
_DATE = re.compile(rb"Date: [^\r]*\r\n")


class Descriptor:
    """What is asked of a transport's socket: nothing is to be read from it, and nobody has hung up."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK)
        self.resets = False

    def fileno(self) -> int:
        """A descriptor on which nothing ever comes."""
        return self._read_end

    def setsockopt(self, level: int, name: int, value: object) -> None:
        """Note whether the close is to be a reset."""
        self.resets = self.resets or (level, name) == (socket.SOL_SOCKET, socket.SO_LINGER)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._read_end)
        os.close(self._write_end)


class Recorded(asyncio.Transport):
    """A transport whose other end takes everything at once, and writes it down."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.descriptor = Descriptor()
        super().__init__({"socket": self.descriptor, "peername": ""})
        self._protocol = protocol
        self._reading = True
        self._unread: list[Callable[[], object]] = []
        """What has come while it was not read from."""
        self._closing = False
        self.said = bytearray()
        self.end = ""

    # The other end.

    def send(self, data: bytes) -> None:
        """Have `data` come."""
        self._arrives(lambda: self._protocol.data_received(data))

    def half_close(self) -> None:
        """Have an end come; without a wish to say more, the transport closes."""
        self._arrives(lambda: self._protocol.eof_received() or self.close())

    def reset(self) -> None:
        """Have the connection break."""
        self._lose(ConnectionResetError())

    def _arrives(self, act: Callable[[], object]) -> None:
        if self._reading:
            act()
        else:
            self._unread.append(act)

    def take(self) -> bytes:
        """Return what was said since the last time."""
        said = _DATE.sub(b"", bytes(self.said))
        self.said.clear()
        return said

    # asyncio.Transport.

    def get_protocol(self) -> asyncio.BaseProtocol:
        """See asyncio.Transport."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See asyncio.Transport."""
        self._protocol = protocol  # type: ignore[assignment]

    def is_reading(self) -> bool:
        """See asyncio.Transport."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """See asyncio.Transport."""
        self._reading = False

    def resume_reading(self) -> None:
        """See asyncio.Transport."""
        self._reading = True
        while self._unread and self._reading and not self._closing:
            self._unread.pop(0)()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio.Transport."""
        assert not self.end, f"said behind an end: {bytes(data)!r}"
        self.said += data

    def get_write_buffer_size(self) -> int:
        """See asyncio.Transport. Everything is taken."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.Transport."""

    def write_eof(self) -> None:
        """See asyncio.Transport."""
        self.end = self.end or "."

    def is_closing(self) -> bool:
        """See asyncio.Transport."""
        return self._closing

    def close(self) -> None:
        """See asyncio.Transport."""
        self._lose(None)

    def abort(self) -> None:
        """See asyncio.Transport."""
        self._lose(None)

    def _lose(self, why: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self.end = "!" if self.descriptor.resets else self.end or "."
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, why)


class Stage:
    """One client, the proxy, and the application's connections, the last of which speaks."""

    def __init__(self, **settings: Any) -> None:
        self.house = House("http://application:80", **settings)
        self.house.pool.dialer = self  # type: ignore[assignment]
        self._listens = True
        protocol = ClientConnection(self.house.registry)
        self.client = Recorded(protocol)
        protocol.connection_made(self.client)
        self.dialled: list[Recorded] = []
        """Connections to the application that the transcript has not got to yet."""
        self.application: Recorded | None = None
        self._all = [self.client]

    async def dial(self, make: Callable[[], asyncio.Protocol], *, small: bool = False) -> asyncio.Transport:
        """Connect to the application, as a Dialer does."""
        if not self._listens:
            raise ConnectionRefusedError
        protocol = make()
        transport = Recorded(protocol)
        self._all.append(transport)
        self.dialled.append(transport)
        protocol.connection_made(transport)
        return transport

    async def play(self, transcript: str, *, bytewise: bool = False) -> None:
        """Go through it, line by line."""
        try:
            for line in map(str.strip, transcript.strip().splitlines()):
                if line:
                    await self._step(line, bytewise=bytewise)
            self._all_was_told("the end")
            self.client.reset()
            await turns(TURNS)
            self._nothing_left()
        finally:
            await self.close()

    async def _step(self, line: str, *, bytewise: bool) -> None:
        what, _, text = line.partition(" ")
        data = text.replace("|", "\r\n").replace("\\n", "\n").encode("latin-1")
        if what.startswith(("C<", "S<")):
            peer = self.client if what[0] == "C" else self.application
            assert peer is not None, f"nobody has connected: {line}"
            if what[2:]:
                assert (peer.take(), peer.end) == (b"", what[2:]), line
                peer.end = "seen"
            else:
                got = peer.take()
                assert got == data, (
                    f"{line}\nbut got: {got.decode('latin-1').replace(chr(13) + chr(10), '|')}"
                )
            return
        if what == "S+":
            self.application = self.dialled.pop(0)
            return
        self._all_was_told(line)
        await self._happens(what, data, bytewise=bytewise)

    async def _happens(self, what: str, data: bytes, *, bytewise: bool) -> None:
        peer = self.client if what[0] == "C" else self.application
        if what == "SIGTERM":
            self.house.sigterm()
        elif what == "refused":
            self._listens = False
        elif peer is None:
            raise AssertionError(f"nobody has connected: {what}")
        elif what[1:] == ":":
            for piece in [data[at : at + 1] for at in range(len(data))] if bytewise else [data]:
                peer.send(piece)
                await turns(TURNS if bytewise else 0)
        else:
            {".": peer.half_close, "!": peer.reset}[what[1:]]()
        await turns(TURNS)

    def _all_was_told(self, before: str) -> None:
        """Fail if something was said that no line is about."""
        for peer in self._all:
            said = _shown(peer.take())
            assert not said, f"before {before!r}, {'C' if peer is self.client else 'S'}< {said}"
            assert peer.end in {"", "seen"}, f"before {before!r}, an end: {peer.end}"
        assert not self.dialled, f"before {before!r}, a connection"

    def _nothing_left(self) -> None:
        house = self.house
        assert not house.task_failures, house.task_failures
        assert not house.diary.of("defect"), house.diary.of("defect")
        assert not len(house.inflight), list(house.inflight)
        assert not house.registry.clients

    async def close(self) -> None:
        """Let go of everything."""
        house = self.house
        await house.tasks.cancel()
        house.plane.pool.stop()
        for transport in self._all:
            transport.abort()
        await turns(TURNS)
        for transport in self._all:
            transport.descriptor.close()


def _shown(data: bytes) -> str:
    """As a transcript writes it."""
    return data.decode("latin-1").replace("\r\n", "|").replace("\n", "\\n")
