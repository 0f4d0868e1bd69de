"""What a client sends after a head: the request's body, and what is ahead of its turn behind it.

Base of connection.py. They wait here, so many and no more, and give way where memory is scarce: what is under
way is answered, and its answer says that nothing behind it will be (RFC 9112 section 9.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.errors import DrainEnding, Draining, OutOfBuffers
from drainproxy.proxy.accounting.outcome import TurnedAway
from drainproxy.proxy.downstream.states import HALF_CLOSED, LINGERING
from drainproxy.proxy.http1 import states
from drainproxy.proxy.http1.downstream import Downstream
from drainproxy.proxy.message.parser import RequestReader
from drainproxy.proxy.wire.buffers import MAX_PARTIAL_BYTES, SMALL_BYTES
from drainproxy.proxy.wire.weights import OBJECT_BYTES, PARSER_BYTES

if TYPE_CHECKING:
    from drainproxy.errors import RequestError
    from drainproxy.proxy.downstream.registry import Registry
    from drainproxy.proxy.http1.exchange import Exchange
    from drainproxy.proxy.http1.request import Request
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import RequestHead
    from drainproxy.proxy.wire.buffers import Buffers


class PatientSocket(Downstream):
    """Written by its transport and its exchange."""

    __slots__ = (
        "_ahead", "_body", "_body_paused", "_exchange", "_head_bytes", "_parser_bytes", "_reader", "_reading",
        "_requests", "_reuse", "_sealed",
    )  # fmt: skip

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self._reader = RequestReader(self.plane.settings)
        self._parser_bytes = 0
        """What its parser is in the account with."""
        self._ahead, self._requests = b"", 0
        self._exchange: Exchange | None = None
        self._body: Body | None = None
        """What is being read."""
        self._head_bytes = 0
        """Held for the exchange: its request's head, where that is large."""
        self._reading: states.Reading = states.IDLE
        self._reuse: states.Reuse = states.MAY
        self._body_paused = False
        """The application takes no more of the request's body."""
        self._sealed = False
        """TLS holds something back that has come: half a record, most likely."""

    def _too_much(self, head: RequestHead) -> bool:
        """Tell whether there is no room for a request. A pod that is full is not dead: it says so."""
        arrivals = self.plane.accounting.arrivals
        return self.buffers.refuses_head(head.size) and not arrivals.is_health_check(head)

    def _checks_health(self, head: RequestHead) -> bool:
        """Take a place for a health check, if it is one and there is room for it."""
        arrivals = self.plane.accounting.arrivals
        return arrivals.is_health_check(head) and self.plane.connection_limit.check(self)

    def _goes_on(self, request: Request, error: RequestError) -> bool:
        """Tell whether a sibling may serve what a drain refuses. A health check has heard what it asked."""
        handoff, arrivals = self.plane.handoff, self.plane.accounting.arrivals
        if handoff is None or request.handed or not isinstance(error, (DrainEnding, Draining)):
            return False
        if not handoff.possible or arrivals.asks_health(request.head):
            return False
        request.elsewhere = error
        return True

    @property
    def idle(self) -> bool:
        """Between two requests, with nothing of the next one here."""
        return self._reading is states.IDLE and self.state < LINGERING and self.arrival is None

    @property
    def awaited(self) -> bool:
        """See ClientSocket. A body is waited for, too."""
        return self.write_paused or (self._reading is states.BODY and not self._body_paused)

    @property
    def silent(self) -> bool:
        """See ClientSocket."""
        return self._requests == 0

    def hang_up(self, error: RequestError) -> None:
        """See ClientSocket."""
        self._requests += 1
        super().hang_up(error)

    def _came(self, head: RequestHead, now: float, *, first: bool) -> None:
        """Take note of a request that tells of its client: the first one, and each during a drain."""
        self.plane.accounting.arrivals.came(self.accepted_at, now, first=first, head=head)
        if first:
            # What has read it stays for the next one.
            self._parser_bytes = PARSER_BYTES
            self.buffers.own_bytes += PARSER_BYTES

    def _read_no_more(self) -> None:
        """Let go of what reads heads."""
        self._reader.forget()
        self.buffers.own_bytes -= self._parser_bytes
        self._parser_bytes = 0

    def _keep(self, head: RequestHead) -> None:
        """Account for a request that has begun: its head, if it is large, and what came behind it."""
        if self._exchange is not None:
            self._head_bytes = head.size + len(head.fields) * OBJECT_BYTES
            self._wait_behind()

    def _wait_behind(self) -> None:
        """Keep what has come behind the request that is being answered, so much and no more."""
        size = len(self._ahead)
        self._hold(size + self._head_bytes)
        if size > MAX_PARTIAL_BYTES and self._reading is states.AHEAD:
            self.buffers.begun[self] = None
            if self.buffers.refuses_behind(size):
                self.shed()
        self._pause(paused=size >= self.buffers.max_ahead_bytes)

    def _hold_no_request(self) -> None:
        """The exchange has ended: what is here waits for its own turn."""
        self._head_bytes = 0
        self._hold(len(self._ahead))
        self.buffers.begun.pop(self, None)

    def size(self, held: Buffers) -> int:
        """See Begun."""
        size = len(self._ahead)
        return size if size > 2 * SMALL_BYTES or held.full else 0

    def shed(self) -> None:
        """See Begun."""
        self.buffers.begun.pop(self, None)
        if self._reading is not states.AHEAD or self._reuse is states.NEVER:
            return
        self._ahead, self._reuse = b"", states.AFTER_SHED[self._reuse]
        self._hold(self._head_bytes)
        error = OutOfBuffers("sent behind a request that is being answered")
        self.plane.accounting.record(TurnedAway(self, error, first=False))

    def closes_after(self, head: RequestHead) -> bool:
        """Tell whether this request is the last one on this connection (RFC 9112 sections 9.3 and 9.6)."""
        if not head.http_1_1 or b"close" in head.named or self._reuse is states.NEVER or self.over:
            return True
        # What has been pipelined already is answered first: closing would throw it away.
        plane = self.plane
        fallen, published = plane.pool.presence.fallen, plane.lifecycle.published
        discouraged = self._reuse is states.LAST or fallen or published.discourage_reuse
        return discouraged and not self._ahead and not self._sealed

    # A request's body.

    def read_body(self, body: Body) -> None:
        """Hand the request's body to the exchange from now on, beginning with what is already here."""
        self._reading, self._body = states.AFTER_ASKED[self._reading], body
        if self._ahead:
            data, self._ahead = self._ahead, b""
            if self._held:
                self._hold(self._head_bytes)
            self._feed_body(data)
        if self._reading is states.BODY:
            self._pause(paused=self._body_paused)
            if self.state is HALF_CLOSED and self._exchange is not None:
                self._exchange.client_gone()

    def pause_body(self, *, paused: bool) -> None:
        """Stop or go on reading while the application cannot take more of the body."""
        self._body_paused = paused
        if self._reading is states.BODY:
            self._pause(paused=paused)

    def _feed_body(self, data: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        rest = exchange.request_data(data)
        if rest is None:
            body = self._body
            # What is beyond its budget of this turn is a body that goes on.
            size = 0 if body is None else body.held_bytes - body.backlog
            if size or self._held:
                self._hold(size + self._head_bytes)
                if self.buffers.refuses(size):
                    exchange.fail(OutOfBuffers())
            return
        self._reading = states.AFTER_BODY[self._reading]
        self._ahead = rest
        if rest or self._held:
            self._wait_behind()
        else:
            self._pause(paused=False)
