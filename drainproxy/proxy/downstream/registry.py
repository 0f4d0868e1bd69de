"""Who is connected, on one listener: opened, handed over, closed; and all of them together.

Knows of a client's connection what every one has, whatever it speaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Protocol

from drainproxy.proxy.limits.connection_limit import Evictable
from drainproxy.proxy.wire import sockets
from drainproxy.proxy.wire.weights import CLIENT_BYTES, SOCKET_BYTES, transport_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.metrics import Metrics
    from drainproxy.proxy.plane import Plane


class Connected(Evictable, Hashable, Protocol):
    """A client's connection."""

    arrived_at: float

    @property
    def speaks_http2(self) -> bool:
        """It does now, whatever it began with."""

    def policy_changed(self) -> None:
        """The lifecycle wants this client to go elsewhere."""

    def forget_time(self) -> None:
        """Be told of no deadline any more, and of no age."""

    def fit(self) -> None:
        """Hold as much as there is room for."""


class Registry:
    """Written by client connections as they come and go."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.clients: set[Connected] = set()
        """Every open client connection."""
        self._emptied = asyncio.Event()
        plane.buffers.sides.append(self.clients)
        plane.buffers.count(self.clients, CLIENT_BYTES + transport_bytes(plane.loop), SOCKET_BYTES)
        plane.lifecycle.on_change(self._tell_http2)
        plane.pool.presence.on_shut.append(self._application_changed)

    @staticmethod
    def export(registries: Sequence[Registry], metrics: Metrics) -> None:
        """Have a scrape count the clients of all listeners."""

        def refresh() -> None:
            clients = [client for each in registries for client in each.clients]
            idle = sum(client.idle for client in clients)
            metrics.client_connections.set(idle, "idle")
            metrics.client_connections.set(len(clients) - idle, "active")
            metrics.h2_connections.set(sum(client.speaks_http2 for client in clients))

        metrics.before_scrape.append(refresh)

    def opened(self, client: Connected) -> None:
        """A client has connected."""
        self.clients.add(client)
        self._emptied.clear()
        self.plane.metrics.client_connections_accepted.inc()
        self.plane.buffers.weigh()
        self.plane.connection_limit.enter(client)

    def handed_over(self, old: Connected, new: Connected) -> None:
        """A client's socket goes on in another protocol. Raises TooManyConnections."""
        self.plane.connection_limit.hand_over(old, new)
        old.forget_time()
        self.plane.buffers.free(old)
        self.clients.add(new)
        self.plane.connection_limit.leave(old)
        self.closed(old)

    def closed(self, client: Connected) -> None:
        """Nothing is held for a client any more, who has given up its place before."""
        self.clients.discard(client)
        if not self.clients:
            self._emptied.set()

    def _tell_http2(self) -> None:
        # A connection of HTTP/1.1 looks at the policy when it answers; one of HTTP/2 has to say something.
        if self.plane.lifecycle.published.discourage_reuse:
            self._tell()

    def _application_changed(self) -> None:
        """Its connections have ended with the application: end those of clients too, as they would have."""
        if self.plane.pool.presence.shut:
            self._tell()
            self.retire_idle()

    def _tell(self) -> None:
        for client in list(self.clients):
            client.policy_changed()

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
            latest = self.plane.loop.time() + 2 * self.plane.linger_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(latest, until)):
                    await self._emptied.wait()
