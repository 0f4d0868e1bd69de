"""One client's socket: read and pause, write, and close so that the last answer can be read.

Knows nothing of requests. Base of every client's connection, whatever is spoken on it, which decides what is
read and what is answered: http1/connection.py, http2/connection.py, relay/tcp.py and a tunnel's end.
"""

from __future__ import annotations

import math
import random
from functools import partial
from typing import TYPE_CHECKING, Final

from drainproxy.lifecycle.lazytimer import LazyTimer, OwnedTimer
from drainproxy.proxy.accounting.outcome import TurnedAway
from drainproxy.proxy.downstream.states import (
    AFTER_CLOSE,
    CLOSED,
    CLOSING,
    HALF_CLOSED,
    LINGERING,
    OPEN,
    SocketState,
)  # fmt: skip
from drainproxy.proxy.wire import sockets
from drainproxy.proxy.wire.endpoint import Endpoint

if TYPE_CHECKING:
    import asyncio

    from drainproxy.errors import RequestError
    from drainproxy.proxy.downstream.registry import Registry
    from drainproxy.proxy.downstream.unfinished import Unfinished
    from drainproxy.proxy.wire.write_batch import Piece

MAX_LINGER_BYTES: Final = 1024 * 1024
"""What is read and thrown away after a last answer, so that the client can read it (RFC 9112 section 9.6)."""
UNREAD_LINGER_S: Final = 30.0
"""For how long a client that was answered before it had sent its body may go on sending: many read only
after that. nginx's `lingering_time`."""
WATCH_PAUSED_S: Final = 1.0


class ClientSocket(Endpoint):
    """Written by its transport, its timer and its exchange, all on the loop's thread."""

    __slots__ = (
        "_aging", "_held", "_linger_left", "_reading_paused", "_watch", "accepted_at",
        "arrival", "arrived_at", "awaits_header", "loop", "over", "peer", "plane", "registry", "scheme",
        "state", "timer", "write_paused",
    )  # fmt: skip

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.plane = plane = registry.plane
        super().__init__(plane.buffers)
        self.loop = plane.loop
        self.timer: LazyTimer = OwnedTimer(self.loop, self)
        self.state: SocketState = OPEN
        self.peer = b""
        self.scheme = b"http"
        self.accepted_at = self.arrived_at = 0.0
        """Loop times: when it connected, and since when it may speak HTTP."""
        self.awaits_header = False
        """Whose the connection is, a PROXY header is still to tell; the socket does not know."""
        self.arrival: Unfinished | None = None
        """It is in the middle of what comes before that."""
        self.write_paused = False
        self.over = False
        """Beyond the limit of connections: what it asks first is refused, unless there is room by then."""
        self._held = False
        """What waits here has been accounted for."""
        self._reading_paused = False
        self._linger_left = float(MAX_LINGER_BYTES)
        self._watch: asyncio.TimerHandle | None = None
        self._aging: asyncio.TimerHandle | None = None

    # What the connection on this socket says.

    def expired(self) -> None:
        """The timer has fired."""
        if self.state >= LINGERING:
            self.abort()

    def fail_head(self, error: RequestError) -> None:
        """Turn the client away before it has asked anything."""
        raise NotImplementedError

    def hang_up(self, error: RequestError) -> None:
        """Turn away a client that has begun, in the middle of what nothing can be said in."""
        self.plane.accounting.record(TurnedAway(self, error))
        self.reset()

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return False

    @property
    def awaited(self) -> bool:
        """The client holds things up: it does not take what it gets."""
        return self.write_paused

    @property
    def goes_on(self) -> bool:
        """Something is under way that does not need the client."""
        return False

    @property
    def silent(self) -> bool:
        """Nothing has been asked on it yet."""
        return False

    @property
    def speaks_http2(self) -> bool:
        """The client does."""
        return False

    def policy_changed(self) -> None:
        """The lifecycle wants this client to go elsewhere: said with the next answer, if not here."""

    def grow_old(self) -> None:
        """It has reached its `max_connection_age`."""

    def seal(self, sealed: bool) -> None:
        """TLS holds back what has come, half a record most likely, or nothing any more."""

    def left(self) -> None:
        """The client is not there any more, though its socket is paused and says nothing."""
        self.abort()

    def ended(self, *, reset: bool) -> None:
        """The connection has ended."""

    def tell_writer(self, *, writable: bool) -> None:
        """See Endpoint."""

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client in."""
        super().connection_made(transport)
        self.accepted_at = self.arrived_at = self.loop.time()
        self.timer.set(self.accepted_at + self.plane.settings.keepalive_idle)
        self.begin_to_age()
        if not self.awaits_header:
            self.peer = self.address_of(transport)
        self.registry.opened(self)

    @staticmethod
    def address_of(transport: asyncio.BaseTransport) -> bytes:
        """Return the other end's address; empty where it has none."""
        peer = transport.get_extra_info("peername")
        return str(peer[0]).removeprefix("::ffff:").encode() if isinstance(peer, tuple) else b""

    def inherit(self, before: ClientSocket) -> None:
        """Go on with the socket of a connection whose client speaks another protocol from now on."""
        self.transport, self.peer, self.scheme = before.transport, before.peer, before.scheme
        self.accepted_at, self.arrived_at = before.accepted_at, before.arrived_at
        self.write_paused = before.write_paused

    def take_over(self) -> None:
        """Have the transport speak to this protocol from now on."""
        self.transport.set_protocol(self.as_protocol())
        self.begin_to_age()
        if self.buffers.tight:
            self.fit()

    def fit(self) -> None:
        """See Endpoint. Who is still at the door is not to be read from in its place."""
        if not self.awaits_header:
            super().fit()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hold nothing for a client that is gone: soon, as thousands may go in one turn of the loop."""
        self.state = CLOSED
        self.timer.cancel()
        self.plane.connection_limit.leave(self)
        # Nobody reads it any more: a thousand answers that go on are the work of seconds.
        self.tell_writer(writable=False)
        self.buffers.run_queue.in_turn(partial(self._depart, exc))

    def _depart(self, exc: Exception | None) -> None:
        self.drop_backlog()
        self.timer.cancel()
        self._stop_aging()
        self._unwatch()
        self.ended(reset=exc is not None)
        if not self.goes_on:
            self.timer.end()
        self.buffers.free(self)
        super().connection_lost(exc)
        self.registry.closed(self)

    def begin_to_age(self) -> None:
        """Have it told when it is old, if any ever is."""
        if (age := self.plane.settings.max_connection_age) is not None:
            jitter = random.uniform(0.9, 1.1)  # noqa: S311 - spreads, hides nothing
            self._aging = self.loop.call_at(self.accepted_at + age * jitter, self.grow_old)

    def forget_time(self) -> None:
        """Be told of no deadline any more, and of no age: it is over, or goes on as another connection."""
        self.timer.end()
        self._stop_aging()

    def _stop_aging(self) -> None:
        if self._aging is not None:
            self._aging.cancel()
            self._aging = None

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the client does not take what it gets."""
        self.write_paused = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol: the client takes more."""
        self.write_paused = False
        super().resume_writing()

    # Reading.

    @property
    def held_back(self) -> bool:
        """See Endpoint."""
        return self._reading_paused

    def _hold(self, size: int) -> None:
        """Account for bytes that wait here, for their turn or for the rest of a head."""
        self._held = size > 0
        self.buffers.hold(self, size)

    def _pause(self, *, paused: bool) -> None:
        if paused == self._reading_paused or self.state is CLOSED:
            return
        self._reading_paused = paused
        if paused:
            self.transport.pause_reading()
            self._watch = self.loop.call_later(WATCH_PAUSED_S, self._look)
        else:
            if not self.yielding:
                self.transport.resume_reading()
            self._unwatch()

    def _look(self) -> None:
        """See whether a client that is not read from is still there."""
        if sockets.hung_up(self.transport, half=not self.plane.settings.allow_half_close):
            # Those who came together are looked at together.
            self.buffers.run_queue.in_turn(self.left)
        if self.state is not CLOSED:
            self._watch = self.loop.call_later(WATCH_PAUSED_S, self._look)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    # Writing and closing.

    def write(self, data: bytes) -> None:
        """Write, unless the client is gone."""
        if data and self.state is not CLOSED:
            self.plane.write_batch.write(self.transport, data)

    def write_pieces(self, pieces: list[Piece]) -> None:
        """See Downstream."""
        if self.state is not CLOSED:
            self.plane.write_batch.write_pieces(self.transport, pieces)

    def unsent(self) -> int:
        """Return how many bytes of what was written the socket has not taken."""
        return 0 if self.state is CLOSED else self.transport.get_write_buffer_size()

    def pause_until_flushed(self, *, on: bool) -> None:
        """Have the exchange told (`client_writable`) only once nothing is left to send, or as usual again."""
        if self.state is not CLOSED:
            self.transport.set_write_buffer_limits(high=0 if on or self.buffers.tight else None)

    def close(self, *, unread: bool = False) -> None:
        """End the connection so that the last answer can be read: half-close, then read on a while.

        `unread`: the client is in the middle of a body, of whatever size.
        """
        if self.state >= LINGERING:
            return
        self.state = AFTER_CLOSE[self.state]
        self.plane.write_batch.flush()
        if self.state is CLOSED or self.transport.is_closing():
            return
        if self._reading_paused:
            self._pause(paused=False)
        if self.state is CLOSING:
            # It may be one that does not read what it has asked for.
            self.timer.set(self.loop.time() + self.plane.linger_s)
            self.transport.close()
            return
        try:
            self.end_writing()
        except OSError:
            # It has gone, unseen behind bytes that were not read.
            self.abort()
            return
        long = unread and not self.plane.lifecycle.published.draining
        self._linger_left = math.inf if long else float(MAX_LINGER_BYTES)
        self.timer.set(self.loop.time() + (UNREAD_LINGER_S if long else self.plane.linger_s))

    def _linger(self, data: bytes) -> None:
        """Throw away what comes after the half-close, so much and no more."""
        self._linger_left -= len(data)
        if self._linger_left < 0:
            self.abort()
        else:
            self.give_way(len(data), 0)

    def abort(self) -> None:
        """End the connection at once."""
        self.state = CLOSED
        self.transport.abort()

    def reset(self) -> None:
        """End the connection so that the client sees that something is missing."""
        sockets.reset_on_close(self.transport)
        self.abort()

    @property
    def leaving(self) -> bool:
        """Nothing is taken from the client any more."""
        return self.state >= LINGERING

    @property
    def gone(self) -> bool:
        """The client will not read an answer."""
        state = self.state
        if state is HALF_CLOSED or state is CLOSING:
            return not self.plane.settings.allow_half_close
        return state is CLOSED
