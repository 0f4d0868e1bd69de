"""How much of what passes through is held here? One account for the process, and what is done about too much.

Whoever cannot be written to makes the other side wait, so a stream holds less than half a MiB by itself; a
thousand of them would still be too much. From `max_buffer_bytes` on, every connection reads in small pieces
and waits until each is gone: streams that are taken go on, slower, and those that are not hold next to
nothing more. Nothing is cut for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Protocol

from drainproxy.proxy.outbox import LARGE_BYTES
from drainproxy.proxy.tls import Tls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

    from drainproxy.proxy.outbox import Outbox

RECEIVE_BYTES = 64 * 1024
"""What the kernel holds of an answer that is not read yet: as much as it offers at first, and no more.
It would grow to 6 MiB; over loopback, where the application is, this much is as fast."""
UNSENT_BYTES = 64 * 1024
"""What the kernel takes beyond what is on its way (TCP_NOTSENT_LOWAT, tcp(7)). It would be up to 4 MiB."""
KERNEL_BYTES = 2 * RECEIVE_BYTES + UNSENT_BYTES
"""What a stream that waits costs there, which cgroup version 2 counts too: in its books a received byte is
two (socket(7))."""
SMALL_BYTES = 8 * 1024
"""One read, and each of the kernel's shares, while too much is held."""
MAX_AHEAD_BYTES = 64 * 1024
"""Bytes read beyond the current request. Reading goes on until then: a paused transport reports no close."""
MAX_PARTIAL_BYTES = 4 * 1024
"""A head that has begun and is larger counts as held; while too much is held it is refused."""
RELAX_S = 5.0
"""For so long at least connections stay as they are made when too much is held."""
TCP_NOTSENT_LOWAT = 25
"""Not in the socket module on every system (netinet/tcp.h)."""


class Reader(Protocol):
    """A protocol on a transport."""

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Side(Reader, Protocol):
    """Either side of a stream."""

    transport: asyncio.Transport


class SmallReads(asyncio.BufferedProtocol):
    """Stands before a Reader and has it given no more than SMALL_BYTES at a time."""

    __slots__ = ("_reader", "connection_lost", "eof_received", "pause_writing", "resume_writing")
    _buffer = memoryview(bytearray(SMALL_BYTES))
    """One for all: what was read is handed on before anything else is read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        for name in ("connection_lost", "eof_received", "pause_writing", "resume_writing"):
            setattr(self, name, getattr(reader, name))

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        self._reader.data_received(bytes(self._buffer[:nbytes]))


class Buffers:
    """Written by connections, each for what waits in it."""

    def __init__(self, max_bytes: int, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        self.max_bytes = max_bytes
        self._outbox = outbox
        self._loop = loop
        self._held: dict[Hashable, int] = {}
        self.held_bytes = 0
        self.tight = False
        """Too much is held, or was a moment ago."""
        self.max_ahead_bytes = MAX_AHEAD_BYTES
        self.sides: list[Collection[Side]] = []
        """Every connection, of whatever kind."""
        self.on_change: Callable[[], None] = lambda: None

    def hold_stream(self, transport: asyncio.Transport) -> None:
        """Note that a transport's other end does not take what it gets."""
        kernel_bytes = 3 * SMALL_BYTES if self.tight else KERNEL_BYTES
        self.hold(transport, transport.get_write_buffer_size() + kernel_bytes)

    def hold(self, who: Hashable, size: int) -> None:
        """Note that `size` bytes wait in `who`; `free` or 0 once nothing does."""
        self.held_bytes += size - self._held.get(who, 0)
        self._held[who] = size
        if self.held_bytes > self.max_bytes and not self.tight:
            self._loop.call_later(RELAX_S, self._relax)
            self._switch(tight=True)

    def free(self, who: Hashable) -> None:
        """Note that nothing waits in `who`."""
        self.held_bytes -= self._held.pop(who, 0)

    def fit(self, side: Side) -> None:
        """Have a connection hold as much as there is room for."""
        reader: Reader = side
        transport = side.transport
        if transport.is_closing() or getattr(side, "awaits_header", False):
            # Who is still at the door is not to be read from in its place.
            return
        bound_unsent(transport.get_extra_info("socket"), SMALL_BYTES if self.tight else UNSENT_BYTES)
        if isinstance(transport, Tls):
            # What is read is read for it.
            reader, transport = transport, transport.plain
        transport.set_protocol(SmallReads(reader) if self.tight else reader)  # type: ignore[arg-type]
        transport.set_write_buffer_limits(high=0 if self.tight else None)
        if transport.is_reading():
            # How it reads is looked up where it begins to.
            transport.pause_reading()
            transport.resume_reading()

    def _relax(self) -> None:
        if self.held_bytes > self.max_bytes // 2:
            self._loop.call_later(RELAX_S, self._relax)
        else:
            self._switch(tight=False)

    def _switch(self, *, tight: bool) -> None:
        self.tight = tight
        self.max_ahead_bytes = SMALL_BYTES if tight else MAX_AHEAD_BYTES
        # Put off, the small pieces of one turn would add up before anybody could say that it is too much.
        self._outbox.large_bytes = 0 if tight else LARGE_BYTES
        for sides in self.sides:
            for side in list(sides):
                self.fit(side)
        self.on_change()


def bound_unsent(wire: socket.socket, size: int = UNSENT_BYTES) -> None:
    """Bound what the kernel takes of a TCP socket's unsent bytes; accepted sockets inherit it."""
    with contextlib.suppress(OSError):
        # A Unix socket does not know it, and holds little.
        wire.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, size)


def bound_received(wire: socket.socket, size: int = RECEIVE_BYTES) -> None:
    """Bound what the kernel holds of what is not read. Never to less than the socket has offered already:
    its sender would wait for room that does not come."""
    with contextlib.suppress(OSError):
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


async def connect_small(make: Callable[[], asyncio.Protocol], host: str, port: int) -> asyncio.Transport:
    """Connect to an IP address over a socket that offers SMALL_BYTES from the first."""
    loop = asyncio.get_running_loop()
    wire = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        wire.setblocking(False)
        bound_received(wire, SMALL_BYTES)
        await loop.sock_connect(wire, (host, port))
        transport, _ = await loop.create_connection(make, sock=wire)
    except BaseException:
        wire.close()
        raise
    return transport
