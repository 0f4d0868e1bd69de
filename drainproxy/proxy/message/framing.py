"""How long is this message, and is that unambiguous? Pure (RFC 9112 section 6).

A Body takes the bytes after a head and gives back payload until the message is complete. Framing is decided
once, from the head, and written afresh towards the other side: never copied.
"""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from drainproxy import errors
from drainproxy.proxy.message.parser import plain_decimal, tokens
from drainproxy.proxy.wire.run_queue import LINE_BYTES, READ_BUDGET
from drainproxy.proxy.wire.weights import OBJECT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.proxy.message.parser import Line, RequestHead, ResponseHead
    from drainproxy.proxy.wire.write_batch import Piece

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
)
"""chunk-size and chunk-ext (RFC 9112 section 7.1.1): what is no extension is a trick."""
_ANSWERS_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\xff]*)?")
"""Of an answer: RFC 2616 allowed blanks behind the size, and servers pad it. There is one reading, and chunks
are written afresh."""
_PLAIN_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
"""Of a chunk without extensions."""
_TRAILER: Final = re.compile(rb"(%b):([^\x00-\x08\x0a-\x1f\x7f]*)" % _TOKEN)
_ANSWERS_TRAILER: Final = re.compile(rb"(%b):([\t\x20-\xff]*)" % _TOKEN)
MAX_CHUNK_LINE_BYTES: Final = 4096
"""A chunk size line with its extensions, which are read over (RFC 9112 section 7.1.1)."""
MAX_TRAILER_BYTES: Final = 16 * 1024
MAX_TRAILERS: Final = 100
"""Each takes more than its bytes: bounded by their bytes alone, 16 KiB of them were 370 KiB here."""
VIEWED_BYTES: Final = 1024
"""So much of a chunk is passed on where it lies; less is cheaper to copy than to point at."""
JOINED_BYTES: Final = 64 * 1024
"""Chunks that came together are passed on as one up to here. Readers make an object of each, and one that is
larger than they keep room for is made of new pages each time: an aiohttp application took 1.7 times the
processor time for chunks of 64 KiB that came as one of 256."""
LAST_CHUNK: Final = b"0\r\n\r\n"
"""Without trailers."""


_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3
"""What a chunked body is in the middle of."""


class Framing(Enum):
    """The three ways a message can say where it ends."""

    LENGTH = "content-length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


class Body(Protocol):
    """The bytes of one message after its head."""

    @property
    def framing(self) -> Framing:
        """How it says where it ends."""

    @property
    def length(self) -> int:
        """Content-Length, for LENGTH."""

    @property
    def backlog(self) -> int:
        """How many bytes it has kept beyond its budget (run_queue.py): `feed(b"")` goes on with them."""

    @property
    def held_bytes(self) -> int:
        """How much of it waits here for what comes next."""

    @property
    def trailers(self) -> Sequence[Line]:
        """What has come after a chunked body."""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take bytes; return payload, and what follows the message once it is complete (else None).

        Raises ValueError where the framing is broken, BodyTooLarge where it is over its limit.
        """


class LengthBody:
    """Exactly `length` bytes."""

    __slots__ = ("left", "length")
    framing: ClassVar = Framing.LENGTH
    backlog = 0
    held_bytes = 0
    trailers: Sequence[Line] = ()

    def __init__(self, length: int) -> None:
        self.length = length
        self.left = length

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See Body."""
        size = len(data)
        if size < self.left:
            self.left -= size
            return data, None
        left, self.left = self.left, 0
        if size == left:
            return data, b""
        return data[:left], data[left:]


class UntilCloseBody:
    """Whatever comes until the connection ends: responses only."""

    __slots__ = ()
    framing: ClassVar = Framing.UNTIL_CLOSE
    length = 0
    backlog = 0
    held_bytes = 0
    trailers: Sequence[Line] = ()

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See Body."""
        return data, None


class ChunkedBody:
    """Chunks, a last chunk, trailers (RFC 9112 section 7.1). Strict: CRLF only, no spaces around sizes."""

    __slots__ = ("_left", "_state", "_tail", "backlog", "room", "trailers")
    framing: ClassVar = Framing.CHUNKED
    length = 0
    _chunk_line: ClassVar = _CHUNK_LINE
    _trailer: ClassVar = _TRAILER

    def __init__(self) -> None:
        self.room = math.inf
        """Bytes that may still come."""
        self.trailers: list[Line] = []
        self._state = _SIZE
        self._left = 0
        self._tail = b""
        """A line that has not ended yet, or what is beyond the budget."""
        self.backlog = 0
        """See Body."""

    @property
    def held_bytes(self) -> int:
        """See Body."""
        trailers = self._left + len(self.trailers) * OBJECT_BYTES if self._state == _TRAILERS else 0
        return len(self._tail) + trailers

    @property
    def between_chunks(self) -> bool:
        """Nothing of a chunk is missing."""
        return self._state == _SIZE and not self._tail

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See Body."""
        pieces: list[Piece] = []
        rest = self.take(data, pieces)
        return b"".join(pieces), rest

    def take(self, data: bytes, pieces: list[Piece]) -> bytes | None:
        """Take bytes as `feed` does, and append the payload to `pieces` as it lies in `data`."""
        if self._tail:
            data = self._tail + data
            self._tail = b""
            self.backlog = 0
        whole = memoryview(data)
        at, budget = 0, READ_BUDGET
        while True:
            if self._state == _SIZE:
                at, budget = self._take_whole(data, whole, at, budget, pieces)
            if budget <= 0:
                self._tail = data[at:]
                self.backlog = len(self._tail)
                return None
            budget -= 1
            if self._state == _DATA:
                end = min(at + self._left, len(data))
                self._left -= end - at
                if end > at:
                    pieces.append(whole[at:end] if end - at >= VIEWED_BYTES else data[at:end])
                at = end
                if self._left:
                    return None
                self._state = _DATA_END
            line_end = self._line_end(data, at)
            if line_end < 0:
                self._tail = data[at:]
                return None
            line = data[at:line_end]
            at = line_end + 2
            budget -= len(line) // LINE_BYTES
            if self._take_line(line):
                return data[at:]

    def _take_whole(
        self, data: bytes, whole: memoryview, at: int, budget: int, pieces: list[Piece]
    ) -> tuple[int, int]:
        """Take chunks that are here in full and have no extensions, which is most of them, at a tenth of what
        the steps cost; return where they end, and what is left of the budget."""
        line, size, taken = b"", 0, 0
        while budget > 0:
            # A client's chunks are mostly of one size: what its line says is known from the one before.
            if not line or not data.startswith(line, at):
                match = _PLAIN_LINE.match(data, at)
                if match is None:
                    break
                line, size = match[0], int(match[1], 16)
            begin = at + len(line)
            end = begin + size
            if not size or data[end : end + 2] != b"\r\n":
                break
            taken += size
            pieces.append(whole[begin:end] if size >= VIEWED_BYTES else data[begin:end])
            at = end + 2
            budget -= 1
        self._count(taken)
        return at, budget

    def _count(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise errors.BodyTooLarge

    def _line_end(self, data: bytes, at: int) -> int:
        """Return where the line at `at` ends, or -1 while that is not known."""
        end = data.find(b"\n", at)
        limit = MAX_TRAILER_BYTES if self._state == _TRAILERS else MAX_CHUNK_LINE_BYTES
        if (end if end >= 0 else len(data)) - at > limit:
            raise ValueError("a line is too long")
        if end < 0:
            if self._state == _DATA_END and data[at : at + 1] not in {b"", b"\r"}:
                raise ValueError("a chunk is longer than it says")
            return -1
        if end == at or data[end - 1] != 0x0D:
            raise ValueError("a line ends without CR")
        return end - 1

    def _take_line(self, line: bytes) -> bool:
        """Act on one line; True when it ends the message."""
        if self._state == _SIZE:
            match = self._chunk_line.fullmatch(line)
            if match is None:
                raise ValueError("not a chunk size")
            self._left = int(match[1], 16)
            self._count(self._left)
            self._state = _DATA if self._left else _TRAILERS
            return False
        if self._state == _DATA_END:
            if line:
                raise ValueError("a chunk is longer than it says")
            self._state = _SIZE
            return False
        if not line:
            return True
        match = self._trailer.fullmatch(line)
        if match is None:
            raise ValueError("not a trailer field")
        self._left += len(line)
        if self._left > MAX_TRAILER_BYTES or len(self.trailers) >= MAX_TRAILERS:
            raise ValueError("too many trailers")
        self.trailers.append(b"%b: %b\r\n" % (match[1], match[2].strip(b" \t")))
        return False


class AnswersChunkedBody(ChunkedBody):
    """The same from an application, which is not believed less without us: what every other proxy passes on
    is passed on."""

    __slots__ = ()
    _chunk_line: ClassVar = _ANSWERS_CHUNK_LINE
    _trailer: ClassVar = _ANSWERS_TRAILER


def chunk(payload: bytes) -> bytes:
    """Return `payload` as one chunk."""
    return b"".join((b"%x\r\n" % len(payload), payload, b"\r\n"))


def chunked(body: Body, data: bytes) -> tuple[list[Piece], int, bytes | None]:
    """Feed `data` to `body`; return its payload in chunks, which are not put together, the payload's size,
    and what follows the message."""
    pieces: list[Piece] = []
    read = len(data) + body.held_bytes
    if isinstance(body, ChunkedBody):
        rest = body.take(data, pieces)
        size = sum(map(len, pieces))
    else:
        payload, rest = body.feed(data)
        size = len(payload)
        pieces.append(payload)
    if not size:
        return [], 0, rest
    if size > JOINED_BYTES and len(pieces) > 1:
        pieces = _framed(pieces)
    else:
        pieces = [b"%x\r\n" % size, *pieces, b"\r\n"]
    if read > 2 * size:
        # Small chunks: what they were read in would be kept for them while they wait.
        pieces = [b"".join(pieces)]
    return pieces, size, rest


def _framed(pieces: list[Piece]) -> list[Piece]:
    """Return `pieces` in chunks of JOINED_BYTES at most, but for those that are larger themselves."""
    out: list[Piece] = []
    end = b""
    joined: list[Piece] = []
    size = 0
    for piece in pieces:
        if joined and size + len(piece) > JOINED_BYTES:
            out.append(b"%b%x\r\n" % (end, size))
            out += joined
            end, joined, size = b"\r\n", [], 0
        joined.append(piece)
        size += len(piece)
    out.append(b"%b%x\r\n" % (end, size))
    out += joined
    out.append(b"\r\n")
    return out


def request_body(head: RequestHead) -> Body | None:
    """Return how the request's body is read, or None for no body. Raises a ClientError (RFC 9112 6.3)."""
    noted = head.noted
    codings = noted.get(b"transfer-encoding")
    lengths = noted.get(b"content-length")
    if codings is None and lengths is None:
        return None
    if head.method == b"TRACE":
        raise errors.MethodRefused
    if codings is not None:
        if lengths is not None:
            raise errors.AmbiguousFraming("Transfer-Encoding with Content-Length")
        if not head.http_1_1:
            raise errors.AmbiguousFraming("Transfer-Encoding in HTTP/1.0")
        if tokens(codings) != [b"chunked"]:
            raise errors.UnsupportedCoding
        return ChunkedBody()
    length = plain_decimal(lengths)
    if length is None:
        raise errors.AmbiguousFraming("Content-Length is not one decimal")
    return LengthBody(length) if length else None


def bound(body: Body, max_bytes: int) -> None:
    """Have a request's body refused beyond `max_bytes`. Raises BodyTooLarge for one that is known to be."""
    if body.length > max_bytes:
        raise errors.BodyTooLarge
    if isinstance(body, ChunkedBody):
        body.room = float(max_bytes)


def response_body(head: ResponseHead, method: bytes) -> Body | None:
    """Return how the response's body is read, or None for no body. Raises UpstreamMalformed."""
    noted = head.noted
    if method == b"HEAD" or head.status < 200 or head.status in {204, 304}:
        return None
    lengths = noted.get(b"content-length")
    if b"transfer-encoding" in noted:
        if lengths is not None or not head.http_1_1 or tokens(noted[b"transfer-encoding"]) != [b"chunked"]:
            raise errors.UpstreamMalformed("ambiguous framing")
        return AnswersChunkedBody()
    if lengths is None:
        return UntilCloseBody()
    length = head.content_length
    if length is None:
        raise errors.UpstreamMalformed("Content-Length is not one decimal")
    return LengthBody(length) if length else None
