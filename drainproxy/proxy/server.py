"""One listener's data plane: the protocol factory that aiohttp's runner hosts.

Owns the set of client connections, and what they share.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from aiohttp import web

from drainproxy.errors import ConnectTimeout, UpstreamRefused
from drainproxy.proxy import kernel
from drainproxy.proxy.connection import ClientConnection
from drainproxy.proxy.routes import Routes, default_timeouts

if TYPE_CHECKING:
    from drainproxy.lifecycle.controller import Controller
    from drainproxy.lifecycle.inflight import InFlight
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.admission import Admission
    from drainproxy.proxy.books import Books
    from drainproxy.proxy.limits import Limits
    from drainproxy.proxy.outbox import Outbox
    from drainproxy.proxy.routes import Route
    from drainproxy.proxy.settings import ProxySettings
    from drainproxy.proxy.upstream import Pool, UpstreamConnection
    from drainproxy.tasks import Connections


async def _unused(_request: web.BaseRequest) -> web.StreamResponse:
    raise web.HTTPNotImplemented


class ProxyServer(web.Server):
    """A low-level aiohttp server whose protocol is ours. Runners and sites take it as it is."""

    def __init__(
        self,
        *,
        settings: ProxySettings,
        pool: Pool,
        controller: Controller,
        inflight: InFlight,
        admission: Admission,
        limits: Limits,
        outbox: Outbox,
        metrics: Metrics,
        books: Books,
        tasks: Connections,
        linger_s: float,
        routes: tuple[Route, ...] = (),
    ) -> None:
        super().__init__(_unused)
        self.loop = asyncio.get_running_loop()
        self.settings = settings
        self.pool = pool
        self.controller = controller
        self.inflight = inflight
        self.admission = admission
        self.places = limits.places
        self.turns = limits.turns
        self.outbox = outbox
        self.metrics = metrics
        self.linger_s = linger_s
        self.routes = Routes(routes, default_timeouts(settings))
        self.upstream_host = _host_of(pool)
        self.books = books
        self.tasks = tasks
        self._clients: set[ClientConnection] = set()
        self._emptied: asyncio.Event = asyncio.Event()

    # What aiohttp's runner asks of a server.

    def __call__(self) -> ClientConnection:  # type: ignore[override]
        """Make the protocol of a new connection."""
        return ClientConnection(self)

    def pre_shutdown(self) -> None:
        """Do nothing: the drain has been, and `retire` is called in its time."""

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's
        """Close what is left at the very end."""
        self.pool.close_idle()

    # Client connections.

    @property
    def clients(self) -> set[ClientConnection]:
        """Every open client connection."""
        return self._clients

    def opened(self, client: ClientConnection) -> None:
        """A client has connected."""
        self._clients.add(client)
        self._emptied.clear()
        self.metrics.client_connections_accepted.inc()
        self.places.enter(client)

    def closed(self, client: ClientConnection) -> None:
        """A client connection has ended."""
        self._clients.discard(client)
        self.places.leave(client)
        if not self._clients:
            self._emptied.set()

    def retire_idle(self) -> bool:
        """Close idle connections, half-close first; return whether some were left since they have spoken."""
        idle = [client for client in self._clients if client.idle]
        speaking = [client for client in idle if kernel.has_bytes(client.transport)]
        for client in idle:
            if client not in speaking:
                client.close()
        return bool(speaking)

    async def emptied(self) -> None:
        """Wait up to twice `linger` until no client connection is left."""
        if self._clients:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * self.linger_s):
                    await self._emptied.wait()

    # The application.

    async def connect_patiently(self, deadline: float) -> UpstreamConnection:
        """Connect to an application that is still starting: wait until loop time `deadline` for it to answer.

        Raises UpstreamRefused when it does not.
        """
        try:
            return await self.pool.connect(deadline)
        except UpstreamRefused:
            try:
                async with asyncio.timeout_at(deadline):
                    await self.controller.until(lambda: self.controller.upstream_up)
            except TimeoutError:
                raise UpstreamRefused from None
            return await self.pool.connect(deadline)
        except ConnectTimeout:
            raise UpstreamRefused from None


def _host_of(pool: Pool) -> bytes:
    """Return the Host for a client that sent none (HTTP/1.0)."""
    address = pool.address
    if address.path:
        return b"localhost"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}".encode("ascii", "replace")
