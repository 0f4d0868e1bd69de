"""Any protocol over TCP: a tunnel without a head, for upstreams that are written tcp://.

A relay whose upstream end is still being reached: what either side says early is kept and bounded. A
connection is work from its accept to its end: a drain waits for it until its deadline, since nobody here
knows a word for leaving.
"""

import asyncio
from typing import Final

from drainproxy.errors import DrainEnding, RequestError
from drainproxy.proxy.accounting.outcome import TurnedAway
from drainproxy.proxy.downstream.registry import Registry
from drainproxy.proxy.downstream.states import AFTER_EOF, CLOSED, HALF_CLOSED
from drainproxy.proxy.downstream.unfinished import Unfinished
from drainproxy.proxy.relay.tunnel import Tunnel
from drainproxy.proxy.upstream.connection import UpstreamConnection
from drainproxy.proxy.wire import proxy_protocol

PROTOCOL: Final = b"tcp"
MAX_EARLY_BYTES: Final = 64 * 1024
"""What either side may say before the other is reached. A client is held back from then on."""


class TcpTunnel(Tunnel):
    """Its first byte from the client is what tells that somebody was sent here: probes say nothing."""

    __slots__ = ("_beginning", "_first_words")

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, registry.plane.routes.default, {}, PROTOCOL)
        self._beginning: Unfinished | None = None
        """The work of reaching the application."""
        self._first_words = b""
        """Of an application that speaks first."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client in, and connect."""
        super().connection_made(transport)
        if self.state is not CLOSED:
            self._beginning = Unfinished(self, "connecting", "tunnel")
            self._reach("connect tcp")

    # Until the application is reached.

    async def _connect(self) -> None:
        try:
            await super()._connect()
        finally:
            beginning, self._beginning = self._beginning, None
            if beginning is not None:
                beginning.end()

    def ask(self) -> None:
        """See Relay."""
        if self.plane.admission.ending(self.loop.time()):
            raise DrainEnding
        if self.over:
            self.plane.connection_limit.claim(self)

    def reached(self, upstream: UpstreamConnection) -> None:
        """See Relay."""
        plane = self.plane
        if (version := plane.settings.upstream_proxy_protocol) != "off":
            tell = self.transport.get_extra_info
            header = proxy_protocol.said(version, tell("peername"), tell("sockname"))
            plane.write_batch.write(upstream.transport, header)
        upstream.reader.forget()
        self.timer.cancel()
        words, self._first_words = self._first_words, b""
        self._begin(self._take_early(), words, eof=self.state is HALF_CLOSED)
        if self._upstream_done:
            self._pass_eof(self)

    def unreached(self, error: RequestError) -> None:
        """See Relay. There is no word for a refusal but an end."""
        self._turn_away(error)
        self.reset()

    def filter_client(self, data: bytes) -> tuple[bytes, int] | None:
        """See Relay."""
        if self._connecting is not None:
            self._pause(paused=self._keep(data) >= MAX_EARLY_BYTES)
        elif self._open and not self.bytes_received:
            self.plane.accounting.arrivals.came(self.accepted_at, self.loop.time(), first=True)
        return super().filter_client(data)

    def eof_received(self) -> bool:
        """See Tunnel. The application is told once it is reached."""
        if self._connecting is None:
            return super().eof_received()
        self.state = AFTER_EOF[self.state]
        return True

    def upstream_data(self, data: bytes) -> None:
        """See Relay."""
        if self._open:
            super().upstream_data(data)
            return
        self._first_words += data
        if len(self._first_words) > MAX_EARLY_BYTES and self.state is not CLOSED:
            self.reset()

    def upstream_eof(self) -> bool:
        """See Tunnel. The client is told behind what was said."""
        if self._open:
            return super().upstream_eof()
        self._upstream_done = True
        return True

    def upstream_lost(self, *, reset: bool) -> None:
        """See Tunnel."""
        if self._open:
            super().upstream_lost(reset=reset)
        elif self.state is not CLOSED:
            # It has hung up at once.
            self.reset()

    def fail_head(self, error: RequestError) -> None:
        """See ClientSocket."""
        self._turn_away(error)
        self.abort()

    def _turn_away(self, error: RequestError) -> None:
        away = TurnedAway(self, error, asked=bool(self._early), tunnel=self.tunnel)
        self.plane.accounting.record(away)
