"""One request and its answer: claim a connection, stream both ways at once, end in exactly one way.

Both directions are pushed by their sources, without a task in between: bytes that arrive on one side are
written to the other in the same call, and a side that cannot keep up pauses the other. Every way to end
(answered, failed, cut, client gone, out of time) leads through `_finish` or `fail`; only the first counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from drainproxy import errors
from drainproxy.proxy.accounting.outcome import SWITCHED
from drainproxy.proxy.http1 import reuse, states
from drainproxy.proxy.http1.claim import Claim
from drainproxy.proxy.limits.deadlines import Deadlines
from drainproxy.proxy.message import event_stream, framing, headers, upgrade
from drainproxy.proxy.message.date import date_line
from drainproxy.proxy.message.framing import Framing

if TYPE_CHECKING:
    from drainproxy.proxy.http1.downstream import Downstream
    from drainproxy.proxy.http1.request import Request
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import ResponseHead, ResponseReader
    from drainproxy.proxy.plane import Plane
    from drainproxy.proxy.upstream.connection import UpstreamConnection

MAX_INTERIM_RESPONSES: Final = 16


class Exchange(Claim):
    """Written by its client connection and its upstream connection."""

    __slots__ = (
        "_body", "_interim", "_reader", "_response", "_response_body", "_upstream_reused", "body_read",
        "chunked_out", "close", "kind", "request_read", "stream",
    )  # fmt: skip

    def __init__(self, client: Downstream, plane: Plane, request: Request, now: float) -> None:
        self._client, self._plane = client, plane
        self._connecting = None
        self.deadlines = Deadlines(request.timeouts, now, plane.lifecycle.published, client.timer)
        self.started, self.kind = now, "http"
        self.head, self.request = request.head, request
        self._body = body = request.body
        self.body_read = body is None
        self._begun_in_turn, self._interim, self.head_at = -1, 0, 0.0
        self._upstream = None
        self._reader: ResponseReader | None = None
        self._response: ResponseHead | None = None
        self._response_body: Body | None = None
        self.stream: event_stream.EventStream | None = None
        self.request_read = self.body_read and not request.upgrade
        """The request was complete, and was handed on. What follows an upgrade may be in its protocol: where
        the upgrade is refused, neither connection is used again (RFC 9931)."""
        self._writing = states.WAITING
        self._again = self._upstream_reused = self.chunked_out = self.close = False
        """The client's connection ends after this exchange."""
        self.status = self.bytes_received = self.bytes_sent = 0
        self.error, self.outcome = None, "finished"
        self.sibling, self.tunnel = "", request.tunnel if request.upgrade else ""

    # The course of it.

    def start(self) -> None:
        """Go, or wait for a turn. Tells the client connection how it ended, once."""
        self.deadlines.arm()
        self._plane.inflight.add(self)
        concurrency_limit = self._plane.concurrency_limit
        if concurrency_limit is None or concurrency_limit.take(self):
            self._go()

    def _begin(self, upstream: UpstreamConnection) -> None:
        """Send the request's head, and as much of its body as is here."""
        if upstream.lost:
            self._lost(stale=False)
            return
        self._upstream, self._upstream_reused = upstream, upstream.reused
        self._reader, upstream.borrower = upstream.reader, self
        client, plane, request = self._client, self._plane, self.request
        head, dropped = headers.request_head(
            self.head, request.target, self._body, client.peer, client.scheme, plane.upstream_host,
            request.upgrade,
        )  # fmt: skip
        if dropped:
            plane.metrics.headers_dropped.inc("underscore", by=dropped)
        if self._body is not None or b"authorization" in self.head.noted:
            reuse.sent(upstream, self.head, self._body)
        batch = plane.write_batch
        self._begun_in_turn = batch.turn
        batch.write(upstream.transport, head)
        if self._body is not None:
            client.read_body(self._body)

    def _leave_upstream(self, *, reusable: bool) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        if reusable and self._response is not None and self.request_read:
            reuse.give_back(self._client, self._plane.pool, upstream, self._response, self._body)
        else:
            self._plane.pool.discard(upstream)

    # From the client.

    def request_data(self, data: bytes) -> bytes | None:
        """Forward body bytes; return what follows the body once it is complete, else None."""
        body, upstream = self._body, self._upstream
        assert body is not None
        chunked = body.framing is Framing.CHUNKED
        try:
            if chunked:
                out, size, rest = framing.chunked(body, data)
            else:
                payload, rest = body.feed(data)
                size = len(payload)
        except (ValueError, errors.RequestError) as fault:
            self.fail(fault if isinstance(fault, errors.RequestError) else errors.MalformedBody(str(fault)))
            return None
        if rest is not None:
            self.body_read = True
            self.request_read = not self.request.upgrade
            if chunked:
                out.append(headers.last_chunk(body.trailers, self.head.named, of_request=True))
        if upstream is not None:
            if chunked:
                self._plane.write_batch.write_pieces(upstream.transport, out)
            elif size:
                self._plane.write_batch.write(upstream.transport, payload)
        self.bytes_received += size
        if self.deadlines.idle < math.inf:
            self.deadlines.moved(self._plane.loop.time())
        self._client.give_way(len(data), body.backlog)
        return rest

    def client_gone(self) -> None:
        """The client will not read an answer any more."""
        self.fail(errors.ClientGone())

    def client_writable(self, *, writable: bool) -> None:
        """Hold the response back while the client cannot take more."""
        upstream = self._upstream
        if self._writing is states.FLUSHING:
            if writable:
                self._delivered()
        elif upstream is not None:
            upstream.hold(held=not writable)

    # From the application.

    def upstream_data(self, data: bytes) -> None:
        """Relay response bytes (Borrower)."""
        if self._writing is states.WAITING:
            if (upstream := self._upstream) is not None and not self._left():
                # It was on its way before the request was: no answer to it.
                self._plane.pool.discard(upstream)
                self.upstream_lost(reset=True)
                return
            self._writing = states.AFTER_BYTES[states.WAITING]
        try:
            if self._response is None:
                self._read_head(data)
            else:
                self._relay(b"", data)
        except errors.RequestError as error:
            self.fail(error)
        except Exception as defect:
            self._client.defective(defect)

    def upstream_eof(self) -> None:
        """An application that has stopped sending has ended its response (Borrower)."""

    def upstream_lost(self, *, reset: bool) -> None:
        """End with the connection (Borrower): that is how some responses end, if it was not reset."""
        if self._writing >= states.ANSWERED:
            return
        body = self._response_body
        if body is not None and body.framing is Framing.UNTIL_CLOSE and not reset:
            self._end_body()
            return
        stale = self._upstream_reused and self._writing is states.WAITING
        if stale:
            self._plane.pool.distrust()
        self._lost(stale=stale and self._untouched())

    def _untouched(self) -> bool:
        """Tell whether sending the request again cannot do anything twice."""
        return self.request.repeatable or (self._body is None and not self._left())

    def _left(self) -> bool:
        """Tell whether the request's head has been handed to the connection's transport."""
        return self._begun_in_turn != self._plane.write_batch.turn

    def upstream_writable(self, *, writable: bool) -> None:
        """Hold the request body back while the application cannot take more (Borrower)."""
        self._client.pause_body(paused=not writable)

    def _read_head(self, data: bytes) -> None:
        reader = self._reader
        while reader is not None and (read := reader.feed(data)) is not None:
            response, data = read
            if response.status >= 200:
                self._respond(response, data)
                return
            if response.status == 101:
                self._switch(response, data)
                return
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                raise errors.UpstreamMalformed("too many interim responses")
            if self.head.http_1_1:
                # RFC 9110 section 15.2: a 1.0 client knows none.
                self._client.write(headers.interim_head(response))

    def _switch(self, response: ResponseHead, rest: bytes) -> None:
        """The application has agreed to a protocol that was asked for: the client goes on in it."""
        unread = None if self.body_read else self._body
        protocol = upgrade.agreed(response, self.request.upgrade, unread)
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._writing, self.outcome = states.AFTER_SWITCH[self._writing], SWITCHED
            self.status, self.head_at = response.status, self._plane.loop.time()
            self._client.write(upgrade.switching_head(response))
            self._client.exchange_switched(upstream, protocol, rest)

    def _respond(self, response: ResponseHead, rest: bytes) -> None:
        """Send the response's head, with what has come of its body in the same write."""
        body, client = framing.response_body(response, self.head.method), self._client
        self._response, self._response_body = response, body
        self.status, self.head_at = response.status, self._plane.loop.time()
        self.deadlines.response_head = math.inf
        self.chunked_out = self.head.http_1_1 and body is not None and body.framing is not Framing.LENGTH
        self.close = not self.request_read or client.closes_after(self.head)
        upstream, noted = self._upstream, response.noted
        told = b"www-authenticate" in noted or b"persistent-auth" in noted
        if upstream is not None and (told or self.close or upstream.private):
            self.close |= reuse.answered(upstream, response, self._body, request_read=self.request_read)
        date = b"" if b"date" in noted else date_line()
        start = headers.response_head(
            response, body, self.head, date=date, chunked=self.chunked_out, close=self.close
        )
        if body is None:
            client.write(start)
            self._finish(clean=not rest)
            return
        unbounded = body.framing is not Framing.LENGTH
        if unbounded and event_stream.leaves(start, response, self.head, self.request.timeouts.streams):
            self.kind = self.tunnel = "stream"
            silent = not self._plane.lifecycle.published.draining
            self._response_body = self.stream = event_stream.EventStream(body, response, silent=silent)
            self._plane.lifecycle.reconnect_spread.joined(self)
        self._relay(start, rest)

    def _relay(self, start: bytes, data: bytes) -> None:
        """Write `start` and the payload of `data` to the client."""
        body = self._response_body
        if body is None:
            return
        try:
            if self.chunked_out:
                out, size, rest = framing.chunked(body, data) if data or body.backlog else ([], 0, None)
            else:
                payload, rest = body.feed(data) if data or body.backlog else (b"", None)
                size = len(payload)
        except ValueError as fault:
            if start:
                self.status = 0  # the head has not left: the client gets a 502 instead
            self.fail(errors.UpstreamMalformed(str(fault)))
            return
        self.bytes_sent += size
        if self.deadlines.idle < math.inf:
            self.deadlines.moved(self._plane.loop.time())
        if self.chunked_out:
            if rest is not None:
                assert self._response is not None
                out.append(headers.last_chunk(body.trailers, self._response.named))
            self._client.write_pieces([start, *out] if start else out)
        else:
            self._client.write(start + payload if start else payload)
        if rest is not None:
            self._finish(clean=not rest)
        elif self._upstream is not None:
            self._upstream.give_way(len(data), body.backlog)

    # Ends.

    def _end_body(self) -> None:
        """End a response that did not say where it ends."""
        if self.chunked_out:
            self._client.write(framing.LAST_CHUNK)
        self._finish(clean=False)

    def _finish(self, *, clean: bool) -> None:
        """The answer is complete; `clean`: nothing else has come with it."""
        self._writing = states.AFTER_LAST[self._writing]
        if self.stream is not None and self.stream.told:
            self.outcome = "told_to_leave"
        self._leave_upstream(reusable=clean)
        self._plane.write_batch.then(self)

    def flushed(self) -> None:
        """See Behind. The client's transport has the answer; the exchange ends once the socket has it too."""
        client = self._client
        if not client.unsent():
            self._writing = states.AFTER_DELIVERY[self._writing]
            client.exchange_done()
        else:
            # Not delivered yet: the drain waits, and the deadline still holds.
            self._writing = states.AFTER_UNSENT[self._writing]
            if self._plane.concurrency_limit is not None:
                self._plane.concurrency_limit.leave(self)
            client.pause_until_flushed(on=True)

    def defective(self, defect: Exception) -> None:
        """See Behind."""
        self._client.defective(defect)

    def _delivered(self) -> None:
        self._writing = states.AFTER_DELIVERY[self._writing]
        self._client.pause_until_flushed(on=False)
        self._client.exchange_done()

    def fail(self, error: errors.RequestError) -> None:
        """End with `error`, unless it has ended."""
        if self._writing < states.ANSWERED:
            self._writing = states.AFTER_FAILURE[self._writing]
            error.sent = self._begun_in_turn >= 0
            connecting, self._connecting = self._connecting, None
            if connecting is not None:
                # Nobody waits for the application any more. What is cancelled holds whom it was for.
                connecting.cancel()
            self._leave_upstream(reusable=False)
            self._client.exchange_failed(error)

    @property
    def peer(self) -> bytes:
        """See Outcome."""
        return self._client.peer

    # Time, and the drain (Work).

    @property
    def deadline(self) -> float:
        """See Work."""
        return self.deadlines.end

    def drain_by(self, deadline: float) -> None:
        """See Work."""
        self.deadlines.follow(self._plane.lifecycle.published)

    def leave(self) -> None:
        """A request just finishes; an event stream ends between two events, to go on elsewhere (Work)."""
        if (stream := self.stream) is None or self._writing >= states.FLUSHING:
            return
        self.close = True
        if stream.stuck(unsent := self._client.unsent()):
            self.fail(errors.LeaveOverdue())
        elif stream.leave(unsent):
            self._end_body()

    def cut(self, reason: str) -> None:
        """End at the drain's deadline (Work): a 503 where no head was sent, else a visible cut."""
        self.fail(errors.DrainDeadline())

    def describe(self) -> dict[str, str]:
        """Return method and path (Work): no query string, which may hold secrets."""
        return {"method": self.head.method.decode("ascii", "replace"), "path": self.request.path}
