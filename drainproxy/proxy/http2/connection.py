"""A relay of frames, untouched: one client's HTTP/2 connection and its own connection to the application.

Between the frames it adds what a drain needs: GOAWAY and a PING when the client should go elsewhere, and
RST_STREAM where a deadline has come. Streams that raced with the GOAWAY are served (RFC 9113 section 6.8).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drainproxy.errors import (
    DrainEnding,
    HeadTimeout,
    OutOfBuffers,
    RequestError,
    TooManyStreams,
    UpstreamGone,
    UpstreamMalformed,
)
from drainproxy.proxy.accounting.outcome import TurnedAway
from drainproxy.proxy.downstream.states import AFTER_EOF, CLOSED, LINGERING
from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.faults import Abuse, Code, FrameFault
from drainproxy.proxy.http2.flood_limits import FloodLimits
from drainproxy.proxy.http2.frame_reader import Rest
from drainproxy.proxy.http2.from_client import FromClient
from drainproxy.proxy.http2.from_upstream import FromUpstream
from drainproxy.proxy.http2.goaway import Goaway
from drainproxy.proxy.http2.stream import Stream
from drainproxy.proxy.http2.streams import Streams
from drainproxy.proxy.http2.weight import Weight
from drainproxy.proxy.relay.relay import Relay
from drainproxy.proxy.wire import sockets

if TYPE_CHECKING:
    from drainproxy.metrics import Goodbye, StreamEnded
    from drainproxy.proxy.downstream.client import ClientSocket
    from drainproxy.proxy.limits.deadlines import Deadlines
    from drainproxy.proxy.upstream.connection import UpstreamConnection


class Http2Connection(Relay):
    """An end of either side is the end of both: streams need both directions."""

    __slots__ = (
        "_idle_since", "_late", "_magic", "_max_streams", "_read_at", "_ready_by", "_rest", "_spoken",
        "_streams", "_weight", "from_client", "from_upstream", "goaway", "guard",
    )  # fmt: skip

    def __init__(self, plain: ClientSocket) -> None:
        """Take over the socket of a client that has turned out to speak HTTP/2."""
        plane = plain.plane
        super().__init__(plain.registry)
        self.inherit(plain)
        now = self.loop.time()
        self._magic = frames.MAGIC
        """What is left of the preface."""
        self._streams = streams = Streams(self, plane.settings)
        self.goaway = Goaway(self, streams)
        self.guard = FloodLimits(plane.settings, now)
        self._weight = Weight(self)
        self.from_client = FromClient(streams, self.guard, self._weight.hold_half)
        self.from_upstream = FromUpstream(streams, plane.buffers.hold)
        if plane.settings.h2_inspect:
            from drainproxy.proxy.http2.inspection import Inspection  # noqa: PLC0415 - an extra

            self.from_client.inspection = Inspection(plane.settings.max_head_bytes)
        self._early.append(frames.PREFACE)
        self._spoken = False
        """A stream was opened."""
        self._ready_by = math.inf
        self._late = False
        """It had to wait for an application that restarted."""
        self._rest = Rest(plane.settings.head_timeout)
        self._idle_since = self._read_at = now
        """Loop times: of the end of the last stream, and of the last read of the client."""
        self._max_streams = plane.settings.h2_max_streams

    # The course of it.

    def begin(self, plain: ClientSocket, rest: bytes) -> None:
        """Begin, if there is a place; `rest` is what came after the preface's first lines."""
        plane = self.plane
        try:
            self.registry.handed_over(plain, self)
        except RequestError as error:
            plane.metrics.h2_goaway.inc("limit")
            plane.accounting.record(TurnedAway(self, error))
            plain.write(frames.REFUSAL)
            plain.close()
            self.timer.end()
            self._part()
            return
        self.take_over()
        self._weight.look(self._streams)
        self.timer.set(self._idle_since + plane.settings.keepalive_idle)
        if not plane.pool.http2.worth_asking:
            self.end(Code.HTTP_1_1_REQUIRED, "http1")
            return
        self._pause(paused=True)
        self._reach("connect http2")
        self.data_received(rest)

    def unreached(self, error: RequestError) -> None:
        """See Relay. Nothing was sent on, so every stream may be tried again elsewhere: none was taken."""
        self._streams.announce(0)
        self.fail(error, Code.NO_ERROR, "upstream")

    def held(self, *, on: bool) -> None:
        """See Relay."""
        self._late = True
        since = math.inf if on else self.loop.time()
        for limits in self._limits():
            limits.count_from(since)

    def reached(self, upstream: UpstreamConnection) -> None:
        """See Relay."""
        self._ready_by = self.loop.time() + self.plane.settings.head_timeout
        self.timer.wake_by(self._ready_by)
        upstream.give_way(0, self.from_upstream.backlog)
        # It may be more than the application takes, which pauses again.
        self._to_upstream(self._take_early())

    def filter_client(self, data: bytes) -> tuple[bytes, int] | None:
        """See Relay."""
        half, rest = self.from_client, self._rest
        self._read_at = self.loop.time()
        try:
            if self._magic:
                self._magic, data = frames.read_magic(self._magic, data)
            out = half.feed(data)
        except FrameFault as fault:
            self._to_upstream(fault.before)
            self.plane.write_batch.flush()
            self._client_failed(fault)
            return None
        if half.pieces or half.block or rest.by < math.inf:
            rest.look(half, self._streams.open, self._read_at)
            self.timer.wake_by(rest.by)
        return out, half.backlog

    def _client_failed(self, fault: FrameFault) -> None:
        """End the connection of a client that is against the protocol, or over a limit."""
        why: Goodbye = "error"
        if isinstance(fault, Abuse):
            why = "abuse"
            self.plane.metrics.h2_abuse.inc(fault.kind)
        self.plane.accounting.record(TurnedAway(self, f"http2-{why}", detail=str(fault)))
        self.end(fault.code, why)

    def filter_upstream(self, data: bytes) -> tuple[bytes, int] | None:
        """See Relay."""
        if self.state >= LINGERING:
            # It was being connected to when the client's end came: nobody reads this.
            return None
        half = self.from_upstream
        try:
            return half.feed(data), half.backlog
        except Abuse as abuse:
            # Of the client, whose frames have made the application say this.
            self.write(abuse.before)
            self._client_failed(abuse)
        except FrameFault as fault:
            self.write(fault.before)
            error = UpstreamMalformed(str(fault))
            if half.begun:
                self._upstream_failed(error)
            else:
                self._speaks_no_http2(error)
        return None

    def upstream_eof(self) -> None:
        """It answers no further stream (Borrower)."""

    def upstream_lost(self, *, reset: bool) -> None:
        """The application has ended the connection (Borrower), and with it every stream."""
        self._upstream = None
        self._upstream_failed(UpstreamGone() if self._streams.open else None)

    def _upstream_failed(self, error: RequestError | None) -> None:
        if not self.from_upstream.begun:
            # An application that is killed, or not up yet, hangs up like this: that says nothing of what it
            # speaks. A server's SETTINGS come before it takes a stream (section 3.4).
            self._streams.announce(0)
        lost = self._streams.open and self.from_upstream.begun
        code = Code.INTERNAL_ERROR if lost else Code.NO_ERROR
        if error is None:
            self.end(code, "upstream")
        else:
            self.fail(error, code, "upstream")

    def _speaks_no_http2(self, error: RequestError) -> None:
        """The application has said something that is no SETTINGS, HTTP/1.1 most likely: it took no stream."""
        self._streams.announce(0)
        self.plane.pool.http2.missed()
        self.fail(error, Code.HTTP_1_1_REQUIRED, "http1")

    def eof_received(self) -> bool:
        """A client that stops sending has left."""
        self.state = AFTER_EOF[self.state]
        return False

    def ended(self, *, reset: bool) -> None:
        """See ClientSocket."""
        super().ended(reset=reset)
        self._weight.in_turn(self._streams, self._part)

    def _part(self) -> None:
        """Be over, and in no circle with what it was made of."""
        self._let_go("reset")
        for part in (self._streams, self.goaway, self._weight):
            part.leave()

    # Frames of ours.

    def say_client(self, frame: bytes) -> None:
        """Send the client a frame between two of the application's."""
        self.write(self.from_upstream.say(frame))

    def say_upstream(self, frame: bytes) -> None:
        """Send the application a frame between two of the client's."""
        self._to_upstream(self.from_client.say(frame))

    # Streams.

    def settled(self) -> None:
        """The application's first SETTINGS pass: the client may ask now."""
        self.plane.pool.http2.found()
        self.arrived_at = self.loop.time()
        # Once they have gone out: what the client may have to be told cannot go before them.
        self.loop.call_soon(self.policy_changed)

    def opened(self, number: int) -> Stream:
        """The client has opened a stream."""
        plane, now = self.plane, self._read_at
        published = plane.lifecycle.published
        over = len(self._streams.open) >= self._max_streams
        if over:
            # One that is refused costs as much as one that is reset (section 5.1.2).
            self.guard.count("streams", now)
        stream = Stream(self, self._streams, number, now)
        if published.draining or plane.routes.limits_unread:
            stream.limit(plane.routes.unread)
        plane.inflight.add(stream)
        full = self._weight.refuses(number, self._streams)
        first, self._spoken = not self._spoken, True
        if first or published.draining:
            plane.accounting.arrivals.came(self.accepted_at, now, first=first)
        if over or full or (published.draining and plane.admission.ending(now)):
            # Its HEADERS are passed on all the same: the application's header compression needs them.
            why = TooManyStreams if over else OutOfBuffers if full else DrainEnding
            self.loop.call_soon(stream.refuse, why())
        if first:
            self.goaway.asked()
        return stream

    def closed(self, stream: Stream, outcome: StreamEnded) -> None:
        """A stream has ended: finished, reset, refused, timed_out, cut or lost."""
        plane = self.plane
        plane.inflight.discard(stream)
        if stream.answered:
            self.guard.answered += 1
        stream.outcome = outcome
        if outcome == "finished" and stream.error is None:
            plane.accounting.finished(stream)
        else:
            plane.accounting.record(stream)
        # A connection that is lost ends its streams, and idles no more: a timer would keep it.
        if not self._streams.open and self.state is not CLOSED:
            self._all_closed()

    def _all_closed(self) -> None:
        limit = self.plane.connection_limit
        self._idle_since = self.loop.time()
        self.timer.wake_by(self._idle_since + self.plane.settings.keepalive_idle)
        if limit.idle is not None:
            limit.idle.pop(self, None)
            limit.idle[self] = None
        if self.goaway.told:
            # After the frame that ended it has gone out.
            self.loop.call_soon(self.goaway.end_if_done)

    @property
    def speaks_http2(self) -> bool:
        """See ClientSocket."""
        return True

    @property
    def limited(self) -> bool:
        """See Weight."""
        plane = self.plane
        read = self.from_client.inspection is not None
        return read or plane.routes.limits_unread or plane.lifecycle.published.draining

    @property
    def idle(self) -> bool:
        """No stream is open."""
        return not self._streams.open and self.state < LINGERING

    @property
    def silent(self) -> bool:
        """See ClientSocket."""
        return not self._spoken

    # Ends.

    def policy_changed(self) -> None:
        """See ClientSocket."""
        self.goaway.review()
        if self._late:
            self.goaway.tell("held")

    def grow_old(self) -> None:
        """See ClientSocket."""
        self.goaway.tell("age")

    def end(self, code: Code, why: Goodbye | None) -> None:
        """Say goodbye and close. `why` is a label of `h2_goaway_total`, None if it was counted."""
        if self.state >= LINGERING:
            return
        if self._connecting is not None:
            # Nothing was sent on.
            self._streams.announce(0)
        self.goaway.last_word(code, why)
        self._let_go("lost" if code in {Code.INTERNAL_ERROR, Code.HTTP_1_1_REQUIRED} else "reset")
        super().close()

    def fail(self, error: RequestError, code: Code, why: Goodbye) -> None:
        """End for `error`, which is that of every open stream; without any, the connection's own."""
        if self.state >= LINGERING:
            return
        if not self._streams.open:
            self.plane.accounting.record(TurnedAway(self, error, first=self.silent))
        self._streams.blame(error)
        self.end(code, why)

    def close(self, *, unread: bool = False) -> None:
        """See ClientSocket: nothing more is served."""
        self.end(Code.NO_ERROR, "upstream" if self.plane.pool.presence.fallen else "drain")

    def _let_go(self, outcome: StreamEnded) -> None:
        self._streams.drop(outcome)
        self._weight.end()
        # It knows the stream that it has read last.
        self.from_client.inspection = None
        for half in (self.from_client, self.from_upstream):
            half.pieces = []
            self.buffers.free(half)
        self.buffers.free(self)
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self.plane.pool.discard(upstream)
        self._early = []

    # Time.

    def _limits(self) -> list[Deadlines]:
        """Return the times of those streams that have any."""
        return [stream.limits for stream in self._streams.open.values() if stream.limits is not None]

    def expired(self) -> None:
        """Do what is due, and set the timer to what is due next."""
        if self.state >= LINGERING:
            self.abort()
            return
        now, streams = self.loop.time(), self._streams.open
        for stream in list(streams.values()):
            if stream.limits is not None:
                stream.limits.expire(stream, now, client_awaited=False)
        if self.goaway.due <= now:
            self.goaway.overdue()
        # The application may take as long as the client waits, as with HTTP/1.1.
        ready = self.from_client.begun
        idle_at = math.inf if streams else self._idle_since + self.plane.settings.keepalive_idle
        if self._rest.by <= now and (self._reading_paused or sockets.has_bytes(self.transport)):
            # It may be here, and was not read.
            self._rest.grant(now)
        if not ready and self._ready_by <= now:
            self.end(Code.NO_ERROR, "error")
        elif self._rest.by <= now:
            what = "header block" if self.from_client.block else "frame"
            self.plane.accounting.record(TurnedAway(self, HeadTimeout(f"HTTP/2: {what}")))
            self.end(Code.NO_ERROR, "error")
        elif idle_at <= now:
            self.end(Code.NO_ERROR, "idle")
        else:
            next_deadline = min((limits.nearest() for limits in self._limits()), default=math.inf)
            ready_by = math.inf if ready else self._ready_by
            self.timer.set(min(self.goaway.due, ready_by, self._rest.by, idle_at, next_deadline))
