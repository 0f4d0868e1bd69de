"""What each frame of a client means, and so what the application gets instead (RFC 9113 section 6).

HEADERS always pass: the application's header compression depends on having seen them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.proxy.http2.faults import Code, FrameFault
from drainproxy.proxy.http2.frame_reader import FrameReader
from drainproxy.proxy.http2.frames import (
    ACK,
    CONTINUATION,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    PING,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from drainproxy.proxy.http2.streams import NOTHING, OUR_PING, pushed, sized

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.metrics import Excess
    from drainproxy.proxy.http2.flood_limits import FloodLimits
    from drainproxy.proxy.http2.inspection import Inspection
    from drainproxy.proxy.http2.stream import Stream
    from drainproxy.proxy.http2.streams import Streams


class FromClient(FrameReader):
    """Of one connection."""

    __slots__ = ("_guard", "_streams", "inspection")

    def __init__(
        self, streams: Streams, guard: FloodLimits, hold: Callable[[FrameReader, int], None]
    ) -> None:
        super().__init__(hold)
        self._streams = streams
        self._guard = guard
        self.inspection: Inspection | None = None
        """Who reads header blocks, if anybody does."""

    def data(self, flags: int, number: int, size: int) -> bytes | None:
        """See FrameReader."""
        streams = self._streams
        stream = streams.open.get(number)
        if stream is None:
            return streams.late_data(number, size, streams.host.say_client)
        if stream.limits is not None:
            stream.moved()
        if flags & END_STREAM:
            stream.body_read = True
            if stream.upstream_ended:
                streams.close(stream, "finished")
        elif not size:
            self._count("empty")
        return None

    def headers(self, flags: int, number: int, read: bytes, start: int, end: int) -> bytes | None:
        """See FrameReader."""
        streams, inspection = self._streams, self.inspection
        whole = flags & END_HEADERS
        if not whole:
            self.open_block(number, end - start)
        self._guard.block(end - start, 1)
        stream = streams.open.get(number)
        if stream is None and streams.opens(number):
            if whole:
                stream = streams.begin(number)
            else:
                streams.opening = flags
        if inspection is not None:
            inspection.headers(flags, read[start:end], stream)
        if stream is not None:
            self._asked(stream, flags)
        return None

    def _asked(self, stream: Stream, flags: int) -> None:
        """Act on the flags of a header block."""
        if flags & END_STREAM:
            stream.body_read = True
            if stream.upstream_ended:
                self._streams.close(stream, "finished")
        if stream.id > self._streams.announced:
            self._streams.not_taken(stream)

    def other(self, kind: int, flags: int, number: int, payload: bytes) -> bytes | None:
        """See FrameReader."""
        instead: bytes | None = None
        if kind == WINDOW_UPDATE:
            sized(payload, 4)
            if number and not self._streams.known(number):
                raise FrameFault(Code.PROTOCOL_ERROR, "a window of a stream that was never opened")
        elif kind == PING:
            instead = self._ping(flags, payload)
        elif kind == RST_STREAM:
            self._guard.reset(self._streams.open.get(number), self._streams.host.loop.time())
            instead = self._streams.reset_by(number, payload)
        elif kind == CONTINUATION:
            self._continuation(flags, number, payload)
        elif kind == SETTINGS:
            self._count("settings")
            other = self._streams.host.from_upstream
            instead = self._streams.settings(flags, number, payload, self, other, ENABLE_PUSH)
        elif kind == PUSH_PROMISE:
            raise pushed()
        return instead

    def allow_table(self, size: int) -> None:
        """See FrameReader."""
        if self.inspection is not None:
            self.inspection.allow_table(size)

    def _ping(self, flags: int, payload: bytes) -> bytes | None:
        sized(payload, 8)
        if not flags & ACK:
            self._count("ping")
        elif payload == OUR_PING:
            self._streams.host.goaway.heard()
            return NOTHING
        return None

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        self.continue_block(flags, len(payload))
        self._guard.block(self.block_bytes, self.block_frames)
        opened, streams = None, self._streams
        opening = streams.opening
        if opening is not None and flags & END_HEADERS:
            streams.opening = None
            if not streams.was_reset(number):
                opened = streams.begin(number)
        if self.inspection is not None:
            self.inspection.continuation(flags, payload, opened)
        if opened is not None and opening is not None:
            self._asked(opened, opening)

    def _count(self, kind: Excess) -> None:
        self._guard.count(kind, self._streams.host.loop.time())
