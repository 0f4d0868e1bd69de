"""One connection to the application: what comes on it goes to whoever borrows it.

Lent and taken back by its pool, which hears of its opening and of its end.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from drainproxy.proxy.message.parser import ResponseReader
from drainproxy.proxy.wire import keepalive, sockets
from drainproxy.proxy.wire.endpoint import Endpoint

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.proxy.relay.tunnel import Tunnel
    from drainproxy.proxy.upstream.borrower import Borrower
    from drainproxy.proxy.upstream.pool import Pool


class UpstreamConnection(Endpoint):
    """One connection to the application."""

    __slots__ = (
        "_pool", "borrower", "held", "idle_since", "idle_until", "lent_at", "lost", "private", "reader",
        "reused", "small", "spent", "tunnel",
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool.buffers)
        self._pool = pool
        self.borrower: Borrower | None = None
        self.idle_since = self.idle_until = 0.0
        self.lent_at = 0.0
        self.tunnel: Tunnel | None = None
        """The borrower, if it can take a half-close."""
        self.reused = False
        self.small = pool.buffers.tight and pool.address.is_ip
        """Made while too much was held; it is slow, and nobody gets it a second time."""
        self.private = False
        """The application may hold whoever speaks on it for one client's user (private.py)."""
        self.spent = False
        """Nobody gets it a second time: see reuse.py."""
        self.lost = False
        self.held = False
        """It is not read from: what it says could not be passed on."""
        self.reader = ResponseReader()

    async def dial(self, make: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        """Connect; `make` returns what the transport speaks to."""
        return await self._pool.dialer.dial(make, small=self.small)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        wire = transport.get_extra_info("socket")
        sockets.bound_unsent(wire)
        if not self.small:
            sockets.bound_received(wire)
        keepalive.apply(wire, self._pool.keepalive)
        super().connection_made(transport)
        # Here and not where connecting is awaited: it may be lost again before that goes on.
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.borrower is not None:
            self.borrower.upstream_data(data)
        else:
            self._pool.discard(self)

    def eof_received(self) -> bool:
        """See asyncio.Protocol. An application that has stopped sending has ended its response."""
        if self.tunnel is not None:
            return self.tunnel.upstream_eof()
        self._closed_by_application()
        self._pool.presence.closed()
        self._gone(reset=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.lost = True
        if exc is None:
            self.drop_backlog()
        else:
            self._closed_by_application()
            self._pool.presence.failed()
            if self.borrower is not None and (last := sockets.last_words(self.transport)):
                self.borrower.upstream_data(last)
        super().connection_lost(exc)
        self._pool.closed(self)
        # What it has said comes before its hanging up.
        self.behind_backlog(partial(self._ended, reset=exc is not None))

    def _ended(self, *, reset: bool) -> None:
        self._gone(reset=reset)
        self.reader.forget()

    def tell_writer(self, *, writable: bool) -> None:
        """See Endpoint."""
        if self.borrower is not None:
            self.borrower.upstream_writable(writable=writable)

    def hold(self, *, held: bool) -> None:
        """Stop reading, or go on."""
        if held is not self.held and not self.lost:
            self.held = held
            if held:
                self.transport.pause_reading()
            elif not self.yielding:
                self.transport.resume_reading()

    @property
    def held_back(self) -> bool:
        """See Endpoint."""
        return self.held

    def looks_closed(self) -> bool:
        """Tell whether a close (or stray bytes) has come that the loop has not been told of yet."""
        return sockets.has_bytes(self.transport) or sockets.hung_up(self.transport, half=True)

    def _closed_by_application(self) -> None:
        if self.borrower is None and self._pool.is_young(self):
            self._pool.distrust()

    def _gone(self, *, reset: bool) -> None:
        self.lost = True
        borrower, self.borrower = self.borrower, None
        if borrower is not None:
            borrower.upstream_lost(reset=reset)
        else:
            self._pool.discard(self)
