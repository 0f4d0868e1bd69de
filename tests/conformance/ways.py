"""The ways in which a case is run: whole, byte by byte, and with something behind it.

What stands behind a request is one more request, which belongs to nobody's fault: it is answered
where the connection goes on, and then taken out of what was seen before the case is judged.
What stands behind a response is a second one, which nobody may ever read.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.conformance import answers, cases, requests
from tests.conformance.cases import Case, RequestCase, ResponseCase
from tests.conformance.requests import End

if TYPE_CHECKING:
    from tests.conformance.lane import Seen
    from tests.conformance.recorder import Held

TARGET = b"/behind"
BEHIND = b"GET " + TARGET + b" HTTP/1.1\r\nHost: behind\r\n\r\n"
POISON = b"HTTP/1.1 200 OK\r\nX-Poison: yes\r\nContent-Length: 6\r\n\r\npoison"


class Way(StrEnum):
    """How the bytes are sent."""

    WHOLE = "whole"
    BYTEWISE = "bytewise"
    TRAILING = "trailing"


def variant(case: Case, way: Way) -> Case | None:
    """Give the case as it is sent this way, None where that would be another case."""
    if way is not Way.TRAILING:
        return case
    return _request(case) if isinstance(case, RequestCase) else _response(case)


def _request(case: RequestCase) -> RequestCase | None:
    end = requests.read(case.sent).end
    if not case.sent or case.incomplete or end in {End.IN_HEAD, End.IN_BODY} or cases.features(case):
        return None  # bytes behind a part of a message, or behind an upgrade, belong to it
    return replace(case, steps=(*case.steps[:-1], case.steps[-1] + BEHIND))


def _response(case: ResponseCase) -> ResponseCase | None:
    read = answers.read(case.sent, [case.method.encode()])
    whole = bool(read.replies) and read.replies[0].complete and read.replies[0].delimited
    if not whole or case.after not in {"keep", "close", "settle"} or cases.features(case):
        return None
    return replace(case, parts=(*case.parts[:-1], case.parts[-1] + POISON), may_reuse=False)


def must_serve_behind(case: Case) -> bool:
    """Tell whether the request behind this one is owed its answer."""
    if not isinstance(case, RequestCase) or case.klass != "must-accept":
        return False
    reading = requests.read(case.sent)
    return reading.end is End.CLEAN and bool(reading.requests) and not reading.requests[-1].closes


def without_behind(seen: Seen) -> tuple[Seen, bool]:
    """Take the request behind the case out of what was seen; tell whether it had been served."""
    names: dict[int, str] = {}
    for held in seen.held:
        whole = [message for message in held.messages if message.whole]
        if whole and whole[-1].target == TARGET and len(held.names) == len(whole):
            names[held.number] = held.names[-1]
    replies = seen.answers.replies
    if len(names) != 1 or not replies or not replies[-1].complete:
        return seen, False
    ((number, name),) = names.items()
    if replies[-1].value(b"x-answer") != name.encode():
        return seen, False
    held = [_cut(one) if one.number == number else one for one in seen.held]
    got = replace(seen.answers, replies=replies[:-1])
    return replace(seen, answers=got, held=[one for one in held if one.raw]), True


def _cut(held: Held) -> Held:
    at = held.raw.rindex(b"GET " + TARGET)
    return replace(held, raw=held.raw[:at], messages=held.messages[:-1], names=held.names[:-1])
