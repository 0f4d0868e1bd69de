"""Which streams are open, and what each frame does to them (RFC 9113 section 5).

A meaning is asked about every frame of its kind, in order. It lets it pass (None), puts something in its
place, or raises a FrameFault that ends the connection. HEADERS always pass: the other side's header
compression depends on having seen them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.faults import Code, FrameFault
from drainproxy.proxy.http2.flood_limits import PROVOKED
from drainproxy.proxy.http2.part import Part

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.errors import RequestError
    from drainproxy.metrics import Excess, StreamEnded
    from drainproxy.proxy.http2.flood_limits import FloodLimits
    from drainproxy.proxy.http2.frame_reader import FrameReader, Meanings
    from drainproxy.proxy.http2.inspection import Inspection
    from drainproxy.proxy.http2.stream import Stream
    from drainproxy.proxy.settings import ProxySettings

OUR_PING: Final[bytes] = b"drainpxy"
"""The payload of our own PING, whose acknowledgement is not the application's."""
MAX_REMEMBERED: Final = 1000
"""Streams that were reset, whose late frames are still on their way."""
_NOTHING: Final = b""


class Warned(Protocol):
    """See goaway.py."""

    def heard(self) -> None:
        """The client has acknowledged our PING."""


class StreamHost(Protocol):
    """The connection whose streams they are (connection.py): is told what the frames mean, and says ours."""

    loop: asyncio.AbstractEventLoop
    guard: FloodLimits
    inspection: Inspection | None
    from_client: FrameReader
    from_upstream: FrameReader

    def say_client(self, frame: bytes) -> None:
        """Send the client a frame between two of the application's."""

    def say_upstream(self, frame: bytes) -> None:
        """Send the application a frame between two of the client's."""

    def opened(self, number: int) -> Stream:
        """The client has opened a stream."""

    def closed(self, stream: Stream, outcome: StreamEnded) -> None:
        """A stream has ended."""

    @property
    def goaway(self) -> Warned:
        """How it says goodbye."""

    def settled(self) -> None:
        """The application's first SETTINGS pass."""


class Streams(Part):
    """Of one connection. Written by the frames that pass."""

    __slots__ = ("_bounds", "_opening", "_reset", "announced", "last", "open", "parted", "taken")

    def __init__(self, connection: StreamHost, limits: ProxySettings) -> None:
        super().__init__(connection)
        self._bounds = {
            frames.ENABLE_PUSH: 0,
            frames.MAX_CONCURRENT_STREAMS: limits.h2_max_streams,
            frames.MAX_FRAME_SIZE: max(limits.h2_max_frame_bytes, frames.MIN_MAX_FRAME_BYTES),
        }
        """What SETTINGS may say at most: a frame has to fit into our buffer, and nobody pushes."""
        self.open: dict[int, Stream] = {}
        self.last = 0
        """The highest stream the client has opened, or begun to."""
        self.taken = 0
        """The highest whose header block is whole: nobody can have acted on a part of one."""
        self._opening: int | None = None
        """The flags of `last`, while its header block is open: it is no work before that has ended."""
        self.announced = frames.LAST_STREAM
        """The lowest last stream that a GOAWAY has told the client, the application's or ours: a later one
        must not name a higher one (section 6.8)."""
        self.parted = False
        """The application's GOAWAY was its last: it named a stream or an error."""
        self._reset: dict[int, bool] = {}
        """Streams that ended with a reset; True: it was ours, and neither side hears of them any more."""

    @property
    def _connection(self) -> StreamHost:
        """See Part."""
        connection: StreamHost = self._owner
        return connection

    @property
    def remembered(self) -> int:
        """How many streams that were reset are remembered."""
        return len(self._reset)

    # From the client.

    def from_client(self) -> Meanings:
        """Return what the application gets instead of each kind of frame."""
        return {
            frames.DATA: self._client_data,
            frames.HEADERS: self._client_headers,
            frames.RST_STREAM: self._client_reset,
            frames.SETTINGS: self._client_settings,
            frames.PUSH_PROMISE: self._push,
            frames.PING: self._client_ping,
            frames.WINDOW_UPDATE: self._window,
            frames.CONTINUATION: self._client_continuation,
        }

    def _client_data(self, flags: int, number: int, payload: memoryview) -> bytes | None:
        stream = self.open.get(number)
        if stream is None:
            return self._late_data(number, len(payload), self._connection.say_client)
        stream.moved()
        if flags & frames.END_STREAM:
            stream.body_read = True
            if stream.upstream_ended:
                self._close(stream, "finished")
        elif not payload:
            self._count("empty")
        return None

    def _client_headers(self, flags: int, number: int, payload: memoryview) -> None:
        connection = self._connection
        connection.from_client.open_block(number, flags, len(payload))
        connection.guard.block(len(payload), 1)
        stream = self.open.get(number)
        if stream is None:
            if number <= self.last or number % 2 == 0:
                if number in self._reset:
                    if connection.inspection is not None:
                        connection.inspection.headers(flags, payload, None)
                    return
                # The last one is known to have been open; of others that is not remembered (section 5.1).
                closed = number == self.last > 0
                code = Code.STREAM_CLOSED if closed else Code.PROTOCOL_ERROR
                raise FrameFault(code, "a stream that cannot be opened")
            self.last = number
            if not flags & frames.END_HEADERS:
                self._opening = flags
                if connection.inspection is not None:
                    connection.inspection.headers(flags, payload, None)
                return
            stream = self._open(number)
        if connection.inspection is not None:
            connection.inspection.headers(flags, payload, stream)
        self._asked(stream, flags)

    def _open(self, number: int) -> Stream:
        self.taken = number
        self.open[number] = stream = self._connection.opened(number)
        return stream

    def _asked(self, stream: Stream, flags: int) -> None:
        """Act on the flags of a header block of the client."""
        if flags & frames.END_STREAM:
            stream.body_read = True
            if stream.upstream_ended:
                self._close(stream, "finished")
        if stream.id > self.announced:
            self._not_taken(stream)

    def _client_continuation(self, flags: int, number: int, payload: memoryview) -> None:
        half, inspection = self._connection.from_client, self._connection.inspection
        half.continue_block(flags, len(payload))
        self._connection.guard.block(half.block_bytes, half.block_frames)
        opened = None
        if self._opening is not None and flags & frames.END_HEADERS:
            opening, self._opening = self._opening, None
            if number not in self._reset:
                opened = self._open(number)
        if inspection is not None:
            inspection.continuation(flags, payload, opened)
        if opened is not None:
            self._asked(opened, opening)

    def _client_reset(self, flags: int, number: int, payload: memoryview) -> bytes | None:
        connection = self._connection
        connection.guard.reset(self.open.get(number), connection.loop.time())
        return self._reset_by(flags, number, payload)

    def _client_settings(self, flags: int, number: int, payload: memoryview) -> bytes | None:
        self._count("settings")
        half, other = self._connection.from_client, self._connection.from_upstream
        return self._settings(flags, number, payload, half, other, frames.ENABLE_PUSH)

    def _client_ping(self, flags: int, number: int, payload: memoryview) -> bytes | None:
        _sized(payload, 8)
        if not flags & frames.ACK:
            self._count("ping")
        elif payload == OUR_PING:
            self._connection.goaway.heard()
            return _NOTHING
        return None

    def _window(self, flags: int, number: int, payload: memoryview) -> None:
        _sized(payload, 4)
        if number and not self._known(number):
            raise FrameFault(Code.PROTOCOL_ERROR, "a window of a stream that was never opened")

    def _push(self, flags: int, number: int, payload: memoryview) -> None:
        raise FrameFault(Code.PROTOCOL_ERROR, "a push: a client cannot, and an application was told not to")

    def _count(self, kind: Excess) -> None:
        self._connection.guard.count(kind, self._connection.loop.time())

    # From the application.

    def from_upstream(self) -> Meanings:
        """Return what the client gets instead of each kind of frame."""
        return {
            frames.DATA: self._upstream_data,
            frames.HEADERS: self._upstream_headers,
            frames.RST_STREAM: self._upstream_reset,
            frames.SETTINGS: self._upstream_settings,
            frames.PUSH_PROMISE: self._push,
            frames.GOAWAY: self._upstream_goaway,
            frames.CONTINUATION: self._upstream_continuation,
        }

    def _upstream_data(self, flags: int, number: int, payload: memoryview) -> bytes | None:
        stream = self.open.get(number)
        if stream is None:
            return self._late_data(number, len(payload), self._connection.say_upstream)
        stream.moved()
        if flags & frames.END_STREAM:
            stream.upstream_ended = True
            if stream.body_read:
                self._close(stream, "finished")
        return None

    def _upstream_headers(self, flags: int, number: int, payload: memoryview) -> None:
        self._connection.from_upstream.open_block(number, flags, len(payload))
        stream = self.open.get(number)
        if stream is not None:
            stream.responding()
            if flags & frames.END_STREAM:
                stream.upstream_ended = True
                if stream.body_read:
                    self._close(stream, "finished")
        elif not self._known(number):
            raise FrameFault(Code.PROTOCOL_ERROR, "an answer on a stream that was never opened")

    def _upstream_continuation(self, flags: int, number: int, payload: memoryview) -> None:
        self._connection.from_upstream.continue_block(flags, len(payload))

    def _upstream_reset(self, flags: int, number: int, payload: memoryview) -> bytes | None:
        if frames.read_code(payload) in PROVOKED:
            self._count("reset")
        return self._reset_by(flags, number, payload)

    def _upstream_settings(self, flags: int, number: int, payload: memoryview) -> bytes | None:
        connection = self._connection
        half, other = connection.from_upstream, connection.from_client
        if not half.settled:
            connection.settled()
        return self._settings(flags, number, payload, half, other, frames.MAX_CONCURRENT_STREAMS)

    def _upstream_goaway(self, flags: int, number: int, payload: memoryview) -> bytes | None:
        if number:
            raise FrameFault(Code.PROTOCOL_ERROR, "a GOAWAY of one stream")
        if len(payload) < frames.GOAWAY_BYTES:
            raise FrameFault(Code.FRAME_SIZE_ERROR, "a frame of no possible size")
        said, code = frames.read_goaway(payload)
        last = self.announce(said)
        self.parted = self.parted or code != Code.NO_ERROR or last < frames.LAST_STREAM
        for stream in [stream for stream in self.open.values() if stream.id > last]:
            self._not_taken(stream)
        return None if said == last else frames.goaway(last, code, bytes(payload[frames.GOAWAY_BYTES :]))

    def announce(self, last: int) -> int:
        """Return the stream that a GOAWAY to the client may name where it would be `last`."""
        self.announced = min(self.announced, last)
        return self.announced

    # Both.

    def cut(self, stream: Stream, last: bytes, outcome: StreamEnded) -> None:
        """End a stream on both sides; `last` is the client's last frame of it."""
        self._forget(stream.id, ours=True)
        self._connection.say_upstream(frames.rst_stream(stream.id, Code.CANCEL))
        self._connection.say_client(last)
        self._close(stream, outcome)

    def blame(self, error: RequestError) -> None:
        """Note why every open stream is about to end."""
        for stream in self.open.values():
            stream.error = error

    def drop(self, outcome: StreamEnded) -> None:
        """Every stream has ended with its connection; one that GOAWAY says was not taken, as refused."""
        for stream in list(self.open.values()):
            self._close(stream, "refused" if stream.id > self.announced else outcome)

    def _known(self, number: int) -> bool:
        return 0 < number <= self.last and number % 2 == 1

    def _late_data(self, number: int, size: int, say: Callable[[bytes], None]) -> bytes | None:
        """Decide about data of a stream that is not open (any more)."""
        if not self._known(number):
            raise FrameFault(Code.PROTOCOL_ERROR, "data on a stream that was never opened")
        if not self._reset.get(number):
            return None
        if size:
            # Who would have read these bytes will not see them, and so not give their window back.
            say(frames.window_update(size))
        return _NOTHING

    def _reset_by(self, flags: int, number: int, payload: memoryview) -> bytes | None:
        _sized(payload, 4)
        if not self._known(number):
            raise FrameFault(Code.PROTOCOL_ERROR, "a reset of a stream that was never opened")
        stream = self.open.get(number)
        if stream is not None:
            self._forget(number, ours=False)
            # A reset after the whole answer is how a server says that it needs no more of the request.
            self._close(stream, "finished" if stream.upstream_ended else "reset")
        elif self._opening is not None and number == self.last:
            self._forget(number, ours=False)
        return _NOTHING if self._reset.get(number) else None

    def _settings(
        self, flags: int, number: int, payload: memoryview, half: FrameReader, other: FrameReader, added: int
    ) -> bytes | None:
        if number:
            raise FrameFault(Code.PROTOCOL_ERROR, "SETTINGS of one stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise FrameFault(Code.FRAME_SIZE_ERROR, "SETTINGS of no possible size")
        if flags & frames.ACK:
            return None
        inspection = self._connection.inspection
        client = added == frames.ENABLE_PUSH
        asked = frames.read_settings(payload, client=client)
        said = frames.bounded_settings(asked, self._bounds, () if half.settled else (added,))
        half.settled = True
        for name, value in said:
            if name == frames.HEADER_TABLE_SIZE and inspection is not None and not client:
                inspection.allow_table(value)
            elif name == frames.MAX_FRAME_SIZE:
                # Never lowered: frames made under the larger limit may be on their way.
                other.max_bytes = max(other.max_bytes, value)
        return frames.settings(said)

    def _not_taken(self, stream: Stream) -> None:
        """The application will not answer this stream, and its client knows or will: the GOAWAY says so.

        Frames of it that come late pass all the same: they count in windows and header compression.
        """
        self._forget(stream.id, ours=False)
        self._close(stream, "refused")

    def _forget(self, number: int, *, ours: bool) -> None:
        self._reset[number] = ours
        if len(self._reset) > MAX_REMEMBERED:
            del self._reset[next(iter(self._reset))]

    def _close(self, stream: Stream, outcome: StreamEnded) -> None:
        del self.open[stream.id]
        self._connection.closed(stream, outcome)


def _sized(payload: memoryview, right: int) -> None:
    if len(payload) != right:
        raise FrameFault(Code.FRAME_SIZE_ERROR, "a frame of no possible size")
