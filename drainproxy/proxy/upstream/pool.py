"""Connections to the application: open, lend, take back, close.

A connection is lent to one exchange at a time and comes back only clean. Bytes on an idle one are never a
response. Idle ones are closed by us before the application closes them, since a request that meets that
close is lost.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from typing import TYPE_CHECKING, Final

from drainproxy import certificates, errors
from drainproxy.lifecycle.lazytimer import LazyTimer
from drainproxy.proxy.upstream import accepting
from drainproxy.proxy.upstream.breaker import Breaker
from drainproxy.proxy.upstream.connection import Dials, UpstreamConnection
from drainproxy.proxy.upstream.dialer import Dialer
from drainproxy.proxy.upstream.http2_support import Http2Support
from drainproxy.proxy.upstream.listening import Kernel
from drainproxy.proxy.upstream.presence import Presence
from drainproxy.proxy.upstream.starvation import Starvation
from drainproxy.proxy.wire import keepalive, sockets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.addresses import UpstreamAddress
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.settings import ProxySettings
    from drainproxy.proxy.upstream.borrower import Borrower
    from drainproxy.proxy.upstream.tls import UpstreamTls
    from drainproxy.proxy.wire.buffers import Buffers

KERNEL: Final = Kernel()
MAX_IDLE: Final = 1024
UNSAFE_IDLE_S: Final = 0.5
"""A request that must not be sent twice takes no connection idle for longer. Applications that keep theirs
for 1 s exist; a connect over loopback costs 50 us."""
PEAK_S: Final = 2.0
"""No more connections idle than were used at once within the last one or two of these."""
DISTRUST_S: Final = 60.0
"""For how long it takes none at all, once one that was no older was closed without a word."""


class Pool:
    """Every connection to one application. Written on the loop's thread."""

    def __init__(
        self,
        address: UpstreamAddress,
        settings: ProxySettings,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        buffers: Buffers,
    ) -> None:
        self.address = address
        dialer = Dialer(address, loop, settings.upstream_source)
        self.dialer: Dials = dialer
        self.buffers = buffers
        self.idle_s = settings.upstream_idle
        """How long a connection may idle whose application has announced nothing."""
        self._metrics = metrics
        self._loop = loop
        self._idle: list[UpstreamConnection] = []
        """The longest idle first; the most recently used is taken."""
        self._aside: set[UpstreamConnection] = set()
        """Those that wait for one client's next request."""
        self._open: set[UpstreamConnection] = set()
        buffers.join(self._open)
        self._distrust_until = -math.inf
        self._timer = LazyTimer(loop, self._expire)
        self._peak = self._peak_before = 0
        self._peak_until = -math.inf
        self.starvation = Starvation(self, loop)
        self.tls: UpstreamTls | None = None
        """Set before the first connect, or not at all."""
        self.breaker = Breaker(settings.breaker_cooldown, loop)
        self.keepalive = keepalive.options(settings)
        self.presence = Presence(dialer, KERNEL.listens, loop)
        self.http2 = Http2Support(settings.upstream_http2, loop)

    @staticmethod
    def export(pools: Sequence[Pool], metrics: Metrics) -> None:
        """Have a scrape count the connections to all applications."""

        def refresh() -> None:
            metrics.upstream_connections.set(sum(pool.idle_count for pool in pools), "idle")
            metrics.upstream_connections.set(sum(pool.active_count for pool in pools), "active")
            metrics.upstream_reuse_off.set(float(any(pool.starvation.off for pool in pools)))
            metrics.breaker_open.set(float(any(pool.breaker.open for pool in pools)))

        metrics.before_scrape.append(refresh)

    @property
    def idle_count(self) -> int:
        """How many connections wait for a request."""
        return len(self._idle) + len(self._aside)

    @property
    def open_count(self) -> int:
        """How many connections there are."""
        return len(self._open)

    @property
    def active_count(self) -> int:
        """How many connections are lent."""
        return len(self._open) - self.idle_count

    def take(self, *, repeatable: bool) -> UpstreamConnection | None:
        """Lend an idle connection, or None. `repeatable`: the request may be sent again if it meets a
        close."""
        now = self._loop.time()
        while self._idle:
            connection = self._idle.pop()
            if connection.lost or connection.transport.is_closing() or now >= connection.idle_until:
                self.discard(connection)
            elif not repeatable and (
                now < self._distrust_until or not self.is_young(connection) or connection.looks_closed()
            ):
                # It makes way: an application that serves one connection at a time would wait for its end.
                self.discard(connection)
                return None
            else:
                connection.reused = True
                connection.lent_at = now
                return connection
        return None

    async def connect_if_worthwhile(
        self, deadline: float, borrower: Borrower | None = None
    ) -> UpstreamConnection:
        """Open a connection for a request. Raises BreakerOpen, and what `connect` raises.

        Only these attempts open the breaker: a probe's would keep out requests that might succeed.
        """
        self.breaker.admit()
        try:
            connection = await self.connect(deadline, borrower)
        except errors.UpstreamRefused:
            self.breaker.failed()
            raise
        self.starvation.sent(connection)
        return connection

    async def connect(self, deadline: float, borrower: Borrower | None = None) -> UpstreamConnection:
        """Open a connection before loop time `deadline`; `math.inf`: whenever the application accepts.

        `borrower` is for a protocol in which the application may speak first.
        Raises UpstreamRefused, ConnectTimeout, OutOfDescriptors, OutOfSockets, UpstreamUntrusted or
        UpstreamHandshakeFailed.
        """
        started = self._loop.time()
        try:
            async with asyncio.timeout_at(deadline if deadline < math.inf else None):
                connection = await self._open_connection(borrower)
        except TimeoutError:
            self._metrics.upstream_connects.inc("timeout")
            raise errors.ConnectTimeout from None
        except (ConnectionRefusedError, FileNotFoundError):
            self._metrics.upstream_connects.inc("refused")
            self.presence.refuses()
            raise errors.UpstreamRefused(f"nobody listens at {self.address}") from None
        except ssl.SSLError as error:
            self._metrics.upstream_connects.inc("error")
            untrusted = isinstance(error, ssl.SSLCertVerificationError)
            leaf = errors.UpstreamUntrusted if untrusted else errors.UpstreamHandshakeFailed
            raise leaf(certificates.reason(error)) from None
        except OSError as error:
            self._metrics.upstream_connects.inc("error")
            if error.errno in sockets.OUT_OF_DESCRIPTORS:
                raise errors.OutOfDescriptors from None
            if error.errno in sockets.OUT_OF_SOCKETS:
                raise errors.OutOfSockets from None
            raise errors.UpstreamRefused(error.strerror or "cannot connect") from None
        self._metrics.upstream_connects.inc("ok")
        self.breaker.connected()
        self.presence.accepts()
        self._metrics.upstream_connect_seconds.observe(self._loop.time() - started)
        return connection

    def give_back(self, connection: UpstreamConnection, keep_s: float) -> None:
        """Take a clean connection back; it may be used again for `keep_s` seconds."""
        starvation = self.starvation
        if starvation.waiting:
            starvation.answered(connection)
        connection.borrower = None
        if (
            keep_s <= 0
            or starvation.off
            or connection.small
            or len(self._idle) >= MAX_IDLE
            or connection.transport.is_closing()
        ):
            self.discard(connection)
            return
        if starvation.owed:
            starvation.owed -= 1
            self.discard(connection)
            return
        if connection.held:
            connection.hold(held=False)
        now = self._loop.time()
        connection.idle_since = self.presence.alive_at = now
        connection.idle_until = now + keep_s
        active = len(self._open) - len(self._idle) - len(self._aside)
        if now >= self._peak_until:
            self._peak_before, self._peak, self._peak_until = self._peak, active, now + PEAK_S
        elif active > self._peak:
            self._peak = active
        self._idle.append(connection)
        if len(self._idle) > self._peak and len(self._idle) > self._peak_before:
            self.discard(self._idle[0])
        if connection.idle_until < self._timer.when:
            self._timer.set(connection.idle_until)
        if starvation.asleep:
            starvation.wake()

    def set_aside(self, connection: UpstreamConnection, until_used: Borrower) -> None:
        """Have a clean connection wait for the client whose it is."""
        connection.borrower = until_used
        if connection.held:
            connection.hold(held=False)
        self._aside.add(connection)

    def take_aside(self, connection: UpstreamConnection) -> UpstreamConnection:
        """Lend it again."""
        self._aside.discard(connection)
        connection.reused = True
        return connection

    def is_young(self, connection: UpstreamConnection) -> bool:
        """Tell whether it has idled so shortly that the application should still keep it."""
        return self._loop.time() - connection.idle_since <= UNSAFE_IDLE_S

    def distrust(self) -> None:
        """The application has closed a young connection, and had not announced it: it may do so again."""
        self._distrust_until = self._loop.time() + DISTRUST_S

    def discard(self, connection: UpstreamConnection) -> None:
        """Close a connection at once; what it still had to send or say is of no use."""
        connection.borrower = None
        if connection in self._idle:
            self._idle.remove(connection)
        self._aside.discard(connection)
        connection.transport.abort()

    def opened(self, connection: UpstreamConnection) -> None:
        """Take a new connection into the books."""
        self._open.add(connection)
        self.buffers.weigh()

    def closed(self, connection: UpstreamConnection) -> None:
        """Forget a connection whose transport has ended."""
        self._open.discard(connection)
        self._aside.discard(connection)
        self.starvation.waiting.pop(connection, None)

    def close_idle(self, most: int = MAX_IDLE) -> int:
        """Close up to so many of those that nobody uses, the last used first; return how many there were."""
        closing = self._idle[-most:]
        for connection in closing:
            self.discard(connection)
        return len(closing)

    def stop(self) -> None:
        """Close what nobody uses, and look after nothing any more."""
        self._timer.cancel()
        self.starvation.stop()
        self.close_idle()

    def backlog(self) -> int:
        """Return how many connections wait for the application to accept them; 0 where nobody can tell."""
        some = next(iter(self._open), None)
        return 0 if some is None else accepting.backlog(some.transport)

    def has_queues(self) -> bool:
        """Tell whether several sockets listen at one address of the application, each with a queue of its
        own (SO_REUSEPORT)."""
        places = KERNEL.places(self.address.port) if self.address.port else []
        return len(set(places)) < len(places)

    async def _open_connection(self, borrower: Borrower | None) -> UpstreamConnection:
        connection = UpstreamConnection(self)
        connection.borrower = borrower
        try:
            if self.tls is not None:
                await self.tls.connect(connection)
            else:
                await connection.dial(connection.as_protocol)
        except BaseException:
            # uvloop closes a connection that was made just before its connect was given up on, and never
            # says that it is lost.
            connection.borrower = None
            self.closed(connection)
            raise
        return connection

    def _expire(self) -> None:
        now = self._loop.time()
        for connection in [one for one in self._idle if one.idle_until <= now]:
            self.discard(connection)
        self._timer.set(min((one.idle_until for one in self._idle), default=math.inf))
