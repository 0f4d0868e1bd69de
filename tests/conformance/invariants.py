"""What holds after every case, whatever its class: the rules a status code cannot prove.

Each function gives sentences about what is wrong, none if nothing is.  Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance import grammar, requests
from tests.conformance.recorder import Held, body_of

if TYPE_CHECKING:
    from tests.conformance.lane import Seen
    from tests.conformance.witness import Fields, Message

# RFC 9110 6.5.1: framing, routing and authentication fields are no trailers.
FORBIDDEN_TRAILERS = {
    b"authorization",
    b"content-length",
    b"cookie",
    b"host",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}


def check(seen: Seen, *, at_most: int) -> list[str]:
    """Check everything, with `at_most` whole requests allowed at the application."""
    problems = [f"sentinel {problem}" for problem in seen.sentinels]
    whole = forwarded(seen)
    if len(whole) > at_most:
        problems.append(f"the application holds {len(whole)} requests, {at_most} allowed")
    for held in seen.held:
        problems += _connection(held)
    return [*problems, *_client_side(seen)]


def forwarded(seen: Seen) -> list[tuple[str, Message]]:
    """Give the whole requests that the application answered, by the answer's name."""
    return [
        (name, message) for held in seen.held for name, message in zip(held.names, _whole(held), strict=False)
    ]


def _whole(held: Held) -> list[Message]:
    return [message for message in held.messages if message.whole]


def _connection(held: Held) -> list[str]:
    where = f"upstream connection {held.number}"
    problems = [f"{where}: h11 refuses the bytes ({held.error})"] if held.error else []
    reading = requests.read(held.raw)
    if reading.faulty and not held.error:
        problems.append(f"{where}: forwarded bytes break the grammar ({reading.why})")
    if held.partial and held.open:
        problems.append(f"{where}: a request that will not be completed keeps it open")
    for message in held.messages:
        problems += [f"{where}: {problem}" for problem in _fields(message)]
    return problems


def _fields(message: Message) -> list[str]:
    problems = []
    for name, value in [*message.fields, *message.trailers]:
        if not grammar.TOKEN_ONLY.fullmatch(name):
            problems.append(f"field name {name!r} is no token")
        if any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in value):
            problems.append(f"field {name!r} has a control character")
    if len(_framing(message.fields)) > 1:
        problems.append(f"more than one framing field: {_framing(message.fields)}")
    for name, _ in message.trailers:
        if name.lower() in FORBIDDEN_TRAILERS:
            problems.append(f"trailer {name!r} is framing, routing or authentication")
    return problems


def _framing(fields: Fields) -> Fields:
    return [item for item in fields if item[0].lower() in {b"content-length", b"transfer-encoding"}]


HTTP2_REFUSAL = b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x08\x07\0\0\0\0\0" + b"\0\0\0\0" + b"\0\0\0\x0d"
"""SETTINGS, and GOAWAY with HTTP_1_1_REQUIRED: who begins in HTTP/2 is answered in it (RFC 9113 9.2.2)."""


def _client_side(seen: Seen) -> list[str]:
    """Replies are whole HTTP, in order, each the answer to the request in its place."""
    got = seen.answers
    problems = [f"the client cannot read the reply ({got.fault})"] if got.fault else []
    if got.rest == HTTP2_REFUSAL and not got.replies:
        return []
    if got.rest and not got.fault and got.whole == len(got.replies):
        problems.append(f"bytes after the last reply: {got.rest[:60]!r}")
    answers = dict(forwarded(seen))
    order = list(answers)
    named = [reply.value(b"x-answer").decode() for reply in got.replies]
    named = [name for name in named if name]
    if named != order[: len(named)]:
        problems.append(f"replies out of step: client got {named}, application gave {order}")
    for reply in got.replies:
        name = reply.value(b"x-answer").decode()
        message = answers.get(name)
        if message is None or not reply.complete:
            continue
        expected = b"" if message.method == b"HEAD" else body_of(name, message)
        if reply.body != expected:
            problems.append(f"reply {name} has another body than the application gave")
    return problems
