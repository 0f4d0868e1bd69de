"""After a 101: bytes both ways, each side held back by the other, until both have said that they are done.

A half-close is passed on as one, a reset as one. Knows nothing of what is spoken; a protocol that has a word
for leaving says it through a conversation (websocket.py). Begun by an exchange; any client socket and
any connection to the application will do.
"""

import math
from collections.abc import Mapping
from typing import Any

from drainproxy.errors import LeaveOverdue, RequestError
from drainproxy.lifecycle.budget import LEAVE_MARGIN_S
from drainproxy.metrics import TOLD_TO_LEAVE, TunnelEnded
from drainproxy.proxy.accounting.outcome import ClientWork
from drainproxy.proxy.downstream.client import UNREAD_LINGER_S, ClientSocket
from drainproxy.proxy.limits.deadlines import Deadlines
from drainproxy.proxy.limits.routes import Timeouts
from drainproxy.proxy.message.upgrade import kind_of
from drainproxy.proxy.message.websocket import Conversation
from drainproxy.proxy.upstream.connection import UpstreamConnection
from drainproxy.proxy.wire import sockets
from drainproxy.proxy.wire.endpoint import Endpoint


class TunnelSocket(ClientSocket):
    """The client's end of a tunnel: tells the tunnel, and decides nothing."""

    __slots__ = ("_tunnel",)

    def __init__(self, before: ClientSocket, tunnel: "Tunnel") -> None:
        super().__init__(before.registry)
        self.inherit(before)
        self._tunnel = tunnel

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._lingering:
            self._linger(data)
        else:
            self._tunnel.client_data(data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol."""
        if self._lingering or self._lost:
            return False
        # From now on only its hanging up is of interest, and a paused transport is looked at for that.
        self._pause(paused=True)
        self._eof = True
        return self._tunnel.client_eof()

    def ended(self, *, reset: bool) -> None:
        """See ClientSocket."""
        self._tunnel.client_lost(reset=reset)

    def tell_writer(self, *, writable: bool) -> None:
        """See Endpoint."""
        self._tunnel.client_writable(writable=writable)

    def hold(self, *, held: bool) -> None:
        """Stop or go on reading, while the application cannot take more."""
        if not self._eof:
            self._pause(paused=held)

    def left(self) -> None:
        """See ClientSocket. A client that has only stopped to send is still there."""
        if sockets.hung_up(self.transport, half=False):
            self._tunnel.client_lost(reset=True)

    def expired(self) -> None:
        """See ClientSocket."""
        if self._lingering:
            self.abort()
        else:
            self._tunnel.expired()

    def grow_old(self) -> None:
        """See ClientSocket."""
        self._tunnel.grow_old()

    @property
    def gone(self) -> bool:
        """See ClientSocket. Here a half-close is no reason to think so."""
        return self._lost


class Tunnel(ClientWork):
    """Written by its two transports and the client's timer. Of a route's timeouts, `idle` and `drain` hold:
    nobody knows how long a conversation should take."""

    __slots__ = (
        "_asked", "_client", "_client_done", "_closing", "_deadlines", "_due", "_ended", "_mark", "_plane",
        "_said", "_stays", "_talk", "_unsent", "_upstream", "_upstream_done", "protocol",
    )  # fmt: skip
    kind = event = "tunnel"
    status, head, head_at = 0, None, 0.0
    _client: TunnelSocket

    def __init__(
        self,
        before: ClientSocket,
        upstream: UpstreamConnection,
        timeouts: Timeouts,
        asked: Mapping[str, str],
        protocol: bytes,
    ) -> None:
        """`asked`: what described the request that led here."""
        self._client, self._plane = TunnelSocket(before, self), before.plane
        self.started = now = before.loop.time()
        published = before.plane.lifecycle.published
        self._deadlines = Deadlines(timeouts.of_conversation(), now, published, self._wake)
        self._upstream = upstream
        self._client_done = self._upstream_done = False
        """It has half-closed."""
        self._closing = False
        """Both have, and what they said last is on its way."""
        self._talk: Conversation | None = None
        if protocol == b"websocket":
            self._talk = Conversation(self._plane.settings.websocket_close_code)
        self._stays = timeouts.websockets == "finish"
        """It is work like a request, and is not told to leave before its time is up."""
        self._said = False
        """The client was told to leave."""
        self._unsent = math.inf
        """What stood before its client's socket when its Close was last asked after."""
        self._mark: tuple[int, ...] | None = None
        """How far it was when it was to leave, or again."""
        self._due = math.inf
        """When the next step of an end is due."""
        self._ended = False
        self.bytes_received = self.bytes_sent = 0
        self.error, self.outcome = None, "finished"
        self._asked = asked
        self.protocol = protocol

    def begin(self, before: ClientSocket, from_client: bytes, from_upstream: bytes, *, eof: bool) -> None:
        """Relay, beginning with what is here already. `eof`: the client has stopped to send."""
        upstream, plane = self._upstream, self._plane
        before.registry.handed_over(before, self._client)
        upstream.borrower = self
        upstream.reader.forget()
        plane.inflight.add(self)
        self._client.take_over()
        self.drain_by(self.deadline)
        self.client_writable(writable=not self._client.write_paused)
        if from_upstream:
            self.upstream_data(from_upstream)
        if from_client:
            self.client_data(from_client)
        if eof:
            self._client.behind_backlog(self._client.eof_received)
        plane.lifecycle.reconnect_spread.joined(self)

    # From the client.

    def client_data(self, data: bytes) -> None:
        """Pass on what the client has sent."""
        if self._ended:
            return
        size, backlog = len(data), 0
        self.bytes_received += size
        if self._deadlines.idle < math.inf:
            self._deadlines.moved(self._client.loop.time())
        if self._talk is not None:
            data = self._talk.from_client(data)
            backlog, _ = self._talk.backlogs
        self._client.give_way(size, backlog)
        if data:
            self._plane.write_batch.write(self._upstream.transport, data)

    def client_eof(self) -> bool:
        """Pass a half-close on; return whether there is more to say to the client."""
        self._client_done = True
        return self._pass_eof(self._upstream)

    def client_writable(self, *, writable: bool) -> None:
        """Hold the application back while the client cannot take more."""
        upstream = self._upstream
        if not self._upstream_done and not self._said:
            upstream.hold(held=not writable)

    def client_lost(self, *, reset: bool) -> None:
        """The client's connection has ended."""
        if self._ended:
            return
        if self._talk is not None and self._talk.answered:
            self._arm()  # what it said last is for the application, which is given its time
        elif reset or not (self._client_done or self._closing):
            self._end("finished", reset=True)
        elif self._upstream.lost:
            self._end("finished")
        else:
            self._close()
            self._arm()  # the timer went with the client; the application is given its time too

    # From the application.

    def upstream_data(self, data: bytes) -> None:
        """Pass on what the application has sent (Borrower)."""
        if self._deadlines.idle < math.inf:
            self._deadlines.moved(self._client.loop.time())
        if self._talk is not None:
            size, data = len(data), self._talk.from_server(data)
            self._upstream.give_way(size, self._talk.backlogs[1])
        self._say(data)

    def upstream_eof(self) -> bool:
        """Pass a half-close on; return whether there is more to say to the application (Borrower)."""
        self._upstream_done = True
        if self._said:
            self._part()
            return False
        return self._pass_eof(self._client)

    def upstream_writable(self, *, writable: bool) -> None:
        """Hold the client back while the application cannot take more (Borrower)."""
        self._client.hold(held=not writable)

    def upstream_lost(self, *, reset: bool) -> None:
        """The application's connection has ended (Borrower)."""
        if self._ended:
            return
        if self._said:
            self._part()
        elif reset or not (self._upstream_done or self._closing):
            self._end("finished" if self._upstream_done else "lost", reset=True)
        elif self._client.gone:
            self._end("finished")
        else:
            self._close()

    # Ends.

    def _pass_eof(self, onward: Endpoint) -> bool:
        self._plane.write_batch.flush()
        if self._client_done and self._upstream_done:
            self._close()
            return False
        try:
            onward.end_writing()
        except OSError:
            # It has gone, unseen behind bytes that were not read.
            self._end("finished", reset=True)
        return not self._ended

    def _close(self) -> None:
        """Both are done: close, once they have taken what was said last."""
        if not self._closing:
            self._closing = True
            self._due = self._client.loop.time() + UNREAD_LINGER_S
            self._arm()
            self._upstream.transport.close()
            self._client.transport.close()

    def _end(self, outcome: TunnelEnded, *, reset: bool = False, error: RequestError | None = None) -> None:
        """Let go of both sides, once. `reset`: so that they see that something is missing."""
        if self._ended:
            return
        self._ended = True
        self.outcome = TOLD_TO_LEAVE if self._said and outcome == "finished" else outcome
        if error is not None:
            error.sent, self.error = True, error
        self._plane.write_batch.flush()
        client, upstream = self._client, self._upstream
        client.timer.cancel()
        if reset and not upstream.lost:
            sockets.reset_on_close(upstream.transport)
        self._plane.pool.discard(upstream)
        if not client.gone:
            client.reset() if reset else client.close()
        self._plane.accounting.record(self)
        self._plane.inflight.discard(self)

    def _part(self) -> None:
        """End after a Close: with the client's, in time or not, and without a reset."""
        assert self._talk is not None
        gone = self._upstream_done or self._upstream.lost
        self._end("finished" if self._talk.answered or gone else "cut")

    def fail(self, error: RequestError) -> None:
        """End with `error` (Timed)."""
        self._end("timed_out", reset=True, error=error)

    # Time, and the drain (Work).

    @property
    def deadline(self) -> float:
        """See Work."""
        return self._deadlines.end

    def _wake(self, when: float) -> None:
        self._client.timer.set(min(when, self._due))

    def _arm(self) -> None:
        self._wake(self._deadlines.nearest())

    def expired(self) -> None:
        """The client's timer has fired."""
        now = self._client.loop.time()
        if now < self._due:
            self._deadlines.expire(self, now, client_awaited=self._client.awaited)
            return
        self._due = math.inf
        if self._said:
            before, self._unsent = self._unsent, self._client.unsent()
            if self._unsent < before and (self._unsent or before < math.inf):
                # It takes what was said before the Close, and has not seen that yet.
                self._due = self._client.loop.time() + LEAVE_MARGIN_S
                self._arm()
            else:
                self._part()
        elif self._closing:
            self._end("finished", reset=True)
        else:
            self._leave(hurry=True)
            self._arm()

    def drain_by(self, deadline: float) -> None:
        """See Work. Shortly before, a Close may go between any two frames."""
        self._deadlines.follow(self._plane.lifecycle.published)
        if self._talk is not None and not self._said and not self._closing:
            self._due = self.deadline - self._plane.lifecycle.published.leave_margin_s
            self._arm()

    def leave(self) -> None:
        """See Work. Without a word for it, it runs to its deadline.

        A message that has begun is waited for, as long as it comes on. Then a Close goes between two of its
        fragments (RFC 6455 section 5.4); in the middle of a frame there is no place for one.
        """
        talk = self._talk
        if talk is None or talk.lost or self._stays or self._said or self._ended:
            return
        before, self._mark = self._mark, (*talk.progress, self._client.unsent())
        self._leave(hurry=self._mark == before)
        if self._mark == before and not self._said:
            if talk.over:
                self._end("finished")
            else:
                self._end("cut", reset=True, error=LeaveOverdue())

    def grow_old(self) -> None:
        """The client's connection has its `max_connection_age`."""
        if not self._stays:
            self._leave(hurry=False)

    def _leave(self, *, hurry: bool) -> None:
        if self._talk is not None and not self._said and not self._ended:
            self._say(self._talk.leave(hurry=hurry))

    def _say(self, data: bytes) -> None:
        """Write to the client. A Close among it is to be answered soon, and nothing follows it."""
        self.bytes_sent += len(data)
        self._client.write(data)
        if self._talk is not None and self._talk.said and not self._said:
            self.client_writable(writable=True)
            self._said = True
            self._due = self._client.loop.time() + LEAVE_MARGIN_S
            self._arm()

    def cut(self, reason: str) -> None:
        """See Work."""
        if self._said:
            self._part()
        else:
            self._end("cut", reset=True)

    @property
    def tunnel(self) -> str:
        """See Outcome."""
        return kind_of(self.protocol)

    def said(self) -> dict[str, Any]:
        """See Outcome."""
        return {**self.describe(), **super().said()}

    def describe(self) -> dict[str, str]:
        """See Work."""
        return {**self._asked, "protocol": self.protocol.decode("ascii")}
