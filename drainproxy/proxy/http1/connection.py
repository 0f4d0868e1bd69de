"""One client connection: heads in, exchanges out, decide reuse; its own branch of the drain.

Driven by what its transport and its exchange say, with no task of its own: a request costs no switch between
tasks, and an idle connection next to nothing. It reads the published policy when it decides whether the
client may send another request; a drain needs no list of connections but the idle ones at the exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy import errors
from drainproxy.proxy.accounting.outcome import Reply, TurnedAway
from drainproxy.proxy.downstream.states import AFTER_EOF, HALF_CLOSED, LINGERING
from drainproxy.proxy.downstream.unfinished import Unfinished
from drainproxy.proxy.http1 import states
from drainproxy.proxy.http1.exchange import Exchange
from drainproxy.proxy.http1.read_ahead import PatientSocket
from drainproxy.proxy.http1.request import receive
from drainproxy.proxy.http2.connection import Http2Connection
from drainproxy.proxy.message import event_stream, handed_on, headers, replies
from drainproxy.proxy.message.date import date_line
from drainproxy.proxy.message.http2_preface import Http2Preface
from drainproxy.proxy.relay.upgraded import tunnel_for
from drainproxy.proxy.wire import sockets
from drainproxy.proxy.wire.weights import LARGE_HEAD_BYTES

if TYPE_CHECKING:
    from drainproxy.proxy.downstream.registry import Registry
    from drainproxy.proxy.message.parser import RequestHead
    from drainproxy.proxy.upstream.connection import UpstreamConnection

_NOBODY_THERE = (
    errors.DrainEnding, errors.DrainDeadline, errors.UpstreamRefused, errors.UpstreamGone,
    errors.ConnectTimeout, errors.BreakerOpen, errors.HoldTimeout,
)  # fmt: skip
"""Without us, a request that hears these would hear nothing."""
FALLEN = (errors.UpstreamRefused, errors.BreakerOpen, errors.UpstreamGone)
"""What a request meets whose application has fallen."""


class ClientConnection(PatientSocket):
    """Written by its transport, its timer and its exchange, all on the loop's thread."""

    __slots__ = ("_partial",)

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self._partial: Unfinished | None = None
        self.private = None

    # asyncio.Protocol.

    def data_received(self, data: bytes) -> None:
        """Give bytes to whom they belong: the body being read, or the next head."""
        if self.state >= LINGERING:
            self._linger(data)
            return
        try:
            if self._reading is states.BODY:
                self._feed_body(data)
                return
            if self._reuse is states.NEVER:
                return
            self._ahead = self._ahead + data if self._ahead else data
            if self._reading is states.IDLE or self._reading is states.HEAD:
                self._proceed()
            else:
                self._wait_behind()
        except Exception as defect:
            self.defective(defect)

    def eof_received(self) -> bool:
        """Take a client's half-close. Returns True to keep the other half open."""
        self.state, self._reuse = AFTER_EOF[self.state], states.AFTER_HALF_CLOSE[self._reuse]
        exchange = self._exchange
        if exchange is None:
            return self._reading is states.REPLYING and self.plane.settings.allow_half_close
        if self._reading is states.BODY or self.gone:
            exchange.client_gone()
            return False
        return True

    def ended(self, *, reset: bool) -> None:
        """See ClientSocket. Frees what waits for this client."""
        self._ahead = b""
        self._read_no_more()
        self.buffers.begun.pop(self, None)
        self._end_head()
        if self._exchange is not None:
            self._exchange.client_gone()
        if self.private is not None:
            self.private.end()
        if self._requests == 0:
            self.plane.accounting.arrivals.left(self.accepted_at)

    def tell_writer(self, *, writable: bool) -> None:
        """See Endpoint."""
        if self._exchange is not None:
            self._exchange.client_writable(writable=writable)

    # From head to exchange to head.

    def _proceed(self) -> None:
        """Begin the next request, if its head is here and nothing else is under way."""
        while (self._reading is states.IDLE or self._reading is states.HEAD) and self.state < LINGERING:
            # Not `<= HEAD`: compiled, a comparison of members is as dear as a call, three times a request.
            try:
                head = self._take_head() if self._ahead else None
            except errors.RequestError as error:
                self.fail_head(error)
                return
            except Http2Preface as preface:
                self._switch(preface.rest)
                return
            if head is None:
                self._await_head()
                return
            if self._partial is not None:
                self._end_head()
            if self._reading_paused:
                self._pause(paused=len(self._ahead) >= self.buffers.max_ahead_bytes)
            try:
                self._answer(head)
            except Exception as defect:
                self.defective(defect)
            if self._ahead or head.size > LARGE_HEAD_BYTES:
                self._keep(head)

    def _switch(self, rest: bytes) -> None:
        """Hand the socket over: this client speaks HTTP/2, if it may."""
        if self._requests:
            self.fail_head(errors.UnsupportedVersion())
            return
        self._requests += 1
        self._end_head()
        self._read_no_more()
        Http2Connection(self).begin(self, rest)

    def _take_head(self) -> RequestHead | None:
        data, self._ahead = self._ahead, b""
        read = self._reader.feed(data)
        if read is None:
            return None
        head, self._ahead = read
        return head

    def _await_head(self) -> None:
        """Wait for the next head: long while there is none of it, not so long once it has begun."""
        if self._reading_paused:
            self._pause(paused=False)
        if self.state is HALF_CLOSED:
            self.close()
        elif not (self._reader.begun or self._sealed):
            self._reading = states.AFTER_NOTHING[self._reading]
            self.timer.set(self.loop.time() + self.plane.keepalive_idle_s)
            idle = self.plane.connection_limit.idle
            if idle is not None and self._requests:
                idle.pop(self, None)
                idle[self] = None
        else:
            self._await_rest()

    def _await_rest(self) -> None:
        """Wait for the rest of a head: its bytes count, and so does its time."""
        self._reading = states.AFTER_PART[self._reading]
        if self._partial is None:
            self.timer.set(self.loop.time() + self.plane.settings.head_timeout)
            # A head that has begun is work: who sends slowly is waited for, so long and no longer.
            self._partial = Unfinished(self, "reading the head")
        size = self._reader.held_bytes
        self._hold(size)
        if self.buffers.refuses(size):
            self.fail_head(errors.OutOfBuffers())

    def seal(self, sealed: bool) -> None:
        """See ClientSocket: what cannot be read yet has begun, too."""
        self._sealed = sealed
        if self._reading <= states.HEAD and self.state < LINGERING and not self._reader.begun:
            self._end_head()
            self._await_head()
            if self.silent and not sealed:
                self.plane.connection_limit.falls_silent(self)

    def _end_head(self) -> None:
        if self._partial is not None:
            self._partial.end()
            self._partial = None
        if self._held:
            self._hold(len(self._ahead))

    def _answer(self, head: RequestHead) -> None:
        """Decide whether a request goes on to the application; begin its exchange, or reply."""
        plane = self.plane
        first = self._requests == 0
        self._requests += 1
        now, request = self.loop.time(), None
        says = first or plane.lifecycle.published.draining
        if says:
            self._came(head, now, first=first)
        try:
            request = receive(head, plane.routes, plane.settings)
            if request.upgrade_ignored:
                plane.accounting.upgrade_ignored(self.peer, request.upgrade_ignored)
            told = plane.handoff is not None and handed_on.NAME in head.noted and plane.handoff.came(request)
            if plane.filters is not None and not told:
                plane.filters.prepare(head, self.peer, self.scheme, request.target.host)
            if plane.buffers.tight and self._too_much(head):
                raise errors.OutOfBuffers
            if says:
                tunnel = request.tunnel
                if self.over and (tunnel or not self._checks_health(head)):
                    plane.connection_limit.claim(self)
                plane.admission.admit(head, now=now, tunnel=tunnel)
        except errors.RequestError as error:
            if request is None or not self._goes_on(request, error):
                self._turn_away(error, head, "" if request is None else request.tunnel)
                return
        if request.for_us:
            self._answer_options(head)
            return
        self._exchange = exchange = Exchange(self, plane, request, now)
        self._reading = (states.AFTER_REQUEST if request.body is None else states.AFTER_UPLOAD)[self._reading]
        exchange.start()

    def _turn_away(self, error: errors.RequestError, head: RequestHead, tunnel: str) -> None:
        self.plane.accounting.record(TurnedAway(self, error, head, answered=True, tunnel=tunnel))
        self._reply(error, head, body_read=headers.ends_with_head(head))

    def exchange_done(self) -> None:
        """See Downstream."""
        exchange = self._exchange
        assert exchange is not None
        self.plane.accounting.record(exchange)
        self._end_exchange(exchange)
        if exchange.close or self._reuse is states.NEVER:
            self.close(unread=not exchange.request_read)
        else:
            self._proceed()

    def exchange_failed(self, error: errors.RequestError) -> None:
        """See Downstream. Tell the client what happened, in the way that is still open."""
        exchange = self._exchange
        assert exchange is not None
        begun = exchange.status != 0
        gone = self.gone or isinstance(error, errors.ClientGone)
        if gone:
            sent, error = error.sent, errors.ClientGone()
            error.sent = sent
        if gone or not begun:
            exchange.status = error.status
        exchange.failed(error, begun=begun and not gone)
        self.plane.accounting.record(exchange)
        self._end_exchange(exchange)
        if gone:
            self.abort()
        elif begun:
            self.reset()
        elif self.plane.pool.presence.fallen and isinstance(error, FALLEN) and exchange.request.repeatable:
            # As its own connections have ended, without a word: then callers ask another pod what may be
            # asked twice; an error they would pass on.
            self.reset()
        else:
            self._reply(error, exchange.head, body_read=exchange.request_read)

    def exchange_switched(self, upstream: UpstreamConnection, protocol: bytes, rest: bytes) -> None:
        """See Downstream. Hand the socket over."""
        exchange = self._exchange
        assert exchange is not None
        self.plane.accounting.record(exchange)
        ahead, self._ahead = self._ahead, b""
        self._pause(paused=False)
        if self.yielding:
            # Its turn is for the tunnel: of the request nothing is left to read.
            self.drop_backlog()
            if not self.transport.is_closing():
                self.transport.resume_reading()
        self._read_no_more()
        tunnel = tunnel_for(self.registry, exchange.request.timeouts, exchange.describe(), protocol)
        tunnel.begin(self, upstream, ahead, rest, eof=self.state is HALF_CLOSED)
        if self._body_paused:
            # The application has not taken what it has got of the body yet.
            tunnel.upstream_writable(writable=False)
        self._end_exchange(exchange)
        self.buffers.free(self)

    def _end_exchange(self, exchange: Exchange) -> None:
        if exchange.sibling:
            exchange.handed_on()
        self._exchange, self._reading = None, states.AFTER_ANSWER[self._reading]
        self._body, self._body_paused = None, False
        if self._held:
            self._hold_no_request()
        self.plane.inflight.discard(exchange)
        if self.plane.concurrency_limit is not None:
            self.plane.concurrency_limit.leave(exchange)

    def defective(self, defect: Exception) -> None:
        """A defect of ours costs one connection, not the process."""
        self.plane.accounting.defect(defect)
        exchange = self._exchange
        if exchange is not None:
            exchange.fail(errors.InternalError())
            if self._exchange is exchange:
                # It was answered already, and nobody else will let go of it.
                self._end_exchange(exchange)
        self.close()

    def _reply(
        self, error: errors.RequestError, head: RequestHead | None, *, body_read: bool = False
    ) -> None:
        """Send an error reply, and close unless the connection can carry another request."""
        if isinstance(error, _NOBODY_THERE) and head is not None and event_stream.comes_back(head):
            # It would stay away for good after an error, and comes back after a close (HTML section 9.2.3).
            self.close(unread=not body_read)
            return
        keep = head is not None and body_read and not error.closes and not self.closes_after(head)
        head_only = head is not None and head.method == b"HEAD"
        self.write(replies.reply(error, date=date_line(), head_only=head_only, close=not keep))
        self._after_reply(keep=keep, unread=head is not None and not body_read)

    def _answer_options(self, head: RequestHead) -> None:
        """Answer an OPTIONS whose Max-Forwards has run out."""
        read = headers.ends_with_head(head)
        keep = read and not self.closes_after(head)
        self.plane.accounting.record(Reply(self, head, 200))
        self.write(replies.options(date=date_line(), close=not keep))
        self._after_reply(keep=keep, unread=not read)

    def _after_reply(self, *, keep: bool, unread: bool) -> None:
        if keep:
            self._reading = states.AFTER_REPLY[self._reading]
            self.plane.write_batch.then(self)
        else:
            self.close(unread=unread)

    def flushed(self) -> None:
        """Go on after a reply of ours (Behind), unless it was not even taken: who does not read is not read
        either."""
        self._reading = states.AFTER_ANSWER[self._reading]
        if self.unsent():
            self.close()
        else:
            self._proceed()

    def close(self, *, unread: bool = False) -> None:
        """See ClientSocket. What has come of further requests is not answered."""
        self._ahead = b""
        self._end_head()
        self._read_no_more()
        if self.private is not None:
            self.private.end()
        super().close(unread=unread)

    def fail_head(self, error: errors.RequestError) -> None:
        """End the reading of a head that has begun, unless its end was told already."""
        if self.state >= LINGERING:
            return
        self._end_head()
        self._requests += 1
        first = self._requests == 1
        self.plane.accounting.record(TurnedAway(self, error, answered=True, first=first))
        self._reply(error, None)

    def grow_old(self) -> None:
        """See ClientSocket. A request that is on its way is answered first."""
        self.answer_last()
        self.close_if_idle()

    def answer_last(self) -> None:
        """See Downstream."""
        self._reuse = states.AFTER_AGE[self._reuse]

    def close_if_idle(self) -> None:
        """End it, unless something has come that was not read."""
        if self.idle and not sockets.has_bytes(self.transport):
            self.close()

    def left(self) -> None:
        """See ClientSocket."""
        if self._exchange is not None:
            self._exchange.client_gone()

    def expired(self) -> None:
        """Act on the connection's one timer, by what it is doing."""
        exchange = self._exchange
        if exchange is not None:
            exchange.deadlines.expire(exchange, self.loop.time(), client_awaited=self.awaited)
        elif self.state >= LINGERING:
            self.abort()
        elif self._reading is states.HEAD:
            late = self.loop.time() >= self.plane.lifecycle.published.work_deadline
            self.fail_head(errors.DrainDeadline() if late else errors.HeadTimeout())
        elif self.idle and sockets.has_bytes(self.transport):
            # Timers run before sockets are read: after a stall, a request may be here.
            self.timer.set(self.loop.time() + self.plane.settings.keepalive_idle)
        else:
            self.close()
