"""The grammar of RFC 9112 as a strict reader sees it: lines, fields, lengths, chunks.

Written apart from the proxy and from h11, so that three readings can disagree.
`Fault` says that no continuation can make the bytes valid, `Short` that more bytes are needed.
Pure: called by `requests` and `answers`.
"""

from __future__ import annotations

import re

Fields = list[tuple[bytes, bytes]]

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
TOKEN_ONLY = re.compile(TOKEN)
FIELD = re.compile(rb"(" + TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*)")
LENGTH = re.compile(rb"[0-9]+")
QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
EXTENSION = rb"[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb"|" + QUOTED + rb"))?"
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)(?:" + EXTENSION + rb")*")
ZONE = rb"(?:%25[A-Za-z0-9\-._~]+)?"  # RFC 6874: clients leave it in, though it means something to them alone
HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+" + ZONE + rb"\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)

MAX_LENGTH = 2**63 - 1  # what a signed 64-bit length holds; RFC 9112 6.3 warns of overflow


class FaultError(Exception):
    """The bytes break the grammar; the message names the rule in kebab-case."""


class ShortError(Exception):
    """The bytes are a valid beginning of something longer."""


class Cursor:
    """A position in bytes, moved forward by the readers below."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def rest(self) -> bytes:
        """What has not been read."""
        return self.data[self.at :]

    def line(self) -> bytes:
        """Give the next line without its CRLF (RFC 9112 2.2: a bare CR or LF is a fault)."""
        end = self.data.find(b"\n", self.at)
        if end < 0:
            if b"\r" in self.data[self.at : -1]:
                raise FaultError("bare-cr")
            raise ShortError
        line = self.data[self.at : end]
        if not line.endswith(b"\r"):
            raise FaultError("bare-lf")
        if b"\r" in line[:-1]:
            raise FaultError("bare-cr")
        self.at = end + 1
        return line[:-1]

    def take(self, count: int) -> bytes:
        """Give exactly `count` bytes."""
        if len(self.data) - self.at < count:
            raise ShortError
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken


def read_fields(cursor: Cursor) -> Fields:
    """Read field lines up to and with the empty line that ends them (RFC 9112 5)."""
    fields: Fields = []
    while line := cursor.line():
        match = FIELD.fullmatch(line)
        if match is None:
            raise FaultError("obs-fold" if line[:1] in b" \t" else "field-line")
        fields.append((match[1], match[2].strip(b" \t")))
    return fields


def values(fields: Fields, name: bytes) -> list[bytes]:
    """Give the values of every field of that name (lower case), in order."""
    return [value for key, value in fields if key.lower() == name]


def members(fields: Fields, name: bytes) -> list[bytes]:
    """Give the members of a list field, lower case (RFC 9110 5.6.1)."""
    joined = b",".join(values(fields, name)).lower()
    return [member for part in joined.split(b",") if (member := part.strip(b" \t"))]


def read_length(fields: Fields) -> int | None:
    """Give the Content-Length, or None without one; a repeated or odd one is a fault."""
    found = values(fields, b"content-length")
    if not found:
        return None
    if len(found) > 1 or not LENGTH.fullmatch(found[0]) or int(found[0]) > MAX_LENGTH:
        raise FaultError("content-length")
    return int(found[0])


def is_chunked(fields: Fields, version: bytes) -> bool:
    """Tell whether the body is chunked; any other Transfer-Encoding is a fault (RFC 9112 6.1)."""
    found = values(fields, b"transfer-encoding")
    if not found:
        return False
    if values(fields, b"content-length"):
        raise FaultError("te-and-cl")
    if version == b"1.0":
        raise FaultError("te-in-1.0")
    if [value.lower() for value in found] != [b"chunked"]:
        raise FaultError("transfer-encoding")
    return True


def read_chunked(cursor: Cursor, body: bytearray) -> Fields:
    """Read a chunked body into `body`, give its trailers (RFC 9112 7.1)."""
    while True:
        match = CHUNK_LINE.fullmatch(cursor.line())
        if match is None:
            raise FaultError("chunk-line")
        size = int(match[1], 16)
        if size > MAX_LENGTH:
            raise FaultError("chunk-overflow")
        if size == 0:
            return read_fields(cursor)
        left = cursor.data[cursor.at : cursor.at + size]
        body += left
        cursor.take(size)
        ending = cursor.data[cursor.at : cursor.at + 2]
        if not b"\r\n".startswith(ending):
            raise FaultError("chunk-end")
        cursor.take(2)


def will_close(fields: Fields, version: bytes) -> bool:
    """Tell whether the connection ends after this message (RFC 9112 9.3)."""
    options = members(fields, b"connection")
    return b"close" in options or (version == b"1.0" and b"keep-alive" not in options)
