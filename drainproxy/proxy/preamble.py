"""What a connection passes before it may speak HTTP, on one listener: a PROXY header, TLS, or both.

Nothing of the data plane knows of it but the factory in server.py; a listener without any has none. A caller
that has begun is waited for like one that has begun a request: its request comes next.
"""

import asyncio
from functools import partial
from typing import cast

from drainproxy import certificates
from drainproxy.certificates import Certificates, Rotation
from drainproxy.errors import OutOfBuffers, ProxyHeaderRefused
from drainproxy.proxy.accounting.outcome import Stranger, TurnedAway
from drainproxy.proxy.downstream.client import ClientSocket
from drainproxy.proxy.downstream.unfinished import Unfinished
from drainproxy.proxy.message.trust import Trust
from drainproxy.proxy.settings import ProxySettings
from drainproxy.proxy.transport_settings import TransportSettings
from drainproxy.proxy.wire import proxy_protocol
from drainproxy.proxy.wire.buffers import Buffers
from drainproxy.proxy.wire.endpoint import session_of
from drainproxy.proxy.wire.tls import Tls


class Arrival(Unfinished):
    """A client on its way in."""

    __slots__ = ("_socket",)

    def __init__(self, client: ClientSocket) -> None:
        super().__init__(client, "handshake")
        self._socket = client

    @classmethod
    def begin(cls, client: ClientSocket) -> None:
        """The first byte has come."""
        if client.arrival is None and not client.leaving:
            client.timer.set(client.loop.time() + client.plane.settings.head_timeout)
            client.arrival = cls(client)

    @classmethod
    def begin_if_room(cls, client: ClientSocket) -> None:
        """The same, of what costs something from its first byte on."""
        cls.begin(client)
        if client.arrival is not None and client.buffers.refuses(0):
            # Now: a thousand may begin in this turn of the loop, before anybody is made to give way.
            client.arrival.shed()

    def cut(self, reason: str) -> None:
        """End at the drain's deadline (Work): nothing can be said yet."""
        self._socket.abort()

    def size(self, held: Buffers) -> int:
        """See Begun. A handshake whose hello is complete is nearly in, and goes on while it can."""
        size, tls = held.held_by(self._socket), session_of(self._socket.transport)
        if tls is not None:
            size += held.held_by(tls.incoming) if held.full else len(tls.hello)
        return size

    def shed(self) -> None:
        """See Begun. There is no word for it yet, but a reset is a refusal too."""
        client = self._socket
        self.over(client, arrived=False)
        client.hang_up(OutOfBuffers("it had begun, and was no request yet"))

    @staticmethod
    def over(client: ClientSocket, *, arrived: bool) -> bool:
        """It is in, or never will be. Return whether it had begun."""
        arrival, client.arrival = client.arrival, None
        if arrival is None:
            return False
        arrival.end()
        if arrived:
            client.arrived_at = client.loop.time()
            client.timer.set(client.arrived_at + client.plane.settings.keepalive_idle)
            # What comes next is a request: a drain does not end in between.
            client.plane.lifecycle.request_came(client.arrived_at)
        return True


class ProxyDoor:
    """Reads the PROXY header of one connection, and steps aside."""

    def __init__(self, client: ClientSocket, inner: asyncio.Protocol, trust: Trust) -> None:
        self._client = client
        self._inner = inner
        self._trust = trust
        self._read = b""
        self._peer = b""
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take in who comes from a trusted proxy, and hang up on everybody else."""
        self._transport = cast("asyncio.Transport", transport)
        self._client.awaits_header = True
        self._peer = self._client.address_of(transport)
        if self._trust.holds(self._peer):
            self._inner.connection_made(transport)
        else:
            self._refuse("not from a trusted proxy")

    def data_received(self, data: bytes) -> None:
        """Look for the header's end. What is behind it is for others."""
        if self._refused:
            return
        client = self._client
        # Where there is no room either: behind a whole header a health check may come.
        Arrival.begin(client)
        if client.leaving:
            return
        self._read += data
        try:
            found = proxy_protocol.read(self._read)
        except ValueError as fault:
            self._refuse(str(fault))
            return
        if found is None:
            client.buffers.hold(client, len(self._read))
            if client.arrival is not None and client.buffers.refuses(len(self._read)):
                client.arrival.shed()
            return
        client.buffers.free(client)
        source, size = found
        Arrival.over(client, arrived=True)
        client.awaits_header = False
        self._transport.set_protocol(self._inner)
        client.plane.connection_limit.introduce(client, source or self._peer)
        if client.buffers.tight:
            client.fit()
        rest, self._read = self._read[size:], b""
        if rest:
            self._inner.data_received(rest)

    def eof_received(self) -> bool:
        """See asyncio.Protocol."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended without a header."""
        if Arrival.over(self._client, arrived=False):
            self._refuse("an incomplete PROXY header")
        if self._client.accepted_at:
            self._inner.connection_lost(exc)
        else:
            self._client.forget_time()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""

    def _refuse(self, why: str) -> None:
        """Hang up: nothing can be said in a protocol that is not known."""
        if not self._refused:
            self._refused = True
            plane = self._client.plane
            caller = Stranger(self._peer, plane.loop.time())
            plane.accounting.record(TurnedAway(caller, ProxyHeaderRefused(why)))
            self._transport.abort()


class Preamble:
    """Of one listener. `tls`: what callers' handshakes take; `trust`: who sends a PROXY header, always."""

    def __init__(self, tls: Certificates | None, trust: Trust | None = None) -> None:
        self._tls = tls
        self._trust = trust

    def lead(self, client: ClientSocket) -> asyncio.Protocol:
        """Return the protocol that a new connection begins with."""
        inner = client.as_protocol()
        if self._tls is not None:
            client.scheme = b"https"
            queue = client.buffers.run_queue
            began, ended = partial(Arrival.begin_if_room, client), partial(_shaken, client)
            tls = Tls(
                inner,
                self._tls.context,
                ended,
                began=began,
                seal=client.seal,
                run_queue=queue,
                account=client.buffers,
            )
            inner = cast("asyncio.Protocol", tls)
        if self._trust is None:
            return inner
        return cast("asyncio.Protocol", ProxyDoor(client, inner, self._trust))


def _shaken(client: ClientSocket, failure: Exception | None) -> None:
    # Whoever connects and says nothing has not failed at anything.
    if Arrival.over(client, arrived=failure is None):
        client.plane.metrics.tls_handshakes.inc("ok" if failure is None else "failed")
        if failure is not None:
            why = certificates.reason(failure)
            client.plane.accounting.record(TurnedAway(client, "tls-handshake", detail=why))


def build(edge: TransportSettings, proxy: ProxySettings, rotation: Rotation) -> dict[bool, Preamble | None]:
    """Return the preamble of listeners with TLS, and of those without. Raises CertificateError."""
    trust = Trust(edge.trusted_proxies) if edge.proxy_protocol else None
    preambles = {False: Preamble(None, trust) if trust is not None else None, True: None}
    if any(address.tls for address in proxy.listen):
        make = partial(certificates.for_clients, client=edge.tls_client, http2=proxy.upstream_http2 == "on")
        preambles[True] = Preamble(rotation.add("clients", edge.for_clients, make), trust)
    return preambles
