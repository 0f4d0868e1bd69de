"""Sockets: bound before anything else, closed after everything else.

Closing a listening socket resets every connection that the kernel has completed and nobody accepted. So at
the end a duplicate of the descriptor is kept, new callers' SYNs are dropped (they come again a second later
and are refused), the loop's server is stopped, and what is in the backlog is accepted and served before the
last descriptor goes.

While an application is not there its listener refuses too, as HAProxy pauses one: a socket that listens can
be shut down and keeps its address, and listens again when it is asked to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, ClassVar

from aiohttp import web

from drainproxy.errors import ListenError, OutOfDescriptors
from drainproxy.proxy.acceptor import Acceptor, few_descriptors
from drainproxy.proxy.message import replies
from drainproxy.proxy.message.date import date_line
from drainproxy.proxy.wire import keepalive, sockets
from drainproxy.tasks import let_the_loop_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.addresses import ListenAddress
    from drainproxy.proxy.server import ProxyServer

SO_ATTACH_FILTER = 26
"""Not in the socket module (asm-generic/socket.h)."""

BACKLOG = 1024
"""Connections the kernel completes for us while we are busy; net.core.somaxconn caps it."""


LISTEN_AGAIN_S = 0.1


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
    """Address of a caller -> what it is told; nothing in a protocol that has no words for it."""

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
                if self.refusal is not None:
                    wire.send(self.refusal(str(peer[0])))
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


class Listener:
    """One listening socket and the server behind it."""

    def __init__(self, wire: ListeningSocket, server: ProxyServer) -> None:
        self.server = server
        self.address = address_of(wire)
        self._last = wire.dup()
        self._runner = web.ServerRunner(server)
        self._wire: ListeningSocket | None = wire
        self._accepting: asyncio.Server | Acceptor | None = None
        self._moving: asyncio.Task[None] | None = None
        self._stopped = False
        server.pool.presence.on_change.append(self._follow)

    async def start(self) -> None:
        """Accept connections."""
        await self._runner.setup()
        await self._accept()

    async def stop(self) -> None:
        """Take no new caller. Who has completed a connection stays in the kernel's backlog for `sweep`."""
        self._stopped = True
        if self._moving is not None:
            await asyncio.wait((self._moving,))
        _drop_new_callers(self._last)
        await self._accept_no_more()
        self._last.setblocking(False)

    @property
    def accepting(self) -> bool:
        """Tell whether callers are accepted; while the application is not there they are refused."""
        return self._accepting is not None

    def _follow(self) -> None:
        """Refuse callers while the application would."""
        if self._moving is None and not self._stopped:
            self._moving = self.server.tasks.spawn(self._move(), "listener")

    async def _move(self) -> None:
        try:
            while not self._stopped and self.server.pool.presence.fallen is self.accepting:
                if self.accepting:
                    await self._accept_no_more()
                    # Who is in the backlog is reset, as the application's own backlog was.
                    self._last.shutdown(socket.SHUT_RD)
                    continue
                try:
                    await self._accept()
                except ListenError as failure:
                    self.server.accounting.defect(failure)
                    await asyncio.sleep(LISTEN_AGAIN_S)
        finally:
            self._moving = None

    async def _accept(self) -> None:
        http = self.server.entrance is None and not self.server.pool.address.tcp
        loop = asyncio.get_running_loop()
        wire, self._wire = self._wire, None
        try:
            wire = wire or self._last.dup()
            if http:
                wire.refusal = self._refusal
            if few_descriptors():
                wire.listen(BACKLOG)
                self._accepting = Acceptor(wire, self.server, self.server.tasks)
            else:
                self._accepting = await loop.create_server(self.server, sock=wire, backlog=BACKLOG)
        except OSError as error:
            if wire is not None:
                wire.close()
            raise ListenError(f"cannot listen on {self.address} again: {error.strerror}") from None

    def _refusal(self, peer: str) -> bytes:
        """Account for a caller for whom there is no descriptor; return its answer."""
        error = OutOfDescriptors()
        self.server.count(error)
        self.server.accounting.turned_away(peer.removeprefix("::ffff:").encode(), error.reason, "")
        return replies.reply(error, date=date_line(), head_only=False, close=True)

    async def _accept_no_more(self) -> None:
        accepting, self._accepting = self._accepting, None
        if accepting is None:
            return
        loop = asyncio.get_running_loop()
        if isinstance(accepting, Acceptor):
            accepting.pause()
        elif isinstance(loop, asyncio.SelectorEventLoop):
            loop.remove_reader(accepting.sockets[0])
        # It has accepted some that it has not made connections of; closing first would lose them.
        await let_the_loop_turn()
        accepting.close()

    async def sweep(self) -> int:
        """Take over what the kernel had completed. Return how many connections that were."""
        loop = asyncio.get_running_loop()
        count = 0
        for _ in range(2 * BACKLOG):
            try:
                wire, _ = self._last.accept()
            except ConnectionError:
                # It ended in the backlog, or was turned away for want of a descriptor: the next one may do.
                continue
            except OSError:
                # Nothing is left (EAGAIN).
                break
            await loop.connect_accepted_socket(self.server, wire)
            count += 1
        return count

    def shut(self) -> None:
        """Close the last descriptor: from now on callers are refused."""
        self._last.close()

    async def close(self) -> None:
        """End what is left."""
        await self._runner.cleanup()


def _drop_new_callers(wire: socket.socket) -> None:
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
