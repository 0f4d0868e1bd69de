"""Has the application begun to read what it was sent? The kernel knows: both ends are in one namespace.

Asked of one socket at a time by sock_diag(7), 15 us each and without a privilege; of a Unix socket's own end.
Where nobody can tell (another machine, gVisor), the answer is that it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

_SOCK_DIAG, _BY_FAMILY, _REQUEST = 4, 20, 1
_TCP, _EVERY_STATE = 6, 0xFFFFFFFF
_LISTENING: Final = 10
_REQUEST_HEAD: Final = struct.Struct("=IHHII")
_ASKED: Final = struct.Struct("=BBBBI")
_PORTS: Final = struct.Struct(">HH")
_INTERFACE_AND_COOKIE: Final = struct.pack("=III", 0, _EVERY_STATE, _EVERY_STATE)
_STATE_AT, _QUEUE_AT = 17, 72
"""Of struct inet_diag_msg behind the header: idiag_state, and idiag_rqueue behind the socket's identity."""
_QUEUE_AND_INODE: Final = struct.Struct("=I8xI")
_ACKNOWLEDGED_AT: Final = 120
"""tcpi_bytes_acked in struct tcp_info; it counts the SYN."""
_UNREAD_OF_UNIX: Final = 0x5411
_NOTHING: Final = b"\0" * 4
"""SIOCOUTQ: what the other end of a Unix socket has not read."""


class _Seen(NamedTuple):
    state: int
    queue: int
    """Bytes that were not read; of a listener, connections that were not accepted."""
    inode: int
    """0 where no process has it."""


class Stage(IntEnum):
    """How far a request on a new connection has come."""

    READ = 0
    """Some of it, or nobody can tell."""
    UNREAD = 1
    UNACCEPTED = 2
    """The kernel has the connection, and the application does not."""


def stage(transport: asyncio.BaseTransport) -> Stage:
    """Tell how far the other end has come with what was sent on a connection, all of it together.

    A Unix socket tells of a rest alone, which is all of it if the request is small, and not who has it.
    """
    wire = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, struct.error):
        if wire.family == socket.AF_UNIX:
            rest = fcntl.ioctl(wire.fileno(), _UNREAD_OF_UNIX, _NOTHING)
            return Stage.READ if rest == _NOTHING else Stage.UNREAD
        info = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AT + 8)
        sent = struct.unpack_from("=Q", info, _ACKNOWLEDGED_AT)[0] - 1
        if sent > 0 and (seen := _ask(wire.family, wire.getpeername(), wire.getsockname())) is not None:
            if seen.queue < sent:
                return Stage.READ
            return Stage.UNREAD if seen.inode else Stage.UNACCEPTED
    return Stage.READ


def backlog(transport: asyncio.BaseTransport) -> int:
    """Return how many connections wait to be accepted where this one was."""
    wire = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, struct.error):
        if wire.family != socket.AF_UNIX:
            nobody = "0.0.0.0" if wire.family == socket.AF_INET else "::"  # noqa: S104 - binds to nothing
            seen = _ask(wire.family, wire.getpeername(), (nobody, 0))
            if seen is not None and seen.state == _LISTENING:
                return seen.queue
    return 0


def _ask(family: int, local: Sequence[object], remote: Sequence[object]) -> _Seen | None:
    """Return what there is of the socket with these ends; None where there is none."""
    hosts = [str(end[0]).partition("%")[0] for end in (local, remote)]
    packed = [socket.inet_pton(family, host).ljust(16, b"\0") for host in hosts]
    body = b"".join(
        (
            _ASKED.pack(family, _TCP, 0, 0, _EVERY_STATE),
            _PORTS.pack(local[1], remote[1]),
            *packed,
            _INTERFACE_AND_COOKIE,
        )
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
        kernel.setblocking(False)
        kernel.send(_REQUEST_HEAD.pack(_REQUEST_HEAD.size + len(body), _BY_FAMILY, _REQUEST, 1, 0) + body)
        answer = kernel.recv(4096)
    if _REQUEST_HEAD.unpack_from(answer)[1] != _BY_FAMILY:
        return None
    return _Seen(answer[_STATE_AT], *_QUEUE_AND_INODE.unpack_from(answer, _QUEUE_AT))
