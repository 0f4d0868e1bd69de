"""A listening socket: bound as callers are to find it, and what is said to those who cannot come in.

For whoever listens, the webhook too. Accepting is the event loop's or acceptor.py's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, ClassVar

from drainproxy.errors import ListenError
from drainproxy.proxy.wire import keepalive, sockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.addresses import ListenAddress

SO_ATTACH_FILTER = 26
"""Not in the socket module (asm-generic/socket.h)."""

BACKLOG = 1024
"""Connections the kernel completes for us while we are busy; net.core.somaxconn caps it."""
MAX_ASKED_BYTES = 64 * 1024
"""Of a caller for whom there is no descriptor, which are thrown away: a head's worth."""


class ListeningSocket(socket.socket):
    """Turns callers away for whom there is no descriptor.

    In the backlog they would keep the socket readable, and the loop awake. libuv does the same by itself;
    the standard loop stops to accept for a second, after trying a thousand times. A caller is told why, where
    that can be said.
    """

    _reserve: ClassVar[int] = -1
    """A descriptor to give up, so that a caller can be accepted and hung up on."""

    refusal: Callable[[str], bytes] | None = None
    """Address of a caller -> what it is told; empty in a protocol that has no words for it."""

    def accept(self) -> tuple[socket.socket, object]:
        """See socket.accept. Raises ConnectionAbortedError for a caller who was turned away."""
        try:
            return self.take()
        except OSError as error:
            if error.errno not in sockets.OUT_OF_DESCRIPTORS:
                raise
        self.turn_away()
        raise ConnectionAbortedError

    def take(self) -> tuple[socket.socket, object]:
        """See socket.accept. Who finds no descriptor stays in the backlog."""
        if self._reserve < 0:
            ListeningSocket._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return super().accept()

    def turn_away(self) -> None:
        """Tell the first in the backlog that there is no descriptor for it."""
        if self._reserve < 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        os.close(self._reserve)
        ListeningSocket._reserve = -1
        try:
            wire, peer = super().accept()
            with wire, contextlib.suppress(OSError):
                wire.setblocking(False)
                if self.refusal is not None and (answer := self.refusal(str(peer[0]))):
                    wire.send(answer)
                    wire.shutdown(socket.SHUT_WR)
                    # What is not read makes a reset of the close, and many clients do not read behind one.
                    wire.recv(MAX_ASKED_BYTES)
        finally:
            # Before anybody else takes it.
            ListeningSocket._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def bind(address: ListenAddress, options: keepalive.Options = ()) -> ListeningSocket:
    """Return a bound, listening, non-blocking socket. Who is accepted inherits its `options`. Raises
    ListenError."""
    if address.host is None:
        # One socket for both families: hooks and probes go to the pod's IP, whichever it is.
        with contextlib.suppress(OSError):
            return _listen(socket.AF_INET6, "::", address.port, options)
        family, host = socket.AF_INET, "0.0.0.0"  # noqa: S104 - every address was asked for
    else:
        try:
            info = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise ListenError(f"cannot listen on {address}: {error.strerror}") from None
        family, host = info[0], str(info[4][0])
    try:
        return _listen(family, host, address.port, options)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from None


def _listen(family: int, host: str, port: int, options: keepalive.Options) -> ListeningSocket:
    if not port:
        # Only a port that was asked for outlasts a pause.
        with ListeningSocket(family, socket.SOCK_STREAM) as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind((host, 0))
            return _listen(family, host, free.getsockname()[1], options)
    wire = ListeningSocket(family, socket.SOCK_STREAM)
    try:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        sockets.bound_unsent(wire)
        keepalive.apply(wire, options)
        wire.bind((host, port))
        wire.listen(BACKLOG)
        wire.setblocking(False)
    except OSError:
        wire.close()
        raise
    return wire


def address_of(wire: socket.socket) -> str:
    """Return the bound address as host:port."""
    host, port = wire.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def drop_new_callers(wire: socket.socket) -> None:
    """Have the kernel ignore SYNs on a listening socket (Linux: a classic BPF program, socket(7)).

    Without it, whoever connects between the last accept and the close is reset. Handshakes that have begun
    are let through. Where it cannot be done, that gap stays.
    """
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x30, 0, 0, 13),  # load the byte of TCP flags
            (0x45, 0, 1, 0x02),  # SYN set?
            (0x06, 0, 0, 0),  # drop
            (0x06, 0, 0, 0xFFFF),  # pass
        )
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    argument = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        wire.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, argument)
