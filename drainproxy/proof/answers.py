"""Answers: reads one HTTP/1.1 response off a wire and says exactly how it ended.

Reads what RFC 9112 section 6.3 allows (no body, Content-Length, chunked, until close) and nothing
else; bodies pass by. Every way to fail is a LossError. Called by `client.py`.
"""

import asyncio
import re
from dataclasses import dataclass

from drainproxy.proof.outcomes import Kind, LossError
from drainproxy.proof.wire import MAX_LINE_BYTES, Wire

_MAX_INTERIM = 16  # answers of class 1xx before the final one
_MAX_TRAILERS = 100
_PIECE_BYTES = 64 * 1024
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LENGTH = re.compile(rb"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    reusable: bool  # another request may follow on this connection


@dataclass(frozen=True, slots=True)
class _Head:
    version: bytes
    status: int
    fields: dict[bytes, bytes]  # names in lower case, repeated fields joined by a comma

    def tokens(self, name: bytes) -> list[bytes]:
        return [token.strip().lower() for token in self.fields.get(name, b"").split(b",")]


async def read_answer(wire: Wire, *, method: str) -> Answer:
    """The final answer to `method`; raises LossError."""
    began = False
    for _ in range(_MAX_INTERIM + 1):
        head = _parse_head(await _until(wire, b"\r\n\r\n", began=began))
        began = True
        if head.status == 101:
            raise LossError(Kind.INVALID, "101 to a request that asked for no upgrade")
        if head.status >= 200:
            delimited = await _skip_body(wire, head, method)
            return Answer(head.status, reusable=delimited and _persistent(head) and wire.quiet)
    raise LossError(Kind.INVALID, f"more than {_MAX_INTERIM} interim answers")


def _persistent(head: _Head) -> bool:
    """RFC 9112 section 9.3."""
    options = head.tokens(b"connection")
    if b"close" in options:
        return False
    return head.version == b"HTTP/1.1" or b"keep-alive" in options


def _parse_head(raw: bytes) -> _Head:
    status_line, *lines = raw[:-4].split(b"\r\n")
    version, _, rest = status_line.partition(b" ")
    code = rest[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(code) != 3 or not code.isdigit():
        raise LossError(Kind.INVALID, f"not a status line: {status_line[:60]!r}")
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise LossError(Kind.INVALID, f"not a field: {line[:60]!r}")
        name = name.lower()
        value = value.strip()
        fields[name] = fields[name] + b", " + value if name in fields else value
    return _Head(version=version, status=int(code), fields=fields)


async def _skip_body(wire: Wire, head: _Head, method: str) -> bool:
    """Whether the message said itself where it ends."""
    if method == "HEAD" or head.status in (204, 304):
        return True
    if b"transfer-encoding" in head.fields:
        if head.tokens(b"transfer-encoding")[-1] == b"chunked":
            await _skip_chunks(wire)
            return True
    elif b"content-length" in head.fields:
        lengths = set(head.tokens(b"content-length"))
        length = lengths.pop()
        if lengths or _LENGTH.fullmatch(length) is None:
            raise LossError(Kind.INVALID, "Content-Length is not one number")
        await _skip(wire, int(length), what="the announced length")
        return True
    await _skip_until_close(wire)
    return False


async def _skip_chunks(wire: Wire) -> None:
    while True:
        line = await _until(wire, b"\r\n", began=True)
        digits = line[:-2].partition(b";")[0].strip()
        if _CHUNK_SIZE.fullmatch(digits) is None:
            raise LossError(Kind.INVALID, f"not a chunk size: {line[:60]!r}")
        size = int(digits, 16)
        if size == 0:
            break
        await _skip(wire, size, what="the end of a chunk")
        if await _until(wire, b"\r\n", began=True) != b"\r\n":
            raise LossError(Kind.INVALID, "a chunk does not end where it said")
    for _ in range(_MAX_TRAILERS):
        if await _until(wire, b"\r\n", began=True) == b"\r\n":
            return
    raise LossError(Kind.INVALID, f"more than {_MAX_TRAILERS} trailers")


async def _skip_until_close(wire: Wire) -> None:
    """A body that only the end of the connection delimits: a reset there is a cut, a FIN is not."""
    total = 0
    while piece := await wire.read(_PIECE_BYTES):
        total += len(piece)
    if wire.error is not None:
        raise LossError(Kind.TRUNCATED, f"{_cause(wire)} after {total} bytes of a body until close")


async def _until(wire: Wire, mark: bytes, *, began: bool) -> bytes:
    """Everything up to and with `mark`; `began` says whether earlier bytes of this answer came."""
    try:
        return await wire.readuntil(mark)
    except asyncio.IncompleteReadError as end:
        if began or end.partial:
            raise LossError(Kind.TRUNCATED, f"{_cause(wire)} inside the framing of the answer") from None
        raise LossError(Kind.RESET, f"{_cause(wire)} before the first byte of an answer") from None
    except asyncio.LimitOverrunError:
        raise LossError(Kind.INVALID, f"no line end in {MAX_LINE_BYTES} bytes") from None


async def _skip(wire: Wire, size: int, *, what: str) -> None:
    while size:
        piece = await wire.read(min(size, _PIECE_BYTES))
        if not piece:
            raise LossError(Kind.TRUNCATED, f"{_cause(wire)} {size} bytes before {what}")
        size -= len(piece)


def _cause(wire: Wire) -> str:
    if wire.error is None:
        return "closed"
    if isinstance(wire.error, ConnectionResetError):
        return "reset"
    return f"{type(wire.error).__name__}: {wire.error}"
