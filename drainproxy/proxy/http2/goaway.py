"""How one client's connection says goodbye: a warning, a PING to know that it was read, and a last word.

What a GOAWAY names never rises, whoever says it (RFC 9113 section 6.8).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.frames import Code
from drainproxy.proxy.http2.streams import OUR_PING, StreamHost

if TYPE_CHECKING:
    from drainproxy.metrics import Goodbye
    from drainproxy.proxy.http2.streams import Streams
    from drainproxy.proxy.plane import Plane

PING_WAIT_S = 1.0
"""A client that has not acknowledged by then is taken to have heard the GOAWAY."""


class Parting(StreamHost, Protocol):
    """The connection that says it (connection.py)."""

    plane: Plane

    @property
    def leaving(self) -> bool:
        """Nothing is taken from the client any more."""

    def write(self, data: bytes) -> None:
        """Write, unless the client is gone."""

    def wake_by(self, when: float) -> None:
        """Look at what is due at loop time `when`, or earlier."""

    def end(self, code: Code, why: Goodbye | None) -> None:
        """Say goodbye and close."""


class Goaway:
    """Of one connection. `why` is a label of `h2_goaway_total`, None if it was counted."""

    __slots__ = ("_connection", "_heard", "_table", "ping_by", "told")

    def __init__(self, connection: Parting, table: Streams) -> None:
        self._connection = connection
        self._table = table
        self.told = self._heard = False
        """GOAWAY was sent; and the client is known to have read it."""
        self.ping_by = math.inf

    def tell(self, why: Goodbye) -> None:
        """Ask the client to open no more streams here; those on their way are served."""
        connection = self._connection
        if self.told or connection.leaving or not connection.from_upstream.settled:
            return
        self.told = True
        connection.plane.metrics.h2_goaway.inc(why)
        if self._table.announced < frames.LAST_STREAM:
            # The application has told it, and takes no stream beyond that one: a warning would name a higher.
            self.heard()
            return
        connection.say_client(
            frames.goaway(frames.LAST_STREAM, Code.NO_ERROR) + frames.frame(frames.PING, 0, 0, OUR_PING)
        )
        self.ping_by = connection.loop.time() + PING_WAIT_S
        connection.wake_by(self.ping_by)

    def heard(self) -> None:
        """The client has read the GOAWAY: what it opened before is here."""
        self._heard = True
        self.ping_by = math.inf
        self._connection.loop.call_soon(self.end_if_done)

    def end_if_done(self) -> None:
        """End the connection of a client that has heard, once no stream is open."""
        if self._heard and not self._table.streams:
            self._connection.end(Code.NO_ERROR, None)

    def last_word(self, code: Code, why: Goodbye | None) -> None:
        """Name the last stream that was taken, unless the application has said itself why it goes."""
        if why == "upstream" and self._table.parted:
            return
        connection = self._connection
        if why is not None:
            connection.plane.metrics.h2_goaway.inc(why)
        goodbye = frames.goaway(self._table.announce(self._table.taken), code)
        if connection.from_upstream.settled:
            connection.say_client(goodbye)
        else:
            # Whatever comes, SETTINGS come first (section 3.4).
            connection.write(frames.settings([]) + goodbye)
