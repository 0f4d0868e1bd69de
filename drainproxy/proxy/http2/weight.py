"""What an HTTP/2 connection holds, for the account of the process, and what of it gives way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from drainproxy.errors import OutOfBuffers
from drainproxy.proxy.http2.faults import Code
from drainproxy.proxy.http2.part import Part
from drainproxy.proxy.wire.weights import (
    HTTP2_BYTES,
    RESET_BYTES,
    STREAM_BYTES,
    STREAM_TIMES_BYTES,
    WORK_BYTES,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.errors import RequestError
    from drainproxy.metrics import Goodbye
    from drainproxy.proxy.http2.frame_reader import FrameReader
    from drainproxy.proxy.http2.streams import Streams
    from drainproxy.proxy.wire.buffers import Buffers

MANY_STREAMS: Final = 16
"""To end so many takes long enough that others have their turn first."""
EVERY: Final = 16
"""Streams have odd numbers: every 8th looks at what the connection's books take."""


class Weighed(Protocol):
    """The connection that it is of (connection.py)."""

    loop: asyncio.AbstractEventLoop
    buffers: Buffers

    @property
    def idle(self) -> bool:
        """No stream is open."""

    @property
    def limited(self) -> bool:
        """Its streams have times by which they are to get how far."""

    @property
    def leaving(self) -> bool:
        """Nothing is taken from the client any more."""

    def fail(self, error: RequestError, code: Code, why: Goodbye) -> None:
        """End for `error`."""


class Weight(Part):
    """Of one connection: its books, and the beginning of a frame that has come from the client."""

    __slots__ = ("_buffers", "_half_bytes", "_own_bytes")

    def __init__(self, connection: Weighed) -> None:
        super().__init__(connection)
        self._buffers = connection.buffers
        self._own_bytes = self._half_bytes = 0

    @property
    def _connection(self) -> Weighed:
        """See Part."""
        connection: Weighed = self._owner
        return connection

    def look(self, streams: Streams) -> None:
        """Account for the books: streams, and those that were reset and are remembered."""
        # They are counted among all work, and take less.
        stream = STREAM_BYTES - WORK_BYTES + (STREAM_TIMES_BYTES if self._connection.limited else 0)
        own = HTTP2_BYTES + len(streams.open) * stream + streams.remembered * RESET_BYTES
        self._buffers.own_bytes += own - self._own_bytes
        self._own_bytes = own
        self._buffers.weigh()

    def refuses(self, number: int, streams: Streams) -> bool:
        """Account for a stream that was opened; tell whether there is no room for it."""
        if number % EVERY == 1:
            self.look(streams)
        return self._buffers.tight and self._buffers.is_full()

    def hold_half(self, half: FrameReader, size: int) -> None:
        """Account for the beginning of a frame. While no stream is open it may give way."""
        self._buffers.hold(half, size)
        self._half_bytes = size
        if not size:
            self._buffers.begun.pop(self, None)
            return
        self._buffers.begun[self] = None
        if self._buffers.refuses(self.size(self._buffers)):
            self._connection.loop.call_soon(self.shed)

    def in_turn(self, streams: Streams, end: Callable[[], None]) -> None:
        """Have all streams ended: many of them in a turn of their own."""
        if len(streams.open) < MANY_STREAMS:
            end()
        else:
            self._buffers.run_queue.add(end)

    def end(self) -> None:
        """The connection is not served any more."""
        self._buffers.own_bytes -= self._own_bytes
        self._own_bytes = self._half_bytes = 0
        self._buffers.begun.pop(self, None)

    def size(self, held: Buffers) -> int:
        """See Begun."""
        return self._half_bytes if held.full or self._connection.idle else 0

    def shed(self) -> None:
        """See Begun."""
        if self._half_bytes and not self.left and not self._connection.leaving:
            self._connection.fail(OutOfBuffers("half a frame"), Code.ENHANCE_YOUR_CALM, "abuse")
