"""The protocol factory of one listener: what a new connection begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.proxy.downstream.registry import Registry
from drainproxy.proxy.http1.connection import ClientConnection
from drainproxy.proxy.relay.tcp import TcpTunnel

if TYPE_CHECKING:
    import asyncio

    from drainproxy.proxy.plane import Plane
    from drainproxy.proxy.preamble import Preamble


class ProxyServer:
    """What the event loop calls for each connection that it accepts."""

    def __init__(self, plane: Plane, preamble: Preamble | None = None) -> None:
        """`preamble`: what comes before HTTP."""
        self.plane = plane
        self.registry = Registry(plane)
        self._preamble = preamble

    @property
    def http_at_once(self) -> bool:
        """Whoever connects may speak HTTP, and is answered in it."""
        return self._preamble is None and not self.plane.pool.address.tcp

    def __call__(self) -> asyncio.Protocol:
        """Make the protocol of a new connection."""
        if self.plane.pool.address.tcp:
            return TcpTunnel(self.registry).as_protocol()
        client = ClientConnection(self.registry)
        return client.as_protocol() if self._preamble is None else self._preamble.lead(client)

    def stop(self) -> None:
        """Close what is left at the very end."""
        self.plane.pool.stop()
