"""Sockets: bound before anything else, closed after everything else.

Closing a listening socket resets every connection that the kernel has completed and nobody accepted. So at
the end a duplicate of the descriptor is kept, the loop's server is stopped, and what is in the backlog is
accepted and served before the last descriptor goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from aiohttp import web

from drainproxy.errors import ListenError

if TYPE_CHECKING:
    from drainproxy.addresses import ListenAddress
    from drainproxy.proxy.server import ProxyServer

BACKLOG = 1024
"""Connections the kernel completes for us while we are busy; net.core.somaxconn caps it."""


def bind(address: ListenAddress) -> socket.socket:
    """Return a bound, listening, non-blocking socket. Raises ListenError."""
    if address.host is None:
        # One socket for both families: hooks and probes go to the pod's IP, whichever it is.
        with contextlib.suppress(OSError):
            return _listen(socket.AF_INET6, "::", address.port)
        family, host = socket.AF_INET, "0.0.0.0"  # noqa: S104 - every address was asked for
    else:
        try:
            info = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise ListenError(f"cannot listen on {address}: {error.strerror}") from None
        family, host = info[0], str(info[4][0])
    try:
        return _listen(family, host, address.port)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from None


def _listen(family: int, host: str, port: int) -> socket.socket:
    wire = socket.socket(family, socket.SOCK_STREAM)
    try:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        wire.bind((host, port))
        wire.listen(BACKLOG)
        wire.setblocking(False)
    except OSError:
        wire.close()
        raise
    return wire


def address_of(wire: socket.socket) -> str:
    """Return the bound address as host:port."""
    host, port = wire.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Listener:
    """One listening socket and the server behind it."""

    def __init__(self, wire: socket.socket, server: ProxyServer) -> None:
        self.server = server
        self.address = address_of(wire)
        self._last = wire.dup()
        self._runner = web.ServerRunner(server)
        self._wire = wire
        self._site: web.SockSite | None = None

    async def start(self) -> None:
        """Accept connections."""
        await self._runner.setup()
        self._site = web.SockSite(self._runner, self._wire, backlog=BACKLOG)
        await self._site.start()

    async def sweep(self) -> int:
        """Stop accepting; serve what the kernel had completed. Return how many connections that were."""
        if self._site is not None:
            await self._site.stop()
        loop = asyncio.get_running_loop()
        self._last.setblocking(False)
        count = 0
        for _ in range(2 * BACKLOG):
            try:
                wire, _ = self._last.accept()
            except ConnectionError:
                # It ended in the backlog: the next one may be alive.
                continue
            except OSError:
                # Nothing is left (EAGAIN), or nothing can be taken (out of descriptors).
                break
            await loop.connect_accepted_socket(self.server, wire)
            count += 1
        self._last.close()
        return count

    async def close(self) -> None:
        """End what is left."""
        await self._runner.cleanup()
