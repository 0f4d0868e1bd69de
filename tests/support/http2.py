"""HTTP/2 peers that send exactly the frames they are told to, over the wires of this package.

Frames are packed and unpacked here, and header blocks by the `hpack` library: nothing of the proxy's own.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import hpack

if TYPE_CHECKING:
    from tests.support.wire import Wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1


class Frame(NamedTuple):
    """One frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or GOAWAY."""
        return struct.unpack(">I", self.payload[-4:] if self.kind == RST else self.payload[4:8])[0]

    @property
    def last(self) -> int:
        """The last stream of a GOAWAY."""
        return struct.unpack(">I", self.payload[:4])[0]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Pack one frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def settings(**values: int) -> bytes:
    """A SETTINGS frame; names as in RFC 9113 section 6.5.2, lower-case."""
    numbers = {"enable_push": 2, "max_concurrent_streams": 3, "initial_window_size": 4, "max_frame_size": 5}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", numbers[key], n) for key, n in values.items()))


class Http2:
    """One side of a connection. Header compression state is kept, as a real peer's is."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()

    async def send(self, *frames: bytes) -> None:
        """Send frames, or parts of them."""
        await self.wire.send(b"".join(frames))

    async def read(self) -> Frame:
        """Return the next frame. Raises Ended."""
        head = await self.wire.read_exactly(9)
        payload = await self.wire.read_exactly(int.from_bytes(head[:3], "big"))
        return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    async def next(self, kind: int, stream: int | None = None, *, ack: bool = False) -> Frame:
        """Return the next frame of a kind, reading over others. Raises Ended."""
        while True:
            got = await self.read()
            right = stream in {None, got.stream}
            if got.kind == kind and right and (kind not in {SETTINGS, PING} or bool(got.flags & ACK) is ack):
                return got

    def block(self, *fields: tuple[str, str]) -> bytes:
        """Compress a header block."""
        return self._encoder.encode(fields)

    def request(self, stream: int, path: str = "/", *, end: bool = True) -> bytes:
        """The HEADERS of a request."""
        fields = ((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path))
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, self.block(*fields))

    def response(self, stream: int, *, end: bool = False) -> bytes:
        """The HEADERS of a 200."""
        return frame(
            HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, self.block((":status", "200"))
        )

    async def greet(self) -> None:
        """Be a server that has accepted: read preface and SETTINGS, send ours."""
        assert await self.wire.read_exactly(len(PREFACE)) == PREFACE
        await self.send(settings(max_concurrent_streams=100))
        await self.next(SETTINGS)

    async def introduce(self) -> None:
        """Be a client that has connected."""
        await self.send(PREFACE, settings(initial_window_size=1 << 20))
