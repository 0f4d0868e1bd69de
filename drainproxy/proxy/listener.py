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
import socket
from typing import TYPE_CHECKING

from aiohttp import web

from drainproxy.errors import ListenError, OutOfDescriptors
from drainproxy.proxy.acceptor import Acceptor, few_descriptors
from drainproxy.proxy.accounting.outcome import Stranger, TurnedAway
from drainproxy.proxy.message import replies
from drainproxy.proxy.message.date import date_line
from drainproxy.proxy.message.upgrade import kind_of
from drainproxy.proxy.relay.tcp import PROTOCOL
from drainproxy.proxy.wire.listening_socket import BACKLOG, address_of, drop_new_callers
from drainproxy.tasks import let_the_loop_turn

if TYPE_CHECKING:
    from drainproxy.proxy.server import ProxyServer
    from drainproxy.proxy.wire.listening_socket import ListeningSocket

LISTEN_AGAIN_S = 0.1


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
        server.plane.pool.presence.on_shut.append(self._follow)

    async def start(self) -> None:
        """Accept connections."""
        await self._runner.setup()
        await self._accept()

    async def stop(self) -> None:
        """Take no new caller. Who has completed a connection stays in the kernel's backlog for `sweep`."""
        self._stopped = True
        if self._moving is not None:
            await asyncio.wait((self._moving,))
        drop_new_callers(self._last)
        await self._accept_no_more()
        self._last.setblocking(False)

    @property
    def accepting(self) -> bool:
        """Tell whether callers are accepted; while the application is not there they are refused."""
        return self._accepting is not None

    def _follow(self) -> None:
        """Refuse callers while the application would."""
        if self._moving is None and not self._stopped:
            self._moving = self.server.plane.tasks.spawn(self._move(), "listener")

    async def _move(self) -> None:
        try:
            while not self._stopped and self.server.plane.pool.presence.shut is self.accepting:
                if self.accepting:
                    await self._accept_no_more()
                    # With it, whoever sets it too could bind the address of a socket that does not listen.
                    self._last.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
                    # Who is in the backlog is reset, as the application's own backlog was.
                    self._last.shutdown(socket.SHUT_RD)
                    continue
                try:
                    await self._accept()
                except ListenError as failure:
                    self.server.plane.accounting.defect(failure)
                    await asyncio.sleep(LISTEN_AGAIN_S)
        finally:
            self._moving = None

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        wire, self._wire = self._wire, None
        try:
            wire = wire or self._last.dup()
            wire.refusal = self._refusal
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if few_descriptors():
                wire.listen(BACKLOG)
                self._accepting = Acceptor(wire, self.server, self.server.plane.tasks)
            else:
                self._accepting = await loop.create_server(self.server, sock=wire, backlog=BACKLOG)
        except OSError as error:
            if wire is not None:
                wire.close()
            raise ListenError(f"cannot listen on {self.address} again: {error.strerror}") from None

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
