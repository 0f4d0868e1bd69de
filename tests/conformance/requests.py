"""What a client validly sent, read strictly: the requests, and how the bytes end.

The verdicts ask this reader where a fault lies (head or body) and how many requests came
before it, so that no case needs a rule of its own.  Pure; never trusts h11 or the proxy.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field

from tests.conformance import grammar
from tests.conformance.grammar import Cursor, FaultError, Fields, ShortError

REQUEST_LINE = re.compile(rb"(" + grammar.TOKEN + rb") ([\x21-\x7e]+) HTTP/(1\.[0-9])")
ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://([^/?#]*)(.*)", re.DOTALL)


class End(enum.Enum):
    """How a client's bytes end."""

    CLEAN = "after a whole request"
    IN_HEAD = "inside a head"
    IN_BODY = "inside a body"
    HEAD_FAULT = "with a fault in a head"
    BODY_FAULT = "with a fault in a body"
    AFTER_CLOSE = "with bytes after a request that closes"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as read: `target` in origin-form, `host` from the authority that counts."""

    method: bytes
    target: bytes
    host: bytes
    version: bytes
    fields: Fields
    body: bytes
    trailers: Fields
    closes: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """Every whole request, how the bytes end and, for a fault, the rule that is broken."""

    requests: list[Request] = field(default_factory=list)
    end: End = End.CLEAN
    why: str = ""

    @property
    def count(self) -> int:
        """How many whole requests there are."""
        return len(self.requests)

    @property
    def faulty(self) -> bool:
        """Whether a fault ends the bytes."""
        return self.end in {End.HEAD_FAULT, End.BODY_FAULT}


def read(data: bytes) -> Reading:
    """Read all of a client's bytes."""
    cursor = Cursor(data)
    found: list[Request] = []
    while True:
        while cursor.data.startswith(b"\r\n", cursor.at):  # RFC 9112 2.2: empty lines before
            cursor.at += 2
        if not cursor.rest or cursor.rest == b"\r":
            return Reading(found)
        if found and found[-1].closes:
            return Reading(found, End.AFTER_CLOSE)
        try:
            head = _read_head(cursor)
        except FaultError as fault:
            return Reading(found, End.HEAD_FAULT, str(fault))
        except ShortError:
            return Reading(found, End.IN_HEAD)
        body = bytearray()
        try:
            trailers = _read_body(cursor, head, body)
        except FaultError as fault:
            return Reading(found, End.BODY_FAULT, str(fault))
        except ShortError:
            return Reading(found, End.IN_BODY)
        found.append(_request(head, bytes(body), trailers))


@dataclass(frozen=True, slots=True)
class _Head:
    method: bytes
    target: bytes
    version: bytes
    fields: Fields
    length: int | None
    chunked: bool


def _read_head(cursor: Cursor) -> _Head:
    match = REQUEST_LINE.fullmatch(cursor.line())
    if match is None:
        raise FaultError("request-line")
    method, target, version = match.groups()
    fields = grammar.read_fields(cursor)
    _check_host(fields, version)
    _check_target(method, target)
    chunked = grammar.is_chunked(fields, version)
    return _Head(method, target, version, fields, grammar.read_length(fields), chunked)


def _check_host(fields: Fields, version: bytes) -> None:
    """RFC 9112 3.2: exactly one valid Host; only HTTP/1.0 may do without."""
    hosts = grammar.values(fields, b"host")
    if len(hosts) > 1 or (not hosts and version != b"1.0"):
        raise FaultError("host-count")
    if hosts and not grammar.HOST.fullmatch(hosts[0]):
        raise FaultError("host-value")


def _check_target(method: bytes, target: bytes) -> None:
    """RFC 9112 3.2: four forms, two of them tied to a method."""
    if method == b"CONNECT":
        known = b"/" not in target and b":" in target
    elif target == b"*":
        known = method == b"OPTIONS"
    else:
        known = target.startswith(b"/") or ABSOLUTE.fullmatch(target) is not None
    if not known:
        raise FaultError("target-form")


def _read_body(cursor: Cursor, head: _Head, body: bytearray) -> Fields:
    if head.chunked:
        return grammar.read_chunked(cursor, body)
    body += cursor.take(head.length or 0)
    return []


def _request(head: _Head, body: bytes, trailers: Fields) -> Request:
    hosts = grammar.values(head.fields, b"host")
    host, target = hosts[0] if hosts else b"", head.target
    if absolute := ABSOLUTE.fullmatch(head.target):
        host = absolute[1]
        target = absolute[2] or (b"*" if head.method == b"OPTIONS" else b"/")
        target = b"/" + target if target.startswith(b"?") else target  # RFC 9112 3.2.2
    closes = head.method == b"CONNECT" or grammar.will_close(head.fields, head.version)
    return Request(
        method=head.method,
        target=target,
        host=host,
        version=head.version,
        fields=head.fields,
        body=body,
        trailers=trailers,
        closes=closes,
    )
