"""Has the application begun to read what it was sent? The kernel knows: both ends are in one namespace.

Asked of one socket at a time by sock_diag(7), 15 us each and without a privilege; of a Unix socket's own end.
Where nobody can tell (another machine, gVisor), the answer is that it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

_SOCK_DIAG, _BY_FAMILY, _REQUEST = 4, 20, 1
_TCP, _EVERY_STATE = 6, 0xFFFFFFFF
_LISTENING = 10
_REQUEST_HEAD = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBBI")
_PORTS = struct.Struct(">HH")
_INTERFACE_AND_COOKIE = struct.pack("=III", 0, _EVERY_STATE, _EVERY_STATE)
_STATE_AT, _QUEUE_AT = 17, 72
"""Of struct inet_diag_msg behind the header: idiag_state, and idiag_rqueue behind the socket's identity."""
_ACKNOWLEDGED_AT = 120
"""tcpi_bytes_acked in struct tcp_info; it counts the SYN."""
_UNREAD_OF_UNIX = 0x5411
_NOTHING = b"\0" * 4
"""SIOCOUTQ: what the other end of a Unix socket has not read."""


def unread(transport: asyncio.BaseTransport) -> bool:
    """Tell whether the other end has read nothing at all of what was sent on a connection.

    A Unix socket tells of a rest alone, which is all of it if the request is small.
    """
    wire = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, struct.error):
        if wire.family == socket.AF_UNIX:
            return fcntl.ioctl(wire.fileno(), _UNREAD_OF_UNIX, _NOTHING) != _NOTHING
        info = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AT + 8)
        sent = struct.unpack_from("=Q", info, _ACKNOWLEDGED_AT)[0] - 1
        if sent > 0 and (seen := _ask(wire.family, wire.getpeername(), wire.getsockname())) is not None:
            return bool(seen[1] >= sent)
    return False


def backlog(transport: asyncio.BaseTransport) -> int:
    """Return how many connections wait to be accepted where this one was."""
    wire = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, struct.error):
        if wire.family != socket.AF_UNIX:
            nobody = "0.0.0.0" if wire.family == socket.AF_INET else "::"  # noqa: S104 - binds to nothing
            seen = _ask(wire.family, wire.getpeername(), (nobody, 0))
            if seen is not None and seen[0] == _LISTENING:
                return seen[1]
    return 0


def _ask(family: int, local: Sequence[object], remote: Sequence[object]) -> tuple[int, int] | None:
    """Return state and receive queue of the socket with these ends; None where there is none."""
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
    return answer[_STATE_AT], struct.unpack_from("=I", answer, _QUEUE_AT)[0]
