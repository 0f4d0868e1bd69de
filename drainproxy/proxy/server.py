"""One listener's data plane: the protocol factory that aiohttp's runner hosts.

Owns the set of client connections, and what they share.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from drainproxy.errors import Blame, ConnectTimeout, RequestError, UpstreamRefused
from drainproxy.lifecycle.machine import NewRequest
from drainproxy.proxy.http1.connection import ClientConnection
from drainproxy.proxy.relay.tcp import TcpConnection
from drainproxy.proxy.wire import sockets
from drainproxy.proxy.wire.weights import CLIENT_BYTES, SOCKET_BYTES, WORK_BYTES

if TYPE_CHECKING:
    from drainproxy.lifecycle.controller import Controller
    from drainproxy.lifecycle.inflight import InFlight
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.accounting.accounting import Accounting
    from drainproxy.proxy.downstream.client import ClientSocket
    from drainproxy.proxy.limits.admission import Admission
    from drainproxy.proxy.limits.concurrency_limit import ConcurrencyLimit
    from drainproxy.proxy.limits.connection_limit import ConnectionLimit
    from drainproxy.proxy.limits.routes import Routes
    from drainproxy.proxy.message.forwarding import Forwarder
    from drainproxy.proxy.preamble import Preamble
    from drainproxy.proxy.settings import ProxySettings
    from drainproxy.proxy.upstream.borrower import Borrower
    from drainproxy.proxy.upstream.connection import UpstreamConnection
    from drainproxy.proxy.upstream.pool import Pool
    from drainproxy.proxy.wire.buffers import Buffers
    from drainproxy.proxy.wire.write_batch import WriteBatch
    from drainproxy.tasks import Connections


START_PATIENCE_S = 3.0
"""For an application that has not come yet, where nothing is set: about what a caller waits for a connect."""


async def _unused(_request: web.BaseRequest) -> web.StreamResponse:
    raise web.HTTPNotImplemented


@dataclass(kw_only=True, eq=False)
class ProxyServer(web.Server):
    """A low-level aiohttp server whose protocol is ours. Runners and sites take it as it is."""

    settings: ProxySettings
    pool: Pool
    lifecycle: Controller
    inflight: InFlight
    admission: Admission
    connection_limit: ConnectionLimit
    concurrency_limit: ConcurrencyLimit | None
    buffers: Buffers
    write_batch: WriteBatch
    metrics: Metrics
    accounting: Accounting
    tasks: Connections
    routes: Routes
    linger_s: float
    entrance: Preamble | None = None
    """What comes before HTTP."""
    forwarder: Forwarder | None = None
    clients: set[ClientSocket] = field(default_factory=set)
    """Every open client connection."""
    no_http2_until: float = 0.0
    """Loop time; the application is taken not to speak HTTP/2 until then."""
    speaks_http2: bool = False
    """The application has spoken HTTP/2, or is said to: nothing makes it forget."""
    fallen: bool = False
    """The application was there, and refuses connections: callers are to go elsewhere, at once."""

    def __post_init__(self) -> None:
        super().__init__(_unused)
        self.loop = asyncio.get_running_loop()
        self.lifecycle.on_change(self._tell_http2)
        self.pool.presence.on_change.append(self._application_changed)
        self.connection_limit.no_room = self.buffers.is_full
        self.upstream_host = _host_of(self.pool)
        self.speaks_http2 = self.settings.upstream_http2 == "on"
        self.buffers.sides.append(self.clients)
        self.buffers.count(self.clients, CLIENT_BYTES, SOCKET_BYTES)
        self.buffers.count(self.inflight, WORK_BYTES)
        self._emptied = asyncio.Event()

    # What aiohttp's runner asks of a server.

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]
        """Make the protocol of a new connection."""
        if self.pool.address.tcp:
            return TcpConnection(self)
        client = ClientConnection(self)
        return client if self.entrance is None else self.entrance.lead(client)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's
        """Close what is left at the very end."""
        self.pool.stop()

    # Client connections.

    def opened(self, client: ClientSocket) -> None:
        """A client has connected."""
        self.clients.add(client)
        self._emptied.clear()
        self.metrics.client_connections_accepted.inc()
        self.buffers.weigh()
        self.connection_limit.enter(client)

    def handed_over(self, old: ClientSocket, new: ClientSocket) -> None:
        """A client's socket goes on in another protocol. Raises TooManyConnections."""
        self.connection_limit.hand_over(old, new)
        old.forget_time()
        self.buffers.free(old)
        self.clients.add(new)
        self.closed(old)

    def closed(self, client: ClientSocket) -> None:
        """A client connection has ended."""
        self.clients.discard(client)
        self.connection_limit.leave(client)
        if not self.clients:
            self._emptied.set()

    def count(self, error: RequestError) -> None:
        """Count what ended a connection that has no requests of its own, by who is to blame."""
        refused = error.blame is Blame.POLICY
        (self.metrics.refused if refused else self.metrics.errors).inc(error.reason)

    def _tell_http2(self) -> None:
        # A connection of HTTP/1.1 looks at the policy when it answers; one of HTTP/2 has to say something.
        if self.lifecycle.published.discourage_reuse:
            for client in list(self.clients):
                client.policy_changed()

    def _application_changed(self) -> None:
        """Its connections have ended with the application: end those of clients too, as they would have."""
        self.fallen = self.pool.presence.fallen
        if self.fallen:
            for client in list(self.clients):
                client.policy_changed()
            self.retire_idle()

    def retire_idle(self) -> bool:
        """Close idle connections, half-close first; return whether some were left since they have spoken."""
        idle = [client for client in self.clients if client.idle]
        speaking = [client for client in idle if sockets.has_bytes(client.transport)]
        for client in idle:
            if client not in speaking:
                client.close()
        return bool(speaking)

    async def emptied(self, until: float = math.inf) -> None:
        """Wait up to twice `linger`, and until loop time `until`, for the last client connection to go."""
        if self.clients:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(self.loop.time() + 2 * self.linger_s, until)):
                    await self._emptied.wait()

    # The application.

    def found_http2(self) -> None:
        """The application has sent SETTINGS."""
        self.speaks_http2 = True
        self.no_http2_until = 0.0

    async def connect(self, deadline: float, borrower: Borrower | None = None) -> UpstreamConnection:
        """Connect for a request, as the phase says.

        Until loop time `deadline`. While the application starts it is waited for, but not as long as it may
        take to never come; then: UpstreamRefused.
        """
        if self.lifecycle.published.policy.new_request is not NewRequest.CONNECT_PATIENTLY:
            return await self.pool.connect_if_worthwhile(deadline, borrower)
        patience_s = START_PATIENCE_S if (own := self.settings.connect_timeout) is None else own
        patient = min(deadline, self.loop.time() + patience_s)
        try:
            return await self.pool.connect(patient, borrower)
        except UpstreamRefused as refused:
            try:
                async with asyncio.timeout_at(patient):
                    await self.lifecycle.until(lambda: self.lifecycle.upstream_up)
            except TimeoutError:
                raise refused from None
            return await self.pool.connect(deadline, borrower)
        except ConnectTimeout:
            raise UpstreamRefused from None


def _host_of(pool: Pool) -> bytes:
    """Return the Host for a client that sent none (HTTP/1.0)."""
    address = pool.address
    if address.path:
        return b"localhost"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}".encode("ascii", "replace")
