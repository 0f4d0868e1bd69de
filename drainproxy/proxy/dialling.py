"""A socket to the application: asked for as long as the caller waits, at whichever of its addresses answers.

Whoever listens and does not get round to accepting is waited for; only a refusal is one. The kernel would
ask again after 1, 3, 7 and 15 s (tcp(7)): an application that was stopped for four seconds would be found
three seconds late. So a connect that is not answered is begun anew now and then.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from typing import TYPE_CHECKING

from drainproxy.proxy.side import SMALL_BYTES, bound_received

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.addresses import UpstreamAddress

AGAIN_S = 2.0
"""A connect without an answer is begun anew; the kernel repeats itself once in between. So somebody asks
every second."""
UNIX_AGAIN_S = 0.02
"""A Unix socket whose backlog is full says so at once, and nobody tells when it has room."""

_UNDER_WAY = frozenset((errno.EINPROGRESS, errno.EALREADY))
Place = tuple[socket.AddressFamily, tuple[str, int]]


class Dialler:
    """Of one application. Remembers which of the addresses behind `localhost` has answered."""

    def __init__(self, address: UpstreamAddress, loop: asyncio.AbstractEventLoop) -> None:
        self._address = address
        self._loop = loop
        self._known: Place | None = None
        if address.is_ip:
            self._known = (_family(address.host), (address.host, address.port))

    @property
    def place(self) -> tuple[str, int] | None:
        """Where it answers, if that is known to be one IP address."""
        return None if self._known is None else self._known[1]

    async def dial(self, make: Callable[[], asyncio.Protocol], *, small: bool = False) -> asyncio.Transport:
        """Connect; `make` returns what the transport speaks to. `small`: receive little at a time.

        Raises OSError: the first address's, where no address answers.
        """
        wire = await self._reach(small=small)
        try:
            if self._address.path:
                transport, _ = await self._loop.create_unix_connection(make, sock=wire)
            else:
                transport, _ = await self._loop.create_connection(make, sock=wire)
        except BaseException:
            wire.close()
            raise
        return transport

    async def _reach(self, *, small: bool) -> socket.socket:
        address = self._address
        if address.path:
            return await _unix(address.path)
        known = self._known
        if known is not None:
            try:
                return await self._tcp(known, small=small)
            except ConnectionRefusedError:
                if address.is_ip:
                    raise
                self._known = None
        found = await self._loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        places = [(family, (str(where[0]), address.port)) for family, _, _, _, where in found]
        failure: OSError | None = None
        for place in places:
            try:
                wire = await self._tcp(place, small=small)
            except OSError as error:
                # A family that this machine has not is no answer where the other one has refused.
                if failure is None or isinstance(error, ConnectionRefusedError):
                    failure = error
                continue
            if all(ipaddress.ip_address(host).is_loopback for _, (host, _) in places):
                # Elsewhere a name may move to another machine; here it is one of two.
                self._known = place
            return wire
        raise failure or OSError("no address")

    async def _tcp(self, place: Place, *, small: bool) -> socket.socket:
        family, where = place
        while True:
            wire = socket.socket(family)
            try:
                wire.setblocking(False)
                if small:
                    bound_received(wire, SMALL_BYTES)
                if _at_once(wire, where) or await self._waited(wire, where):
                    return wire
            except BaseException:
                wire.close()
                raise
            wire.close()

    async def _waited(self, wire: socket.socket, where: tuple[str, int]) -> bool:
        """Wait for a connect that is under way; return whether it has ended, before it is begun anew."""
        try:
            async with asyncio.timeout(AGAIN_S) as patience:
                await self._loop.sock_connect(wire, where)
        except TimeoutError:
            if patience.expired():
                return False
            raise
        return True


def _at_once(wire: socket.socket, where: tuple[str, int]) -> bool:
    """Begin to connect; return whether that was all. Raises OSError.

    Over loopback the handshake is over before the first call returns. The second one says how it ended, and
    the loop need not be asked.
    """
    for _ in range(2):
        code = wire.connect_ex(where)
        if code == 0:
            return True
        if code not in _UNDER_WAY:
            raise OSError(code, os.strerror(code))
    return False


async def _unix(path: str) -> socket.socket:
    while True:
        wire = socket.socket(socket.AF_UNIX)
        try:
            wire.setblocking(False)
            wire.connect(path)
        except BlockingIOError:
            wire.close()
            await asyncio.sleep(UNIX_AGAIN_S)
        except BaseException:
            wire.close()
            raise
        else:
            return wire


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
