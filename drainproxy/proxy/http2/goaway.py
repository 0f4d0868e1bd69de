"""How one client's connection says goodbye: a warning, a PING to know that it was read, and a last word.

What a GOAWAY names never rises, whoever says it (RFC 9113 section 6.8).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.faults import Code
from drainproxy.proxy.http2.part import Part
from drainproxy.proxy.http2.streams import OUR_PING, StreamHost

if TYPE_CHECKING:
    from drainproxy.lifecycle.lazytimer import LazyTimer
    from drainproxy.metrics import Goodbye
    from drainproxy.proxy.http2.streams import Streams
    from drainproxy.proxy.plane import Plane

PING_WAIT_S: Final = 1.0
"""A client that has not acknowledged by then is taken to have heard the GOAWAY."""
NEWCOMER_S: Final = 1.0
"""For so long a client that was just greeted is left to ask before it is told, as one of HTTP/1.1 is: the
stream for which it has come is on its way. A GOAWAY straight behind the SETTINGS costs clients of gRPC a
second until they come again, and grpcio 1.84 and 1.85 overlook it now and then: that call waits until its
deadline."""


class Parting(StreamHost, Protocol):
    """The connection that says it (connection.py)."""

    plane: Plane
    timer: LazyTimer
    arrived_at: float

    @property
    def silent(self) -> bool:
        """Nothing has been asked on it yet."""

    @property
    def leaving(self) -> bool:
        """Nothing is taken from the client any more."""

    def write(self, data: bytes) -> None:
        """Write, unless the client is gone."""

    def end(self, code: Code, why: Goodbye | None) -> None:
        """Say goodbye and close."""


class Goaway(Part):
    """Of one connection. `why` is a label of `h2_goaway_total`, None if it was counted."""

    __slots__ = ("_heard", "_put_off", "_streams", "due", "told")

    def __init__(self, connection: Parting, streams: Streams) -> None:
        super().__init__(connection)
        self._streams = streams
        self.told = self._heard = False
        """GOAWAY was sent; and the client is known to have read it."""
        self._put_off: Goodbye | None = None
        """Why a newcomer is to be told."""
        self.due = math.inf
        """When not to wait any longer, for its first stream or for its answer."""

    @property
    def _connection(self) -> Parting:
        """See Part."""
        connection: Parting = self._owner
        return connection

    def review(self) -> None:
        """Tell the client to go elsewhere, if the lifecycle wants that now, or the application is gone."""
        plane = self._connection.plane
        if plane.lifecycle.published.discourage_reuse:
            self.tell("drain")
        elif plane.pool.presence.fallen:
            self.tell("upstream")

    def tell(self, why: Goodbye) -> None:
        """Ask the client to open no more streams here; those on their way are served."""
        connection = self._connection
        if self.told or connection.leaving or not connection.from_upstream.settled:
            return
        newcomer_until = connection.arrived_at + NEWCOMER_S
        now = connection.loop.time()
        if connection.silent and now < min(newcomer_until, connection.plane.lifecycle.published.sent_until):
            self._put_off = why
            self._wait_until(newcomer_until)
            return
        self.told, self._put_off = True, None
        connection.plane.metrics.h2_goaway.inc(why)
        if self._streams.announced < frames.LAST_STREAM:
            # The application has told it, and takes no stream beyond that one: a warning would name a higher.
            self.heard()
            return
        connection.say_client(
            frames.goaway(frames.LAST_STREAM, Code.NO_ERROR) + frames.frame(frames.PING, 0, 0, OUR_PING)
        )
        self._wait_until(connection.loop.time() + PING_WAIT_S)

    def _wait_until(self, when: float) -> None:
        self.due = when
        self._connection.timer.wake_by(when)

    def asked(self) -> None:
        """The client has opened its first stream."""
        if self._put_off is not None:
            self.tell(self._put_off)

    def overdue(self) -> None:
        """What was waited for has not come."""
        if self._put_off is not None:
            self.tell(self._put_off)
        else:
            self.heard()

    def heard(self) -> None:
        """The client has read the GOAWAY: what it opened before is here."""
        self._heard = True
        self.due = math.inf
        self._connection.loop.call_soon(self.end_if_done)

    def end_if_done(self) -> None:
        """End the connection of a client that has heard, once no stream is open."""
        if self._heard and not self.left and not self._streams.open:
            self._connection.end(Code.NO_ERROR, None)

    def last_word(self, code: Code, why: Goodbye | None) -> None:
        """Name the last stream that was taken, unless the application has said itself why it goes."""
        if why == "upstream" and self._streams.parted:
            return
        connection = self._connection
        if why is not None:
            connection.plane.metrics.h2_goaway.inc(why)
        goodbye = frames.goaway(self._streams.announce(self._streams.taken), code)
        if connection.from_upstream.settled:
            connection.say_client(goodbye)
        else:
            # Whatever comes, SETTINGS come first (section 3.4).
            connection.write(frames.settings([]) + goodbye)
