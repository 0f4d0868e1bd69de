"""HTTP/2 frames as bytes: what their headers say, and the few that are made here. Pure.

RFC 9113 sections 4 and 6. A frame header is 24 bits of length, a type, flags and a stream.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, cast

from drainproxy.proxy.http2.faults import Code, FrameFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAGIC: Final = PREFACE[-6:]
"""What follows the part of the preface that looks like an HTTP/1 head."""
HEADER_BYTES: Final = 9
MIN_MAX_FRAME_BYTES: Final = 16_384
"""What either side may send before the other has said more (section 4.2)."""
MAX_MAX_FRAME_BYTES: Final = 2**24 - 1
MAX_WINDOW: Final = 2**31 - 1
"""The largest that SETTINGS may say of each (section 6.5.2)."""
LAST_STREAM: Final = 2**31 - 1
"""The stream of a GOAWAY that refuses nothing yet (section 6.8)."""

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5

_HEADER: Final = struct.Struct(">IBI")
read_header: Final = cast("Callable[[bytes, int], tuple[int, int, int]]", _HEADER.unpack_from)
"""(bytes, offset) -> length and type in one number, 8 bits of it the type; flags; stream with the reserved
bit. Three numbers are made in half the time of five, and every frame is read."""
_SETTING: Final = struct.Struct(">HI")


def read_magic(left: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return what is left of the preface behind `data`, and what of `data` is behind the preface."""
    size = len(left)
    if not left.startswith(data[:size]):
        raise FrameFault(Code.PROTOCOL_ERROR, "a broken preface")
    return left[len(data) :], data[size:]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return _HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload


_GOAWAY: Final = struct.Struct(">II")
GOAWAY_BYTES: Final = _GOAWAY.size
"""What a GOAWAY has at least; the rest is for people."""


def goaway(last: int, code: int, debug: bytes = b"") -> bytes:
    """Say that no stream above `last` is taken any more."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last, code) + debug)


def read_goaway(payload: bytes) -> tuple[int, int]:
    """Return the last stream and the code of a GOAWAY."""
    last, code = _GOAWAY.unpack_from(payload)
    return last & LAST_STREAM, code


def rst_stream(stream: int, code: Code) -> bytes:
    """End one stream."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def last_fields(stream: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """End a stream with these fields: an answer without a body, or trailers."""
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, literals(fields))


def literals(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a block of fields as literals that are never indexed, which leave the table of header
    compression alone (RFC 7541 section 6.2.3)."""
    return b"".join(b"\x10" + _text(name) + _text(value) for name, value in fields)


def _text(text: bytes) -> bytes:
    """Return a string without Huffman's code; its length is an integer of 7 bits (sections 5.1 and 5.2)."""
    left = len(text) - 127
    if left < 0:
        return bytes((len(text),)) + text
    size = bytearray((127,))
    while left >= 128:
        size.append(left % 128 + 128)
        left //= 128
    size.append(left)
    return bytes(size) + text


GRPC_UNAVAILABLE = ((b"grpc-status", b"14"), (b"grpc-message", b"the server is draining"))
"""Trailers that end a gRPC call with a status that clients may act on."""


def read_code(payload: bytes) -> int:
    """Return the code of a RST_STREAM."""
    return int.from_bytes(payload)


def window_update(size: int) -> bytes:
    """Give back `size` bytes of the connection's window: they were taken off the wire here."""
    return frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", size))


def read_settings(payload: bytes, *, client: bool) -> list[tuple[int, int]]:
    """Return what a SETTINGS payload says, in order. Raises FrameFault for a value that it must not have:
    what is sent on is lowered and made anew, so the other side would not see it (section 6.5.2)."""
    said = list(_SETTING.iter_unpack(payload))
    for name, value in said:
        if name == ENABLE_PUSH and value > (1 if client else 0):
            raise FrameFault(Code.PROTOCOL_ERROR, "a push that is neither on nor off, or is a server's")
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise FrameFault(Code.FLOW_CONTROL_ERROR, "a window beyond the largest")
        if name == MAX_FRAME_SIZE and not MIN_MAX_FRAME_BYTES <= value <= MAX_MAX_FRAME_BYTES:
            raise FrameFault(Code.PROTOCOL_ERROR, "a frame size out of range")
    return said


def bounded_settings(
    said: list[tuple[int, int]], bounds: dict[int, int], added: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Return the same with nothing above its bound; one of `added` that is not mentioned is said with its
    bound. What is lowered is a limit on the other side, and safe to lower."""
    names = {name for name, _ in said}
    more = [(name, bounds[name]) for name in added if name not in names]
    return more + [(name, min(value, bounds.get(name, value))) for name, value in said]


def settings(values: list[tuple[int, int]]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*entry) for entry in values))


REFUSAL: Final = settings([]) + goaway(0, Code.NO_ERROR)
"""What a client is told for whom there is no place: SETTINGS come first (section 3.4), and no stream was
taken."""
