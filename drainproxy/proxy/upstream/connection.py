"""One connection to the application: what comes on it goes to whoever borrows it.

Lent and taken back by its pool, which hears of its opening and of its end.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from drainproxy.proxy.message.parser import ResponseReader
from drainproxy.proxy.wire import keepalive, sockets
from drainproxy.proxy.wire.endpoint import Endpoint

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.addresses import UpstreamAddress
    from drainproxy.proxy.upstream.borrower import Borrower
    from drainproxy.proxy.wire.buffers import Buffers


class Witness(Protocol):
    """To whom the end of a connection says something (presence.py)."""

    def closed(self) -> None:
        """It was closed, and might have been kept."""

    def failed(self) -> None:
        """An answer was due on it, or it was reset."""


class Dials(Protocol):
    """What reaches an application: dialer.py, or a stage that a test plays it on."""

    async def dial(self, make: Callable[[], asyncio.Protocol], *, small: bool = False) -> asyncio.Transport:
        """Connect; `make` returns what the transport speaks to. `small`: with small buffers."""


class Owner(Protocol):
    """Whose connections to one application they are (pool.py)."""

    address: UpstreamAddress
    buffers: Buffers
    keepalive: keepalive.Options

    @property
    def presence(self) -> Witness:
        """Who is told of ends."""

    @property
    def dialer(self) -> Dials:
        """What reaches the application."""

    def opened(self, connection: UpstreamConnection) -> None:
        """Take a new connection into the books."""

    def closed(self, connection: UpstreamConnection) -> None:
        """Forget a connection whose transport has ended."""

    def discard(self, connection: UpstreamConnection) -> None:
        """Close a connection at once; what it still had to send or say is of no use."""

    def is_young(self, connection: UpstreamConnection) -> bool:
        """Tell whether it has idled so shortly that the application should still keep it."""

    def distrust(self) -> None:
        """The application has closed a young connection, and had not announced it: it may do so again."""


class UpstreamConnection(Endpoint):
    """One connection to the application."""

    __slots__ = (
        "_owner", "borrower", "held", "idle_since", "idle_until", "lent_at", "lost", "private", "reader",
        "reused", "small", "spent",
    )  # fmt: skip

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner.buffers)
        self._owner = owner
        self.borrower: Borrower | None = None
        self.idle_since = self.idle_until = 0.0
        self.lent_at = 0.0
        self.reused = False
        self.small = owner.buffers.tight and owner.address.is_ip
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
        return await self._owner.dialer.dial(make, small=self.small)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        wire = transport.get_extra_info("socket")
        sockets.bound_unsent(wire)
        if not self.small:
            sockets.bound_received(wire)
        keepalive.apply(wire, self._owner.keepalive)
        super().connection_made(transport)
        # Here and not where connecting is awaited: it may be lost again before that goes on.
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.borrower is not None:
            self.borrower.upstream_data(data)
        else:
            self._owner.discard(self)

    def eof_received(self) -> bool:
        """See asyncio.Protocol. An application that has stopped sending has ended its response."""
        more = None if self.borrower is None else self.borrower.upstream_eof()
        if more is not None:
            return more
        self._closed_by_application()
        self._owner.presence.closed()
        self._gone(reset=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.lost = True
        if exc is None:
            self.drop_backlog()
        else:
            self._closed_by_application()
            self._owner.presence.failed()
            if self.borrower is not None and (last := sockets.last_words(self.transport)):
                self.borrower.upstream_data(last)
        super().connection_lost(exc)
        self._owner.closed(self)
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
        if self.borrower is None and self._owner.is_young(self):
            self._owner.distrust()

    def _gone(self, *, reset: bool) -> None:
        self.lost = True
        borrower, self.borrower = self.borrower, None
        if borrower is not None:
            borrower.upstream_lost(reset=reset)
        else:
            self._owner.discard(self)
