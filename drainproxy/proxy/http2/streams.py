"""Which streams of a connection are open, and how each begins and ends (RFC 9113 section 5).

Called by what reads the frames of the client (from_client.py) and of the application (from_upstream.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.faults import Code, FrameFault
from drainproxy.proxy.http2.part import Part

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.errors import RequestError
    from drainproxy.metrics import StreamEnded
    from drainproxy.proxy.http2.flood_limits import FloodLimits
    from drainproxy.proxy.http2.frame_reader import FrameReader
    from drainproxy.proxy.http2.stream import Stream
    from drainproxy.proxy.settings import ProxySettings

OUR_PING: Final[bytes] = b"drainpxy"
"""The payload of our own PING, whose acknowledgement is not the application's."""
MAX_REMEMBERED: Final = 1000
"""Streams that were reset, whose late frames are still on their way."""
NOTHING: Final = b""
"""What goes on of a frame that is not passed."""


class Warned(Protocol):
    """See goaway.py."""

    def heard(self) -> None:
        """The client has acknowledged our PING."""


class StreamHost(Protocol):
    """The connection whose streams they are (connection.py): is told what the frames mean, and says ours."""

    loop: asyncio.AbstractEventLoop
    guard: FloodLimits

    @property
    def from_client(self) -> FrameReader:
        """One direction."""

    @property
    def from_upstream(self) -> FrameReader:
        """The other."""

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

    __slots__ = ("_bounds", "_reset", "announced", "last", "open", "opening", "parted", "taken")

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
        self.opening: int | None = None
        """The flags of `last`, while its header block is open: it is no work before that has ended."""
        self.announced = frames.LAST_STREAM
        """The lowest last stream that a GOAWAY has told the client, the application's or ours: a later one
        must not name a higher one (section 6.8)."""
        self.parted = False
        """The application's GOAWAY was its last: it named a stream or an error."""
        self._reset: dict[int, bool] = {}
        """Streams that ended with a reset; True: it was ours, and neither side hears of them any more."""

    @property
    def host(self) -> StreamHost:
        """See Part."""
        host: StreamHost = self._owner
        return host

    def was_reset(self, number: int) -> bool:
        """Tell whether it is remembered as one that ended with a reset."""
        return number in self._reset

    @property
    def remembered(self) -> int:
        """How many streams that were reset are remembered."""
        return len(self._reset)

    # Opening.

    def opens(self, number: int) -> bool:
        """Take note of a stream that the client's HEADERS open; False: it was reset, and they come late.

        Raises FrameFault where there can be no such stream.
        """
        if number > self.last and number % 2:
            self.last = number
            return True
        if number in self._reset:
            return False
        # The last one is known to have been open; of others that is not remembered (section 5.1).
        closed = number == self.last > 0
        code = Code.STREAM_CLOSED if closed else Code.PROTOCOL_ERROR
        raise FrameFault(code, "a stream that cannot be opened")

    def begin(self, number: int) -> Stream:
        """Its header block is whole: it is work from now on."""
        self.taken = number
        host: StreamHost = self._owner
        self.open[number] = stream = host.opened(number)
        return stream

    # Ending.

    def announce(self, last: int) -> int:
        """Return the stream that a GOAWAY to the client may name where it would be `last`."""
        self.announced = min(self.announced, last)
        return self.announced

    def cut(self, stream: Stream, last: bytes, outcome: StreamEnded) -> None:
        """End a stream on both sides; `last` is the client's last frame of it."""
        self._forget(stream.id, ours=True)
        self.host.say_upstream(frames.rst_stream(stream.id, Code.CANCEL))
        self.host.say_client(last)
        self.close(stream, outcome)

    def blame(self, error: RequestError) -> None:
        """Note why every open stream is about to end."""
        for stream in self.open.values():
            stream.error = error

    def drop(self, outcome: StreamEnded) -> None:
        """Every stream has ended with its connection; one that GOAWAY says was not taken, as refused."""
        for stream in list(self.open.values()):
            self.close(stream, "refused" if stream.id > self.announced else outcome)

    def known(self, number: int) -> bool:
        """Tell whether the client has opened it, however long ago."""
        return 0 < number <= self.last and number % 2 == 1

    def late_data(self, number: int, size: int, say: Callable[[bytes], None]) -> bytes | None:
        """Decide about data of a stream that is not open (any more)."""
        if not self.known(number):
            raise FrameFault(Code.PROTOCOL_ERROR, "data on a stream that was never opened")
        if not self._reset.get(number):
            return None
        if size:
            # Who would have read these bytes will not see them, and so not give their window back.
            say(frames.window_update(size))
        return NOTHING

    def reset_by(self, number: int, payload: bytes) -> bytes | None:
        """End what either side resets; return what the other gets of it."""
        sized(payload, 4)
        if not self.known(number):
            raise FrameFault(Code.PROTOCOL_ERROR, "a reset of a stream that was never opened")
        stream = self.open.get(number)
        if stream is not None:
            self._forget(number, ours=False)
            # A reset after the whole answer is how a server says that it needs no more of the request.
            self.close(stream, "finished" if stream.upstream_ended else "reset")
        elif self.opening is not None and number == self.last:
            self._forget(number, ours=False)
        return NOTHING if self._reset.get(number) else None

    def not_taken(self, stream: Stream) -> None:
        """The application will not answer this stream, and its client knows or will: the GOAWAY says so.

        Frames of it that come late pass all the same: they count in windows and header compression.
        """
        self._forget(stream.id, ours=False)
        self.close(stream, "refused")

    def _forget(self, number: int, *, ours: bool) -> None:
        self._reset[number] = ours
        if len(self._reset) > MAX_REMEMBERED:
            del self._reset[next(iter(self._reset))]

    def close(self, stream: Stream, outcome: StreamEnded) -> None:
        """It has ended on both sides."""
        del self.open[stream.id]
        host: StreamHost = self._owner
        host.closed(stream, outcome)

    # Between the two directions.

    def settings(
        self, flags: int, number: int, payload: bytes, half: FrameReader, other: FrameReader, added: int
    ) -> bytes | None:
        """Return what SETTINGS that `half` has read become; `added` are said in the first ones anyway."""
        if number:
            raise FrameFault(Code.PROTOCOL_ERROR, "SETTINGS of one stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise FrameFault(Code.FRAME_SIZE_ERROR, "SETTINGS of no possible size")
        if flags & frames.ACK:
            return None
        asked = frames.read_settings(payload, client=added == frames.ENABLE_PUSH)
        said = frames.bounded_settings(asked, self._bounds, () if half.settled else (added,))
        half.settled = True
        for name, value in said:
            if name == frames.HEADER_TABLE_SIZE:
                other.allow_table(value)
            elif name == frames.MAX_FRAME_SIZE:
                # Never lowered: frames made under the larger limit may be on their way.
                other.max_bytes = max(other.max_bytes, value)
        return frames.settings(said)


def sized(payload: bytes, right: int) -> None:
    """Raise FrameFault unless `payload` has the `right` size."""
    if len(payload) != right:
        raise FrameFault(Code.FRAME_SIZE_ERROR, "a frame of no possible size")


def pushed() -> FrameFault:
    """Return what ends the connection of who pushes."""
    return FrameFault(Code.PROTOCOL_ERROR, "a push: a client cannot, and an application was told not to")
