"""What the kernel knows of a connection and the event loop has not been told, and what it is told of one."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

OUT_OF_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE))
"""Of the process's own, of the machine's."""
OUT_OF_SOCKETS: Final = frozenset((errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM))
"""Of a connect: every local port is taken, or the kernel's memory. Nobody was asked anything."""

RECEIVE_BYTES: Final = 64 * 1024
"""What the kernel holds of an answer that is not read yet: as much as it offers at first, and no more.
It would grow to 6 MiB; over loopback, where the application is, this much is as fast."""
UNSENT_BYTES: Final = 64 * 1024
"""What the kernel takes beyond what is on its way (TCP_NOTSENT_LOWAT, tcp(7)). It would be up to 4 MiB."""
TCP_NOTSENT_LOWAT: Final = 25
"""Not in the socket module on every system (netinet/tcp.h)."""

MAX_LAST_WORDS_BYTES: Final = 256 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def _events(transport: asyncio.BaseTransport, asked: int) -> int:
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        # uvloop closes it before the protocol hears that the other side has gone.
        return select.POLLHUP
    poll = select.poll()
    poll.register(descriptor, asked)
    return next((event for _, event in poll.poll(0)), 0)


def has_bytes(transport: asyncio.BaseTransport) -> bool:
    """Tell whether something waits to be read."""
    return bool(_events(transport, select.POLLIN) & select.POLLIN)


def hung_up(transport: asyncio.BaseTransport, *, half: bool) -> bool:
    """Tell whether the other side has gone; with `half`, having stopped to send is enough.

    A paused transport is told of neither FIN nor RST.
    """
    gone = select.POLLHUP | select.POLLERR | (select.POLLRDHUP if half else 0)
    return bool(_events(transport, select.POLLRDHUP) & gone)


def has_source(family: int, where: tuple[str, int]) -> bool:
    """Tell whether there is an address to ask `where` from: a connect says EADDRNOTAVAIL both where there is
    none, as for ::1 without IPv6, and where all of its ports are taken."""
    with socket.socket(family, socket.SOCK_DGRAM) as wire:
        # Sends nothing, and its ports are others.
        return wire.connect_ex(where) != errno.EADDRNOTAVAIL


def last_words(transport: asyncio.BaseTransport) -> bytes:
    """Read what the other side said before it hung up, where writing to it failed before it was read.

    An early answer to a request whose body is still being sent comes like this (RFC 9112 section 9.6).
    """
    try:
        return os.read(transport.get_extra_info("socket").fileno(), MAX_LAST_WORDS_BYTES)
    except OSError:
        return b""


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Make the close a reset: after a FIN, a close-delimited body would look complete."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def unwind(transport: asyncio.BaseTransport) -> None:
    """Let go of a transport that has ended. asyncio's holds a method of its own: a circle that waits for the
    collector, with its buffer and its socket."""
    if hasattr(transport, "_read_ready_cb"):
        transport._read_ready_cb = None  # noqa: SLF001 - there is no other way


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
