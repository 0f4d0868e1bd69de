"""The protocol factory of one listener, which aiohttp's runner hosts: what a new connection begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from drainproxy.proxy.downstream.registry import Registry
from drainproxy.proxy.http1.connection import ClientConnection
from drainproxy.proxy.relay.tcp import TcpTunnel

if TYPE_CHECKING:
    import asyncio

    from drainproxy.proxy.plane import Plane
    from drainproxy.proxy.preamble import Preamble


async def _unused(_request: web.BaseRequest) -> web.StreamResponse:
    raise web.HTTPNotImplemented


class ProxyServer(web.Server):
    """A low-level aiohttp server whose protocol is ours. Runners and sites take it as it is."""

    def __init__(self, plane: Plane, preamble: Preamble | None = None) -> None:
        """`preamble`: what comes before HTTP."""
        super().__init__(_unused)
        self.plane = plane
        self.registry = Registry(plane)
        self._preamble = preamble

    @property
    def http_at_once(self) -> bool:
        """Whoever connects may speak HTTP, and is answered in it."""
        return self._preamble is None and not self.plane.pool.address.tcp

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]
        """Make the protocol of a new connection."""
        if self.plane.pool.address.tcp:
            return TcpTunnel(self.registry)
        client = ClientConnection(self.registry)
        return client if self._preamble is None else self._preamble.lead(client)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's
        """Close what is left at the very end."""
        self.plane.pool.stop()
