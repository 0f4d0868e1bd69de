"""A relay that passes each end on as what it was: a half-close as one, a reset as one.

Bytes go both ways until both have said that they are done. Knows nothing of what is spoken; a protocol that
has a word for leaving says it through a conversation (upgraded.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from drainproxy.proxy.downstream.client import UNREAD_LINGER_S
from drainproxy.proxy.downstream.states import AFTER_EOF, CLOSED, LINGERING
from drainproxy.proxy.limits.deadlines import Deadlines
from drainproxy.proxy.message.upgrade import kind_of
from drainproxy.proxy.relay.relay import Relay
from drainproxy.proxy.wire import sockets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drainproxy.errors import RequestError
    from drainproxy.metrics import TunnelEnded
    from drainproxy.proxy.downstream.client import ClientSocket
    from drainproxy.proxy.downstream.registry import Registry
    from drainproxy.proxy.limits.routing import RouteTimeouts
    from drainproxy.proxy.upstream.connection import UpstreamConnection
    from drainproxy.proxy.wire.endpoint import Endpoint


class Tunnel(Relay):
    """Of a route's timeouts, `idle` and `drain` hold: nobody knows how long a conversation should take."""

    __slots__ = (
        "_asked", "_client_done", "_closing", "_deadlines", "_due", "_open", "_timeouts", "_upstream_done",
        "bytes_received", "bytes_sent", "error", "outcome", "protocol", "started",
    )  # fmt: skip
    kind = "tunnel"
    event = "tunnel"
    status = 0
    head = None
    head_at = 0.0
    body_read = True

    def __init__(
        self, registry: Registry, timeouts: RouteTimeouts, asked: Mapping[str, str], protocol: bytes
    ) -> None:
        """`asked`: what described the request that led here."""
        super().__init__(registry)
        self._timeouts = timeouts
        self._asked = asked
        self.protocol = protocol
        self._open = False
        """Both ends are there, and it has not ended."""
        self._client_done = self._upstream_done = False
        """It has half-closed."""
        self._closing = False
        """Both have, and what they said last is on its way."""
        self._due = math.inf
        """When the next step of an end is due."""
        self.bytes_received = self.bytes_sent = 0
        self.error: RequestError | None = None
        self.outcome: TunnelEnded = "finished"

    def begin(
        self,
        before: ClientSocket,
        upstream: UpstreamConnection,
        from_client: bytes,
        from_upstream: bytes,
        *,
        eof: bool,
    ) -> None:
        """Take over the socket of a client that goes on in another protocol, and a connection that does too.

        With what is here already of either. `eof`: the client has stopped to send.
        """
        self.inherit(before)
        self.registry.handed_over(before, self)
        self._upstream = upstream
        upstream.borrower = self
        upstream.reader.forget()
        self.take_over()
        self._begin(from_client, from_upstream, eof=eof)

    def _begin(self, from_client: bytes, from_upstream: bytes, *, eof: bool) -> None:
        plane = self.plane
        self._open = True
        self.started = now = self.loop.time()
        self._deadlines = Deadlines(
            self._timeouts.of_conversation(), now, plane.lifecycle.published, self.timer
        )
        plane.inflight.add(self)
        self.drain_by(self.deadline)
        self.tell_writer(writable=not self.write_paused)
        if from_upstream:
            self.upstream_data(from_upstream)
        if from_client:
            self.data_received(from_client)
        if eof:
            self.behind_backlog(self.eof_received)
        plane.lifecycle.reconnect_spread.joined(self)

    # From the client.

    def filter_client(self, data: bytes) -> tuple[bytes, int] | None:
        """See Relay."""
        if not self._open:
            return None
        self.bytes_received += len(data)
        self._moved()
        return data, 0

    def eof_received(self) -> bool:
        """See asyncio.Protocol: pass a half-close on; return whether there is more to say to the client."""
        if self.state >= LINGERING:
            return False
        # From now on only its hanging up is of interest, and a paused transport is looked at for that.
        self._pause(paused=True)
        self.state = AFTER_EOF[self.state]
        self._client_done = True
        return self._pass_eof(self._application)

    def ended(self, *, reset: bool) -> None:
        """See ClientSocket."""
        super().ended(reset=reset)
        self.client_lost(reset=reset)

    def left(self) -> None:
        """See ClientSocket. A client that has only stopped to send is still there."""
        if sockets.hung_up(self.transport, half=False):
            if self._open:
                self.client_lost(reset=True)
            else:
                self.abort()

    def client_lost(self, *, reset: bool) -> None:
        """The client's connection has ended."""
        if not self._open:
            return
        if reset or not (self._client_done or self._closing):
            self._end("finished", reset=True)
        elif self._application.lost:
            self._end("finished")
        else:
            self._close()
            self._arm()  # the timer went with the client; the application is given its time too

    @property
    def goes_on(self) -> bool:
        """See ClientSocket. The application is given its time to take what was said last."""
        return self._open

    @property
    def gone(self) -> bool:
        """See ClientSocket. Here a half-close is no reason to think so."""
        return self.state is CLOSED

    # From the application.

    @property
    def _application(self) -> UpstreamConnection:
        """Its end: there from the first byte that passes."""
        upstream = self._upstream
        assert upstream is not None
        return upstream

    def filter_upstream(self, data: bytes) -> tuple[bytes, int] | None:
        """See Relay."""
        self._moved()
        self.bytes_sent += len(data)
        return data, 0

    def tell_writer(self, *, writable: bool) -> None:
        """See Endpoint."""
        if not self._upstream_done:
            super().tell_writer(writable=writable)

    def upstream_eof(self) -> bool:
        """Pass a half-close on; return whether there is more to say to the application (Borrower)."""
        self._upstream_done = True
        return self._pass_eof(self)

    def upstream_lost(self, *, reset: bool) -> None:
        """The application's connection has ended (Borrower)."""
        if not self._open:
            return
        if reset or not (self._upstream_done or self._closing):
            self._end("finished" if self._upstream_done else "lost", reset=True)
        elif self.gone:
            self._end("finished")
        else:
            self._close()

    # Ends.

    def _pass_eof(self, onward: Endpoint) -> bool:
        self.plane.write_batch.flush()
        if self._client_done and self._upstream_done:
            self._close()
            return False
        try:
            onward.end_writing()
        except OSError:
            # It has gone, unseen behind bytes that were not read.
            self._end("finished", reset=True)
        return self._open

    def _close(self) -> None:
        """Both are done: close, once they have taken what was said last."""
        if not self._closing:
            self._closing = True
            self._due = self.loop.time() + UNREAD_LINGER_S
            self._arm()
            self._application.transport.close()
            self.transport.close()

    def _end(self, outcome: TunnelEnded, *, reset: bool = False, error: RequestError | None = None) -> None:
        """Let go of both sides, once. `reset`: so that they see that something is missing."""
        if not self._open:
            return
        self._open = False
        self.outcome = outcome
        if error is not None:
            error.sent, self.error = True, error
        self.plane.write_batch.flush()
        upstream = self._application
        self.timer.cancel()
        if reset and not upstream.lost:
            sockets.reset_on_close(upstream.transport)
        self.plane.pool.discard(upstream)
        if self.gone:
            self.timer.end()
        elif reset:
            self.reset()
        else:
            self.close()
        self.plane.accounting.record(self)
        self.plane.inflight.discard(self)

    def fail(self, error: RequestError) -> None:
        """End with `error` (Timed)."""
        self._end("timed_out", reset=True, error=error)

    # Time, and the drain (Work).

    @property
    def deadline(self) -> float:
        """See Work."""
        return self._deadlines.end

    def _moved(self) -> None:
        if self._deadlines.idle < math.inf:
            self._deadlines.moved(self.loop.time())

    def _arm(self) -> None:
        self.timer.set(min(self._deadlines.nearest(), self._due))

    def expired(self) -> None:
        """See ClientSocket."""
        if not self._open:
            super().expired()
            return
        now = self.loop.time()
        if now < self._due:
            self._deadlines.expire(self, now, client_awaited=self.awaited)
            if self._open:
                self._arm()
        else:
            self._due = math.inf
            self.overdue()

    def overdue(self) -> None:
        """The next step of its end is due: somebody has not taken what was said last."""
        self._end("finished", reset=True)

    def drain_by(self, deadline: float) -> None:
        """See Work."""
        self._deadlines.follow(self.plane.lifecycle.published)
        self._arm()

    def leave(self) -> None:
        """See Work. Without a word for it, it runs to its deadline."""

    def cut(self, reason: str) -> None:
        """See Work."""
        self._end("cut", reset=True)

    def describe(self) -> dict[str, str]:
        """See Work."""
        return {**self._asked, "protocol": self.protocol.decode("ascii")}

    # Outcome.

    @property
    def tunnel(self) -> str:
        """See Outcome."""
        return kind_of(self.protocol)

    def said(self) -> dict[str, Any]:
        """See Outcome."""
        passed = {"bytes": self.bytes_sent, "bytes_received": self.bytes_received}
        return {**self.describe(), **passed, "outcome": self.outcome}
