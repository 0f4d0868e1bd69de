"""What a client was answered, read strictly: replies with their framing, complete or cut.

Called on the same growing buffer each time bytes arrive; never guesses past a fault.
Pure.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field

from tests.conformance import grammar
from tests.conformance.grammar import Cursor, FaultError, Fields, ShortError

STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9][0-9]) [\t\x20-\x7e\x80-\xff]*")


class Ended(enum.Enum):
    """How the stream of bytes ended, if it did."""

    OPEN = "open"
    FIN = "closed"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Reply:
    """One final reply and the 1xx replies before it."""

    status: int
    version: bytes
    fields: Fields
    body: bytes
    complete: bool
    delimited: bool  # whether its end shows without the connection's end
    interim: tuple[int, ...] = ()

    @property
    def closes(self) -> bool:
        """Whether the connection ends after this reply."""
        return grammar.will_close(self.fields, self.version) or not self.delimited

    def value(self, name: bytes) -> bytes:
        """Give the first value of a field (lower-case name), or nothing."""
        found = grammar.values(self.fields, name)
        return found[0] if found else b""


@dataclass(frozen=True, slots=True)
class Answers:
    """Every reply in order (only the last may be incomplete), a fault, the bytes left over."""

    replies: list[Reply] = field(default_factory=list)
    fault: str = ""
    rest: bytes = b""
    interim: tuple[int, ...] = ()  # 1xx replies that no final reply followed

    @property
    def whole(self) -> int:
        """How many replies are complete."""
        return sum(reply.complete for reply in self.replies)


def read(data: bytes, methods: list[bytes], ended: Ended = Ended.OPEN) -> Answers:
    """Read what came back for requests with these methods (GET where the list is too short)."""
    cursor = Cursor(data)
    replies: list[Reply] = []
    interim: list[int] = []
    while cursor.rest:
        start = cursor.at
        try:
            status, version, fields = _read_head(cursor)
        except FaultError as broken:
            return Answers(replies, str(broken), data[start:], tuple(interim))
        except ShortError:
            return Answers(replies, "", data[start:], tuple(interim))
        if status < 200 and status != 101:
            interim.append(status)
            continue
        method = methods[len(replies)] if len(replies) < len(methods) else b"GET"
        reply, fault = _read_body(cursor, (status, version, fields), method, ended)
        replies.append(_with_interim(reply, interim))
        interim.clear()
        if fault or not reply.complete or reply.closes or status == 101:
            return Answers(replies, fault, cursor.rest)
    return Answers(replies, "", b"", tuple(interim))


def _read_head(cursor: Cursor) -> tuple[int, bytes, Fields]:
    match = STATUS_LINE.fullmatch(cursor.line())
    if match is None:
        raise FaultError("status-line")
    return int(match[2]), match[1], grammar.read_fields(cursor)


def _read_body(
    cursor: Cursor, head: tuple[int, bytes, Fields], method: bytes, ended: Ended
) -> tuple[Reply, str]:
    """Read a body by RFC 9112 6.3; give the reply and the fault in its body, if any."""
    status, version, fields = head
    body, complete, delimited, fault = bytearray(), True, True, ""
    try:
        if status == 101:  # what follows is another protocol's, and ends with the connection
            body += cursor.take(len(cursor.rest))
        elif method == b"HEAD" or status in {204, 304}:
            pass
        elif grammar.is_chunked(fields, version):
            grammar.read_chunked(cursor, body)
        elif (length := grammar.read_length(fields)) is not None:
            body += cursor.rest[:length]
            cursor.take(length)
        else:
            body += cursor.take(len(cursor.rest))
            complete, delimited = ended is Ended.FIN, False
    except FaultError as found:
        complete, fault = False, str(found)
    except ShortError:
        complete = False
        cursor.at = len(cursor.data)
    return Reply(status, version, fields, bytes(body), complete, delimited), fault


def _with_interim(reply: Reply, interim: list[int]) -> Reply:
    return Reply(
        reply.status, reply.version, reply.fields, reply.body, reply.complete, reply.delimited, tuple(interim)
    )
