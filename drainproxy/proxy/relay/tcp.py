"""Any protocol over TCP: a tunnel without a head, for upstreams that are written tcp://.

A connection is work from its accept to its end: a drain waits for it until its deadline, since nobody here
knows a word for leaving.
"""

import asyncio

from drainproxy.errors import DrainEnding, RequestError
from drainproxy.proxy.accounting.outcome import TurnedAway
from drainproxy.proxy.downstream.client import ClientSocket
from drainproxy.proxy.downstream.unfinished import Unfinished
from drainproxy.proxy.message.upgrade import kind_of
from drainproxy.proxy.relay.tunnel import Tunnel
from drainproxy.proxy.upstream.connection import UpstreamConnection
from drainproxy.proxy.wire import proxy_protocol

PROTOCOL = b"tcp"
MAX_EARLY_BYTES = 64 * 1024
"""What either side may say before the other is reached. A client is held back from then on."""


class TcpConnection(ClientSocket):
    """A client until the application is reached; then a Tunnel has its socket. Borrows the connection that is
    being made, since in many protocols the application speaks first."""

    __slots__ = ("_asked", "_connecting", "_early", "_upstream_gone")
    _connecting: asyncio.Task[None] | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client in, and connect."""
        self._asked = self._early = b""
        self._upstream_gone = False
        self._connecting = None
        super().connection_made(transport)
        if not self._lost:
            connecting = self._connect(Unfinished(self, "connecting", "tunnel"))
            self._connecting = self.plane.tasks.spawn(connecting, "connect tcp")

    async def _connect(self, beginning: Unfinished) -> None:
        try:
            await self._begin()
        finally:
            self._connecting = None
            beginning.end()

    async def _begin(self) -> None:
        plane = self.plane
        if self._lost:
            # It was turned away before it could ask.
            return
        try:
            if plane.admission.ending(self.loop.time()):
                raise DrainEnding
            if self.over:
                plane.connection_limit.claim(self)
            upstream = await plane.connector.connect(self.loop.time() + plane.routes.default.connect, self)
        except RequestError as error:
            self._turn_away(error)
            self.reset()
            return
        if self._upstream_gone:
            plane.pool.discard(upstream)
            self.abort()
            return
        self._pause(paused=False)
        if (version := plane.settings.upstream_proxy_protocol) != "off":
            tell = self.transport.get_extra_info
            header = proxy_protocol.said(version, tell("peername"), tell("sockname"))
            plane.write_batch.write(upstream.transport, header)
        TcpTunnel(self, upstream).begin(self, self._asked, self._early, eof=self._eof)

    def data_received(self, data: bytes) -> None:
        """Keep what the client says first."""
        self._asked += data
        self._hold(len(self._asked))
        self._pause(paused=len(self._asked) >= MAX_EARLY_BYTES)

    def eof_received(self) -> bool:
        """See asyncio.Protocol. The application is told once it is reached."""
        self._eof = True
        return True

    # Borrower, while connecting.

    def upstream_data(self, data: bytes) -> None:
        """Keep what the application says first."""
        self._early += data
        if len(self._early) > MAX_EARLY_BYTES:
            self._upstream_gone = True

    def upstream_eof(self) -> None:
        """Nothing was said to it yet (Borrower)."""

    def upstream_lost(self, *, reset: bool) -> None:
        """The application has hung up at once."""
        self._upstream_gone = True

    def upstream_writable(self, *, writable: bool) -> None:
        """Nothing is written yet."""

    # ClientSocket.

    def ended(self, *, reset: bool) -> None:
        """See ClientSocket. Nobody waits for the application any more."""
        if self._connecting is not None:
            self._connecting.cancel()

    def fail_head(self, error: RequestError) -> None:
        """There is no word for a refusal but an end."""
        self._turn_away(error)
        self.abort()

    def _turn_away(self, error: RequestError) -> None:
        asked, tunnel = bool(self._asked), kind_of(PROTOCOL)
        self.plane.accounting.record(TurnedAway(self, error, asked=asked, tunnel=tunnel))


class TcpTunnel(Tunnel):
    """A Tunnel whose first byte from the client is what tells that somebody was sent here: probes say
    nothing."""

    __slots__ = ("_accepted_at",)

    def __init__(self, before: TcpConnection, upstream: UpstreamConnection) -> None:
        super().__init__(before, upstream, before.plane.routes.default, {}, PROTOCOL)
        self._accepted_at = before.accepted_at

    def client_data(self, data: bytes) -> None:
        """See Tunnel."""
        if not self.bytes_received:
            now = self._client.loop.time()
            self._plane.accounting.arrivals.came(self._accepted_at, now, first=True)
        super().client_data(data)
