"""A socket to the application: asked for as long as the caller waits, at whichever of its addresses answers.

Whoever listens and does not get round to accepting is waited for; only a refusal is one. The kernel would
ask again after 1, 3, 7 and 15 s (tcp(7)): an application that was stopped for four seconds would be found
three seconds late. So a connect that is not answered is begun anew now and then.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from typing import TYPE_CHECKING, Final

from drainproxy.proxy.wire import sockets
from drainproxy.proxy.wire.buffers import SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.addresses import UpstreamAddress

AGAIN_S: Final = 2.0
"""A connect without an answer is begun anew; the kernel repeats itself once in between. So somebody asks
every second."""
UNIX_AGAIN_S, UNIX_SLOWEST_S = 0.02, 0.5
"""A Unix socket whose backlog is full says so at once, and nobody tells when it has room. Each caller asks,
soon at first and more and more seldom: a thousand of them at a stopped application are not to spin."""

IP_BIND_ADDRESS_NO_PORT: Final = 24
"""Not in the socket module of every Python (linux/in.h)."""
_UNDER_WAY: Final = frozenset((errno.EINPROGRESS, errno.EALREADY))
_NOT_ASKED: Final = sockets.OUT_OF_DESCRIPTORS | sockets.OUT_OF_SOCKETS
_LOOPBACK = ("127.0.0.1", "::1")
"""What `localhost` is (RFC 6761 section 6.3), whatever a hosts file knows of it."""


class Dialer:
    """Of one application. Its sockets only; what speaks on them is a connection's affair."""

    def __init__(
        self, address: UpstreamAddress, loop: asyncio.AbstractEventLoop, source: str | None = None
    ) -> None:
        """`source`: from where an address of loopback is connected to."""
        self._address = address
        self._source = source if sys.platform == "linux" else None
        self._loop = loop
        hosts = [address.host] if address.is_ip else _LOOPBACK if address.host == "localhost" else ()
        self.places: list[tuple[str, int]] = [(host, address.port) for host in hosts]
        """Where it may be, if that stays so. The one that has answered last is asked first."""

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
        places = self.places or await self._resolved()
        failure: OSError | None = None
        try:
            while True:
                failure = None
                answers = True
                for place in places:
                    try:
                        wire = await self._tcp(place, small=small)
                    except OSError as error:
                        if error.errno in _NOT_ASKED:
                            # Whatever another address says, somebody may listen at this one.
                            raise
                        # A family that this machine has not is no answer where the other one has refused.
                        if failure is None or isinstance(error, ConnectionRefusedError):
                            failure = error
                        continue
                    if wire is None:
                        answers = False
                        continue
                    if self.places and place != places[0]:
                        # Not in place: other dials are on their way through that list.
                        self.places = [place, *(each for each in places if each != place)]
                    return wire
                if answers:
                    raise failure or OSError("no address")
        finally:
            # It knows this frame, and with it everybody who waits for the connect: a circle.
            failure = None

    async def _resolved(self) -> list[tuple[str, int]]:
        """Return the addresses behind a name: another machine's, which may be others the next time."""
        host, port = self._address.host, self._address.port
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror:
            # A resolver that finds no descriptor says anything, also that there is no such name.
            socket.socket().close()
            raise
        return [(str(where[0]), port) for _, _, _, _, where in found]

    async def _tcp(self, place: tuple[str, int], *, small: bool) -> socket.socket | None:
        """Connect; return None where it is time to begin anew."""
        wire = socket.socket(_family(place[0]))
        try:
            wire.setblocking(False)
            if small:
                sockets.bound_received(wire, SMALL_BYTES)
            if self._source is not None and place[0].startswith("127."):
                # The port is chosen at the connect, and so need not be unique (ip(7)).
                wire.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                wire.bind((self._source, 0))
            if _at_once(wire, place) or await self._waited(wire, place):
                return wire
        except BaseException:
            wire.close()
            raise
        wire.close()
        return None

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
        if code == errno.EADDRNOTAVAIL and not sockets.has_source(wire.family, where):
            code = errno.ENETUNREACH
        if code not in _UNDER_WAY:
            raise OSError(code, os.strerror(code))
    return False


async def _unix(path: str) -> socket.socket:
    again_s = UNIX_AGAIN_S
    while True:
        wire = socket.socket(socket.AF_UNIX)
        try:
            wire.setblocking(False)
            wire.connect(path)
        except BlockingIOError:
            wire.close()
            await asyncio.sleep(again_s)
            again_s = min(again_s * 1.5, UNIX_SLOWEST_S)
        except BaseException:
            wire.close()
            raise
        else:
            return wire


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
