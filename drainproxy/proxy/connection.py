"""One client connection: heads in, exchanges out, decide reuse; its own branch of the drain.

One coroutine a connection answers requests in their order. It reads the published policy when it decides
whether the client may send another, and nothing tells it to: a drain needs no list of connections but the
idle ones at the exit.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from drainproxy.errors import (
    ClientGone,
    DrainDeadline,
    HeadTimeout,
    InternalError,
    RequestError,
    UpgradeUnsupported,
)
from drainproxy.proxy import framing, headers, replies
from drainproxy.proxy.date import date_line
from drainproxy.proxy.exchange import Exchange
from drainproxy.proxy.heads import RequestReader, tokens
from drainproxy.proxy.timer import LazyTimer

if TYPE_CHECKING:
    from drainproxy.proxy.heads import RequestHead
    from drainproxy.proxy.server import ProxyServer

MAX_AHEAD_BYTES = 64 * 1024
"""Bytes read beyond the current request. Reading goes on until then: a paused transport reports no close."""

MAX_LINGER_BYTES = 1024 * 1024
"""What is read and thrown away after a last answer, so that the client can read it (RFC 9112 section 9.6)."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ClientConnection(asyncio.Protocol):
    """Written by its transport and its own coroutine."""

    __slots__ = (
        "_ahead",
        "_arrived",
        "_body_paused",
        "_eof",
        "_exchange",
        "_lingering",
        "_lost",
        "_reader",
        "_reading_body",
        "_reading_paused",
        "_requests",
        "_retired",
        "accepted_at",
        "loop",
        "peer",
        "scheme",
        "server",
        "timer",
        "transport",
        "write_paused",
    )
    transport: asyncio.Transport

    def __init__(self, server: ProxyServer) -> None:
        self.server = server
        self.loop = server.loop
        self.timer = LazyTimer(self.loop, self._expired)
        self.peer = b""
        self.scheme = b"http"
        self.accepted_at = 0.0
        self._reader = RequestReader(server.settings)
        self._ahead = b""
        self._arrived: asyncio.Future[None] | None = None
        """What the coroutine waits for between requests: bytes, an end or a time-out."""
        self._exchange: Exchange | None = None
        self._reading_body = False
        self._body_paused = False
        self._reading_paused = False
        self.write_paused = False
        self._eof = False
        self._lost = False
        self._retired = False
        self._lingering = -1
        """Bytes thrown away since the half-close; -1 before it."""
        self._requests = 0

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection's coroutine."""
        self.transport = cast("asyncio.Transport", transport)
        self.accepted_at = self.loop.time()
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = str(peer[0]).removeprefix("::ffff:").encode()
        self.server.opened(self)

    def data_received(self, data: bytes) -> None:
        """Give bytes to whom they belong: the body being read, or the next head."""
        if self._lingering >= 0:
            self._lingering += len(data)
            if self._lingering > MAX_LINGER_BYTES:
                self._abort()
            return
        if self.server.controller.published.draining:
            self.server.controller.request_byte()
        if self._reading_body:
            self._feed_body(data)
            return
        self._ahead = self._ahead + data if self._ahead else data
        if self._arrived is not None:
            self._wake()
        elif len(self._ahead) >= MAX_AHEAD_BYTES:
            self._pause(paused=True)

    def eof_received(self) -> bool:
        """Take a client's half-close: what it sent before is answered only by setting."""
        self._eof = True
        self._wake()
        if self._exchange is not None and (self._reading_body or not self.server.settings.allow_half_close):
            self._exchange.client_gone()
        return self._exchange is not None or bool(self._ahead) or self._lingering >= 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Free what waits for this client."""
        self._lost = self._eof = True
        self.timer.cancel()
        self._reader.forget()
        self._wake()
        if self._exchange is not None:
            self._exchange.client_gone()
        if self._requests == 0 and self.accepted_at >= self.server.controller.published.drain_started:
            self.server.metrics.late_connections.inc("empty")
        self.server.closed(self)

    def pause_writing(self) -> None:
        """Hold the response back."""
        self.write_paused = True
        if self._exchange is not None:
            self._exchange.client_writable(writable=False)

    def resume_writing(self) -> None:
        """Let the response go on."""
        self.write_paused = False
        if self._exchange is not None:
            self._exchange.client_writable(writable=True)

    # The coroutine.

    async def serve(self) -> None:
        """Answer requests until the connection cannot carry another."""
        try:
            while True:
                head = await self._next_head()
                if head is None or not await self._answer(head):
                    break
            await self._close()
        finally:
            self.timer.cancel()
            if not self.transport.is_closing():
                self._abort()

    async def _next_head(self) -> RequestHead | None:
        """Return the next request's head, or None when there will be none."""
        self.timer.set(self.loop.time() + self.server.settings.keepalive_idle)
        try:
            # An empty line before a head is no head begun: the wait goes on.
            while (head := self._take_head()) is None and not self._reader.begun:
                if self._eof or self._retired:
                    return None
                if self._reading_paused:
                    self._pause(paused=False)
                self._arrived = self.loop.create_future()
                await self._arrived
                self._arrived = None
            if head is not None:
                return head
            # A head that has begun is work: who sends slowly is waited for, so long and no longer.
            self.timer.set(self.loop.time() + self.server.settings.head_timeout)
            with self.server.inflight.hold(ReadingHead(self)):
                while head is None and not self._eof:
                    await self._more()
                    head = self._take_head()
        except RequestError as error:
            self._arrived = None
            self._reply(error, head=None)
            return None
        return head

    def _take_head(self) -> RequestHead | None:
        if not self._ahead:
            return None
        data, self._ahead = self._ahead, b""
        read = self._reader.feed(data)
        if read is None:
            return None
        head, self._ahead = read
        return head

    async def _more(self) -> None:
        """Wait for bytes, for an end, or for what the timer says."""
        if self._reading_paused:
            self._pause(paused=False)
        self._arrived = self.loop.create_future()
        try:
            await self._arrived
        finally:
            self._arrived = None

    async def _answer(self, head: RequestHead) -> bool:
        """Answer one request; return whether the connection can carry another."""
        server = self.server
        first = self._requests == 0
        self._requests += 1
        exchange: Exchange | None = None
        try:
            if self.gone:
                raise ClientGone
            body = framing.request_body(head)
            target = headers.check_target(head)
            if b"upgrade" in head.named and _wants_upgrade(head):
                raise UpgradeUnsupported
            now = self.loop.time()
            server.admission.admit(head, accepted_at=self.accepted_at, first=first, now=now)
            exchange = Exchange(self, head, target, body, now)
            self._exchange = exchange
            with server.inflight.hold(exchange):
                await exchange.run()
        except RequestError as error:
            return self._fail(error, head, exchange)
        except Exception as defect:
            server.defect(defect)
            return self._fail(InternalError(), head, exchange)
        finally:
            self._exchange = None
            self._reading_body = False
        server.answered(head, exchange)
        return not exchange.close and not self._lost

    def _fail(self, error: RequestError, head: RequestHead, exchange: Exchange | None) -> bool:
        """Tell the client what happened, in the way that is still open; return whether to go on."""
        if isinstance(error, ClientGone) or self._lost:
            self.server.failed(ClientGone(), head, exchange, begun=False)
            self._abort()
            return False
        begun = exchange is not None and exchange.status != 0
        self.server.failed(error, head, exchange, begun=begun)
        if begun:
            self._cut()
            return False
        return self._reply(error, head, exchange)

    def _reply(self, error: RequestError, head: RequestHead | None, exchange: Exchange | None = None) -> bool:
        if head is None:
            self.server.failed(error, None, None, begun=False)
        body_read = exchange.request_read if exchange is not None else head is not None and _bodiless(head)
        keep = (
            head is not None
            and head.http_1_1
            and replies.keeps_connection(error, body_read=body_read)
            and not self._discouraged()
            and b"close" not in head.named
        )
        head_only = head is not None and head.method == b"HEAD"
        self.write(replies.reply(error, date=date_line(), head_only=head_only, close=not keep))
        return keep

    async def _close(self) -> None:
        """End the connection so that the last answer can be read: half-close, then read on a while."""
        if self._lost or self.transport.is_closing():
            return
        self.server.outbox.flush()
        if self._eof:
            self.transport.close()
            return
        self._lingering = 0
        self._ahead = b""
        self.transport.write_eof()
        self.timer.set(self.loop.time() + self.server.linger_s)
        await self._more()

    # Reading.

    def read_body(self, exchange: Exchange) -> None:
        """Hand the request's body to `exchange` from now on, beginning with what is already here."""
        self._exchange = exchange
        self._reading_body = True
        if self._ahead:
            data, self._ahead = self._ahead, b""
            self._feed_body(data)
        elif self._eof:
            exchange.client_gone()

    def pause_body(self, *, paused: bool) -> None:
        """Stop or go on reading while the application cannot take more of the body."""
        self._body_paused = paused
        if self._reading_body:
            self._pause(paused=paused)

    def _feed_body(self, data: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        rest = exchange.request_data(data)
        if rest is None:
            return
        self._reading_body = False
        self._ahead = rest
        self._pause(paused=len(rest) >= MAX_AHEAD_BYTES)

    def _pause(self, *, paused: bool) -> None:
        if paused == self._reading_paused or self._lost:
            return
        self._reading_paused = paused
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    # Writing and closing.

    def write(self, data: bytes) -> None:
        """Write, unless the client is gone."""
        if data and not self._lost:
            self.server.outbox.write(self.transport, data)

    def closes_after(self, exchange: Exchange) -> bool:
        """Tell whether `exchange` is the last one on this connection (RFC 9112 section 9.6)."""
        return b"close" in exchange.head.named or self._eof or self._discouraged()

    def _discouraged(self) -> bool:
        # What has been pipelined already is answered first: closing would throw it away.
        return self.server.controller.published.discourage_reuse and not self._ahead

    def unsent(self) -> bool:
        """Tell whether the socket has not taken everything that was written."""
        return not self._lost and self.transport.get_write_buffer_size() > 0

    def pause_until_flushed(self, *, on: bool) -> None:
        """Have the exchange told (`client_writable`) only once nothing is left to send, or as usual again."""
        if not self._lost:
            self.transport.set_write_buffer_limits(high=0 if on else None)

    @property
    def gone(self) -> bool:
        """The client will not read an answer."""
        return self._lost or (self._eof and not self.server.settings.allow_half_close)

    def _cut(self) -> None:
        """End so that the client sees it: a FIN would make a close-delimited body look complete."""
        if not self._lost:
            wire = self.transport.get_extra_info("socket")
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._abort()

    def _abort(self) -> None:
        self._lost = True
        self.transport.abort()

    @property
    def idle(self) -> bool:
        """Between two requests, with nothing of the next one here."""
        return (
            self._arrived is not None and not self._reader.begun and not self._ahead and self._lingering < 0
        )

    def retire(self) -> None:
        """Close an idle connection: the process is leaving, or makes room."""
        self._retired = True
        self._wake()

    def fail_head(self, error: RequestError) -> None:
        """End the reading of a head that has begun."""
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_exception(error)

    def _expired(self) -> None:
        """Act on the connection's one timer, by what it is doing."""
        exchange = self._exchange
        if exchange is not None:
            exchange.expired()
        elif self._lingering >= 0:
            self._abort()
        elif self._reader.begun:
            late = self.loop.time() >= self.server.controller.published.work_deadline
            self.fail_head(DrainDeadline() if late else HeadTimeout())
        else:
            self.retire()


class ReadingHead:
    """A request whose head has begun: a Work, so that a drain waits for it (lifecycle/inflight.py)."""

    __slots__ = ("_client", "_own_deadline", "deadline", "started")
    kind = "http"

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self.started = client.loop.time()
        self._own_deadline = client.timer.when
        self.deadline = self._own_deadline
        self.drain_by(client.server.controller.published.work_deadline)

    def drain_by(self, deadline: float) -> None:
        """End by the drain's deadline too, or no longer (Work)."""
        self.deadline = min(self._own_deadline, deadline)
        self._client.timer.set(self.deadline)

    def leave(self) -> None:
        """A request just finishes (Work)."""

    def cut(self, reason: str) -> None:
        """End at the drain's deadline (Work)."""
        self._client.fail_head(DrainDeadline())

    def describe(self) -> dict[str, str]:
        """Say what is known of it (Work)."""
        return {"method": "", "path": "(reading the head)"}


def _bodiless(head: RequestHead) -> bool:
    return b"content-length" not in head.noted and b"transfer-encoding" not in head.noted


def _wants_upgrade(head: RequestHead) -> bool:
    """Tell whether an Upgrade is one to take seriously; others are ignored (RFC 9110 section 7.8)."""
    wanted = set(tokens(head.noted.get(b"upgrade", b""))) - {b"h2c", b""}
    return bool(wanted) and head.method == b"GET" and head.http_1_1
