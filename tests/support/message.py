"""HTTP/1.1 messages as a test reads them: exactly, and with every byte kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.support.wire import End, Ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.wire import Wire

Fields = list[tuple[bytes, bytes]]


class Ending(StrEnum):
    """How a message came to its end."""

    COMPLETE = "complete"
    """As its framing said."""
    EOF = "eof"
    """With a FIN, as its framing said: the connection's end is the body's."""
    TRUNCATED = "truncated"
    """With a FIN before its framing was fulfilled, or before the first byte."""
    RESET = "reset"


@dataclass
class Message:
    """A request or a response. Names and values are as received, in order."""

    start: bytes = b""
    """The first line without its CRLF."""
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    """The body's parts, where it was chunked."""
    raw: bytes = b""
    ending: Ending = Ending.TRUNCATED

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of every field of this name."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def one(self, name: bytes) -> bytes | None:
        """Return the value of a field that must not be repeated, or None without it."""
        values = self.all(name)
        assert len(values) < 2, f"{name!r} is repeated: {values}"
        return values[0] if values else None

    @property
    def names(self) -> list[bytes]:
        """The fields' names in lower case, in order."""
        return [name.lower() for name, _ in self.fields]

    @property
    def status(self) -> int:
        """The status of a response; 0 where not even its head came."""
        return int(self.start.split(b" ")[1]) if self.start else 0


def fields_of(lines: bytes) -> Fields:
    """Take field lines apart. Lines without the CRLF of the empty line."""
    parted = [line.partition(b":") for line in lines.split(b"\r\n") if line]
    assert all(colon for _, colon, _ in parted), f"a line without a colon: {lines!r}"
    return [(name, value.strip(b" \t")) for name, _, value in parted]


async def read_response(wire: Wire, *, method: str = "GET") -> Message:
    """Read the next response, a 1xx too. Never raises for what the other side does: see `ending`."""
    return await _read(wire, lambda message: _response_is_bodiless(message, method), bare_ends="eof")


async def read_request(wire: Wire) -> Message:
    """Read the next request with its body."""
    return await _read(wire, lambda _: False, bare_ends="at once")


def _response_is_bodiless(message: Message, method: str) -> bool:
    return method == "HEAD" or message.status < 200 or message.status in {204, 304}


async def _read(wire: Wire, bodiless: Callable[[Message], bool], *, bare_ends: str) -> Message:
    message = Message()
    raw, body = bytearray(), bytearray()
    try:
        raw += await wire.read_head()
        message.start, _, lines = bytes(raw[:-4]).partition(b"\r\n")
        message.fields = fields_of(lines)
        if not bodiless(message):
            await _read_body(wire, message, raw, body, until_close=bare_ends == "eof")
        if message.ending is Ending.TRUNCATED:
            message.ending = Ending.COMPLETE
    except Ended as ended:
        raw += wire.take(len(wire.received))
        message.ending = Ending.RESET if ended.end is End.RESET else Ending.TRUNCATED
    message.raw, message.body = bytes(raw), bytes(body)
    return message


async def _read_body(
    wire: Wire, message: Message, raw: bytearray, body: bytearray, *, until_close: bool
) -> None:
    length = message.one(b"content-length")
    if (coding := message.one(b"transfer-encoding")) is not None:
        assert coding == b"chunked", f"a coding that is not chunked: {coding!r}"
        assert length is None, "both Transfer-Encoding and Content-Length"
        await _read_chunks(wire, message, raw, body)
    elif length is not None:
        while len(body) < int(length):
            if not wire.received:
                await wire.need()
            piece = wire.take(int(length) - len(body))
            body += piece
            raw += piece
    elif until_close:
        rest = await wire.read_until_close()
        body += rest
        raw += rest
        message.ending = Ending.EOF if wire.end is End.FIN else Ending.RESET


async def _read_chunks(wire: Wire, message: Message, raw: bytearray, body: bytearray) -> None:
    while True:
        line = await wire.read_to(b"\r\n")
        raw += line
        size = int(line[:-2], 16)
        if not size:
            break
        piece = await wire.read_exactly(size + 2)
        assert piece[-2:] == b"\r\n", f"a chunk without CRLF: {piece[-8:]!r}"
        raw += piece
        message.chunks.append(piece[:-2])
        body += piece[:-2]
    while (line := await wire.read_to(b"\r\n")) != b"\r\n":
        raw += line
        message.trailers += fields_of(line[:-2])
    raw += line
