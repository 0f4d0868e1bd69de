"""What each frame of the application means, and so what the client gets instead (RFC 9113 section 6).

HEADERS always pass: the client's header compression depends on having seen them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.faults import Code, FrameFault
from drainproxy.proxy.http2.flood_limits import PROVOKED
from drainproxy.proxy.http2.frame_reader import FrameReader
from drainproxy.proxy.http2.frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    GOAWAY_BYTES,
    LAST_STREAM,
    MAX_CONCURRENT_STREAMS,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
)
from drainproxy.proxy.http2.streams import pushed

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.proxy.http2.streams import Streams


class FromUpstream(FrameReader):
    """Of one connection."""

    __slots__ = ("_streams",)

    def __init__(self, streams: Streams, hold: Callable[[FrameReader, int], None]) -> None:
        super().__init__(hold)
        self._streams = streams

    def data(self, flags: int, number: int, size: int) -> bytes | None:
        """See FrameReader."""
        streams = self._streams
        stream = streams.open.get(number)
        if stream is None:
            return streams.late_data(number, size, streams.host.say_upstream)
        if stream.limits is not None:
            stream.moved()
        if flags & END_STREAM:
            stream.upstream_ended = True
            if stream.body_read:
                streams.close(stream, "finished")
        return None

    def headers(self, flags: int, number: int, read: bytes, start: int, end: int) -> bytes | None:
        """See FrameReader."""
        if not flags & END_HEADERS:
            self.open_block(number, end - start)
        streams = self._streams
        stream = streams.open.get(number)
        if stream is not None:
            stream.responding()
            if flags & END_STREAM:
                stream.upstream_ended = True
                if stream.body_read:
                    streams.close(stream, "finished")
        elif not streams.known(number):
            raise FrameFault(Code.PROTOCOL_ERROR, "an answer on a stream that was never opened")
        return None

    def other(self, kind: int, flags: int, number: int, payload: bytes) -> bytes | None:
        """See FrameReader."""
        instead: bytes | None = None
        streams = self._streams
        if kind == RST_STREAM:
            if frames.read_code(payload) in PROVOKED:
                host = streams.host
                host.guard.count("reset", host.loop.time())
            instead = streams.reset_by(number, payload)
        elif kind == CONTINUATION:
            self.continue_block(flags, len(payload))
        elif kind == SETTINGS:
            if not self.settled:
                streams.host.settled()
            other = streams.host.from_client
            instead = streams.settings(flags, number, payload, self, other, MAX_CONCURRENT_STREAMS)
        elif kind == GOAWAY:
            instead = self._goaway(number, payload)
        elif kind == PUSH_PROMISE:
            raise pushed()
        return instead

    def _goaway(self, number: int, payload: bytes) -> bytes | None:
        if number:
            raise FrameFault(Code.PROTOCOL_ERROR, "a GOAWAY of one stream")
        if len(payload) < GOAWAY_BYTES:
            raise FrameFault(Code.FRAME_SIZE_ERROR, "a frame of no possible size")
        said, code = frames.read_goaway(payload)
        streams = self._streams
        last = streams.announce(said)
        streams.parted = streams.parted or code != Code.NO_ERROR or last < LAST_STREAM
        for stream in [stream for stream in streams.open.values() if stream.id > last]:
            streams.not_taken(stream)
        return None if said == last else frames.goaway(last, code, payload[GOAWAY_BYTES:])
