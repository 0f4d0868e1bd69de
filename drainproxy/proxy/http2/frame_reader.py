"""One direction of a connection: bytes in, whole frames out.

What a frame means is asked about every one, in order: from_client.py and from_upstream.py say so for the two
directions. A meaning lets its frame pass (None), returns what goes instead, or raises a FrameFault that ends
the connection.
"""

import math
from collections.abc import Callable, Container
from typing import Final

from drainproxy.proxy.http2.faults import Code, FrameFault
from drainproxy.proxy.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADER_BYTES,
    HEADERS,
    LAST_STREAM,
    MIN_MAX_FRAME_BYTES,
    SETTINGS,
    read_header,
)
from drainproxy.proxy.wire.run_queue import READ_BUDGET

MIN_HELD_BYTES: Final = 2 * 1024
"""A smaller frame is not worth an entry in the account of what is held."""
MAX_PIECES: Final = 16
"""Reads of one frame are put together from so many on: each takes more than its bytes."""


class FrameReader:
    """Holds at most one incomplete frame, and says so to `hold` if it is large (buffers.py).

    By itself it lets every frame pass.
    """

    __slots__ = (
        "_held", "_hold", "_missing", "_waiting", "backlog", "begun", "block", "block_bytes", "block_frames",
        "max_bytes", "moved", "pieces", "settled",
    )  # fmt: skip

    def __init__(self, hold: Callable[["FrameReader", int], None]) -> None:
        self._hold = hold
        self._held = False
        self.pieces: list[bytes] = []
        """Of the frame that has begun."""
        self.moved = False
        """It began after others that were whole."""
        self._missing = 0
        """Bytes until the frame that has begun is complete, as far as is known."""
        self.backlog = 0
        """Bytes beyond the budget of one read (run_queue.py): `feed(b"")` goes on with them."""
        self._waiting = b""
        self.settled = False
        """The first SETTINGS were read."""
        self.begun = False
        """The first frame has come, which must be SETTINGS (section 3.4)."""
        self.max_bytes = MIN_MAX_FRAME_BYTES
        self.block = 0
        """The stream whose header block is open: nothing may come in between (section 4.3)."""
        self.block_bytes = self.block_frames = 0

    # What frames mean. Nearly all are DATA and HEADERS, whose payload nobody looks at, or few do.

    def data(self, flags: int, number: int, size: int) -> bytes | None:
        """DATA of so many bytes."""
        return None

    def headers(self, flags: int, number: int, read: bytes, start: int, end: int) -> bytes | None:
        """HEADERS, whose payload is read[start:end]."""
        return None

    def other(self, kind: int, flags: int, number: int, payload: bytes) -> bytes | None:
        """Any other frame."""
        return None

    def allow_table(self, size: int) -> None:
        """Who reads these header blocks has said how large a table of header compression it keeps."""

    # Reading.

    def feed(self, data: bytes) -> bytes:  # noqa: C901, PLR0912 - one loop, for every frame
        """Return the frames that are complete and pass. Raises FrameFault."""
        if self.pieces:
            data = self._gathered(data)
        size, at, run = len(data), 0, 0
        self.backlog = 0
        out: list[bytes] = []
        missing = HEADER_BYTES
        last_at, max_bytes = size - HEADER_BYTES, self.max_bytes
        try:
            for _ in range(READ_BUDGET):
                if at > last_at:
                    break
                word, flags, stream = read_header(data, at)
                length = word >> 8
                if length > max_bytes:
                    raise FrameFault(Code.FRAME_SIZE_ERROR, "a frame is larger than was agreed")
                start = at + HEADER_BYTES
                end = start + length
                if end > size:
                    missing = end - at
                    break
                kind = word & 0xFF
                stream &= LAST_STREAM
                if (self.block or not self.begun) and not self._fits(kind, flags, stream):
                    raise FrameFault(Code.PROTOCOL_ERROR, "a frame where another was due")
                if kind == DATA:
                    instead = self.data(flags, stream, length)
                elif kind == HEADERS:
                    instead = self.headers(flags, stream, data, start, end)
                else:
                    instead = self.other(kind, flags, stream, data[start:end])
                if instead is not None:
                    out += (data[run:at], instead)
                    run = end
                at = end
        except FrameFault as fault:
            fault.before = b"".join((*out, data[run:at]))
            raise
        if at < size:
            self.moved = at > 0
            self._keep(data[at:], missing)
        if run or at < size:
            out.append(data[run:at])
            data = b"".join(out)
        if self._waiting and self.begun and not self.block:
            data, self._waiting = data + self._waiting, b""
        return data

    def _keep(self, rest: bytes, missing: int) -> None:
        """Hold the beginning of a frame, of which so many bytes are wanted before it is looked at again."""
        if rest[0] and not self.begun:
            # No SETTINGS are that long: who hangs up after a few bytes has said enough.
            raise FrameFault(Code.FRAME_SIZE_ERROR, "a first frame that is larger than may be")
        self.pieces = [rest]
        self._missing = missing - len(rest)
        self.backlog = len(rest) if self._missing <= 0 else 0
        if missing >= MIN_HELD_BYTES:
            self._held = True
            self._hold(self, missing)

    def _gathered(self, data: bytes) -> bytes:
        """Return what has come of the frame that has begun, once that is enough to look at."""
        self.pieces.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            if len(self.pieces) >= MAX_PIECES and data:
                self.pieces = [b"".join(self.pieces)]
            return b""
        if self._held:
            self._held = False
            self._hold(self, 0)
        gathered, self.pieces = b"".join(self.pieces), []
        return gathered

    def unfinished(self, streams: Container[int]) -> bool:
        """Tell whether something has begun that is sent at once: a header block, or a frame. Data of an open
        stream is a body, and takes its time."""
        if self.block or not self.pieces:
            return self.block != 0
        first = self.pieces[0]
        if len(first) < HEADER_BYTES or first[3] != DATA:
            return True
        return read_header(first, 0)[-1] & LAST_STREAM not in streams

    def say(self, frame: bytes) -> bytes:
        """Return a frame of ours if it may go now; else keep it until SETTINGS have gone first, and until the
        open header block has ended."""
        if self.begun and not self.block:
            return frame
        self._waiting += frame
        return b""

    def open_block(self, stream: int, size: int) -> None:
        """Note a HEADERS frame without END_HEADERS: only its continuations may follow."""
        self.block, self.block_bytes, self.block_frames = stream, size, 1

    def continue_block(self, flags: int, size: int) -> None:
        """Note a CONTINUATION frame."""
        if not self.block:
            raise FrameFault(Code.PROTOCOL_ERROR, "a continuation of nothing")
        self.block_bytes += size
        self.block_frames += 1
        if flags & END_HEADERS:
            self.block = 0

    def _fits(self, kind: int, flags: int, stream: int) -> bool:
        if not self.begun:
            self.begun = kind == SETTINGS and not flags & ACK
            return self.begun
        return kind == CONTINUATION and stream == self.block


class Rest:
    """Until when a client is to have sent the rest of what it has begun: `by`, a loop time."""

    __slots__ = ("_limit_s", "by")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.by = math.inf

    def look(self, half: FrameReader, streams: Container[int], now: float) -> None:
        """See what a read has left. A block has its time as a whole, however many frames it is of."""
        if not half.unfinished(streams):
            self.by = math.inf
        elif self.by == math.inf or (half.moved and not half.block):
            self.grant(now)

    def grant(self, now: float) -> None:
        """Give it its time from now on."""
        self.by = now + self._limit_s
