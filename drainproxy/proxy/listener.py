"""Sockets: bound before anything else, closed after everything else.

Closing a listening socket resets every connection that the kernel has completed and nobody accepted. So at
the end a duplicate of the descriptor is kept, new callers' SYNs are dropped (they come again a second later
and are refused), the loop's server is stopped, and what is in the backlog is accepted and served before the
last descriptor goes.

A listener that waits for its application begins when that accepts connections. Its address is asked for only
then: an application that wants it for itself must be able to have it, and to say so in its own log.

While an application is not there its listener refuses too, as HAProxy pauses one: a socket that listens can
be shut down and keeps its address, and listens again when it is asked to.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from drainproxy.errors import ListenError, OutOfDescriptors
from drainproxy.proxy.acceptor import Acceptor
from drainproxy.proxy.accounting.outcome import Stranger, TurnedAway
from drainproxy.proxy.message import replies
from drainproxy.proxy.message.date import date_line
from drainproxy.proxy.message.upgrade import kind_of
from drainproxy.proxy.relay.tcp import PROTOCOL
from drainproxy.proxy.wire.listening_socket import BACKLOG, address_of, drop_new_callers
from drainproxy.tasks import let_the_loop_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.proxy.server import ProxyServer
    from drainproxy.proxy.wire.listening_socket import ListeningSocket

LISTEN_AGAIN_S = 0.1
BIND_AGAIN_S = 2.0
"""For an address that somebody else has: the pod is not ready until it is free, and goes on asking for it."""


class Listener:
    """One listening socket and the server behind it."""

    def __init__(self, wire: ListeningSocket | Callable[[], ListeningSocket], server: ProxyServer) -> None:
        """`wire`: bound; or what binds it, for one that begins with its application."""
        self.server = server
        self.address = ""
        self.opened = False
        """Callers have been let in once."""
        self.on_opened: Callable[[], None] = lambda: None
        self.on_blocked: Callable[[str], None] = lambda _: None
        """Called with the reason where the application is there, and its callers cannot be let in."""
        self._bind = wire if callable(wire) else None
        self._last: ListeningSocket | None = None
        self._wire: ListeningSocket | None = None
        if not callable(wire):
            self._bound(wire)
        self._accepting: asyncio.Server | Acceptor | None = None
        self._moving: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        server.plane.pool.presence.on_shut.append(self._follow)

    def _bound(self, wire: ListeningSocket) -> None:
        self.address = address_of(wire)
        self._last, self._wire = wire.dup(), wire

    async def start(self) -> None:
        """Accept connections, now or once the application does."""
        if self._bind is None:
            await self._accept()
        else:
            self._follow()

    async def stop(self) -> None:
        """Take no new caller. Who has completed a connection stays in the kernel's backlog for `sweep`."""
        self._stopping.set()
        if self._moving is not None:
            await asyncio.wait((self._moving,))
        if self._last is None:
            return
        drop_new_callers(self._last)
        await self._accept_no_more()
        self._last.setblocking(False)

    @property
    def accepting(self) -> bool:
        """Tell whether callers are accepted; while the application is not there they are refused."""
        return self._accepting is not None

    def _follow(self) -> None:
        """Refuse callers while the application would."""
        if self._moving is None and not self._stopping.is_set():
            self._moving = self.server.plane.tasks.spawn(self._move(), "listener")

    @property
    def _wanted(self) -> bool:
        presence = self.server.plane.pool.presence
        return not presence.shut and (presence.came or self._bind is None)

    async def _move(self) -> None:
        try:
            while not self._stopping.is_set() and self._wanted is not self.accepting:
                if self.accepting:
                    assert self._last is not None
                    await self._accept_no_more()
                    # With it, whoever sets it too could bind the address of a socket that does not listen.
                    self._last.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
                    # Who is in the backlog is reset, as the application's own backlog was.
                    self._last.shutdown(socket.SHUT_RD)
                    continue
                if self._last is None and not await self._take_the_address():
                    continue
                try:
                    await self._accept()
                except ListenError as failure:
                    self.server.plane.accounting.defect(failure)
                    await asyncio.sleep(LISTEN_AGAIN_S)
        finally:
            self._moving = None

    async def _take_the_address(self) -> bool:
        """Bind it; if that fails say why, and wait until it is worth another look."""
        assert self._bind is not None
        try:
            self._bound(self._bind())
        except ListenError as failure:
            self.on_blocked(str(failure))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BIND_AGAIN_S):
                    await self._stopping.wait()
            return False
        return True

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        wire, self._wire = self._wire, None
        assert self._last is not None
        try:
            wire = wire or self._last.dup()
            wire.refusal = self._refusal
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.server.plane.connection_limit.overrun_by(BACKLOG):
                wire.listen(BACKLOG)
                self._accepting = Acceptor(wire, self.server, self.server.plane.tasks)
            else:
                self._accepting = await loop.create_server(self.server, sock=wire, backlog=BACKLOG)
        except OSError as error:
            if wire is not None:
                wire.close()
            raise ListenError(f"cannot listen on {self.address} again: {error.strerror}") from None
        if not self.opened:
            self.opened = True
            self.on_opened()

    def _refusal(self, peer: str) -> bytes:
        """Account for a caller for whom there is no descriptor; return its answer, if it gets one."""
        plane, error = self.server.plane, OutOfDescriptors()
        caller = Stranger(peer.removeprefix("::ffff:").encode(), plane.loop.time())
        tunnel = kind_of(PROTOCOL) if plane.pool.address.tcp else ""
        plane.accounting.record(TurnedAway(caller, error, tunnel=tunnel))
        if not self.server.http_at_once:
            return b""
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
        if self._last is None:
            return count
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
        if self._last is not None:
            self._last.close()

    def close(self) -> None:
        """End what is left."""
        self.server.stop()
