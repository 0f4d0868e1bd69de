"""The verdict over a request case: class by class, each clause by the RFC's rule it rests on.

Where a fault lies is read from the case's bytes (`requests`), never looked up by name: a fault
in a head must not reach the application at all, a fault in a body may have begun to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance import grammar, invariants, requests, witness
from tests.conformance.requests import End, Reading, Request

if TYPE_CHECKING:
    from tests.conformance.answers import Reply
    from tests.conformance.cases import RequestCase
    from tests.conformance.lane import Seen
    from tests.conformance.witness import Message

# RFC 9110 7.6.1 and what a gateway frames or routes by itself.
OWN = {
    b"connection",
    b"content-length",
    b"expect",
    b"host",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"transfer-encoding",
    b"upgrade",
}


def judge(case: RequestCase, klass: str, seen: Seen) -> list[str]:
    """Give what is wrong with what was seen; an empty list is a pass."""
    reading = requests.read(case.sent)
    problems = invariants.check(seen, at_most=_bound(case, klass, reading))
    problems += _ends(seen, reading)
    if klass == "must-reject":
        problems += _must_reject(seen, reading)
    elif klass == "must-accept":
        problems += _must_accept(seen, reading)
    elif klass == "must-normalise":
        problems += _must_normalise(seen, reading)
    elif klass == "may-accept":
        problems += _may_accept(seen, reading)
    elif klass == "must-answer":
        problems += _must_answer(seen)
    elif klass == "must-not-complete":
        problems += _never_completed(seen)
    else:
        problems.append(f"class {klass} is not one for requests")
    return problems


def _bound(case: RequestCase, klass: str, reading: Reading) -> int:
    """How many whole requests may reach the application at most."""
    if klass in {"must-answer", "must-not-complete"}:
        return 0
    if klass == "must-reject":
        return 0 if reading.end is End.CLEAN else reading.count
    if klass == "must-normalise":
        return max(1, reading.count)
    if klass == "must-accept":
        return reading.count
    other = witness.count_requests(case.sent)
    # Where h11 refuses a head, another reader may take it: at most that one more.
    return max(reading.count, other.whole + other.head_error)


def _ends(seen: Seen, reading: Reading) -> list[str]:
    """Whatever was sent gets an answer or a close; a closing request gets its close."""
    problems = []
    got = seen.answers
    if not got.replies and seen.ended.value == "open":
        problems.append("neither an answer nor a close")
    elif got.replies and not got.replies[-1].complete and seen.ended.value == "open":
        problems.append("a reply that stays incomplete on an open connection")
    last = reading.requests[-1:]
    if last and last[0].closes and got.replies and not seen.by_itself:
        problems.append("the connection stays open after a request that closes (RFC 9112 9.6)")
    return problems


def _must_reject(seen: Seen, reading: Reading) -> list[str]:
    if reading.end is End.AFTER_CLOSE:  # the first is served, what follows is discarded
        return _served(seen, reading.requests)
    if reading.end is not End.CLEAN and reading.count:
        return [*_served(seen, reading.requests, more=True), *_refused(seen, reading.count)]
    if reading.end in {End.BODY_FAULT, End.IN_BODY}:
        return _never_completed(seen)
    return [*_nothing_forwarded(seen), *_refused(seen, 0)]


def _must_normalise(seen: Seen, reading: Reading) -> list[str]:
    rejected = [*_nothing_forwarded(seen), *_refused(seen, 0)]
    if not rejected:
        return []
    if reading.end in {End.BODY_FAULT, End.IN_BODY} and not _never_completed(seen):
        return []
    whole = invariants.forwarded(seen)
    if len(whole) != 1:
        return [*rejected, f"neither rejected nor one request forwarded ({len(whole)})"]
    problems = _answered_in_order(seen)
    if reading.requests:
        problems += _same(reading.requests[0], whole[0][1])
    if reading.why == "te-and-cl" and not seen.by_itself:
        problems.append("stays open after Transfer-Encoding with Content-Length (RFC 9112 6.1)")
    return problems


def _may_accept(seen: Seen, reading: Reading) -> list[str]:
    problems = []
    named = [reply for reply in seen.answers.replies if reply.value(b"x-answer")]
    if len(named) != len(invariants.forwarded(seen)):
        problems.append(f"{len(invariants.forwarded(seen))} forwarded, {len(named)} answered")
    for request, (_, message) in zip(reading.requests, invariants.forwarded(seen), strict=False):
        problems += _same(request, message)
    if reading.end is End.BODY_FAULT and len(invariants.forwarded(seen)) > reading.count:
        problems.append("a request with a fault in its body was completed")
    return problems


def _must_accept(seen: Seen, reading: Reading) -> list[str]:
    if reading.end is not End.CLEAN:
        return [f"the strict reader disagrees with this label: {reading.end.value} {reading.why}"]
    problems = _served(seen, reading.requests)
    for request, (_, message) in zip(reading.requests, invariants.forwarded(seen), strict=False):
        problems += _same_fields(request, message)
    return problems


def _must_answer(seen: Seen) -> list[str]:
    """The proxy itself gives one good answer, and the application hears nothing."""
    replies = seen.answers.replies
    problems = _nothing_forwarded(seen)
    if len(replies) != 1 or not replies[0].complete or replies[0].status >= 400:
        problems.append(f"not one good answer: {_statuses(replies)}")
    return problems


def _served(seen: Seen, wanted: list[Request], *, more: bool = False) -> list[str]:
    """Each request reached the application as sent and its answer came back."""
    whole = invariants.forwarded(seen)
    if len(whole) != len(wanted):
        return [f"{len(whole)} requests reached the application, not {len(wanted)}"]
    problems = []
    for request, (_, message) in zip(wanted, whole, strict=True):
        problems += _same(request, message)
    replies = seen.answers.replies
    named = [reply for reply in replies if reply.complete and reply.value(b"x-answer")]
    if len(named) != len(wanted) or (len(replies) > len(wanted) and not more):
        problems.append(f"{len(named)} answers for {len(wanted)} requests: {_statuses(replies)}")
    return problems


def _refused(seen: Seen, after: int) -> list[str]:
    """After `after` good answers there is an error reply or a close, nothing else."""
    replies = seen.answers.replies[after:]
    if len(replies) > 1:
        return [f"more than one reply to what must be refused: {_statuses(replies)}"]
    if replies and replies[0].status < 400:
        return [f"answered {replies[0].status} instead of refusing"]
    return []


def _nothing_forwarded(seen: Seen) -> list[str]:
    return [f"{len(held.raw)} bytes reached the application: {held.raw[:80]!r}" for held in seen.held]


def _never_completed(seen: Seen) -> list[str]:
    """A fault after a good head: begun perhaps, never completed, never kept."""
    problems = [
        f"upstream connection {held.number} stays open after a fault in the body"
        for held in seen.held
        if held.open
    ]
    if invariants.forwarded(seen):
        problems.append("a request with a fault in its body was completed")
    complete = [reply for reply in seen.answers.replies if reply.complete]
    if any(reply.status < 400 for reply in complete):
        problems.append(f"answered {_statuses(complete)} in spite of a fault in the body")
    return problems


def _answered_in_order(seen: Seen) -> list[str]:
    replies = seen.answers.replies
    named = [reply for reply in replies if reply.value(b"x-answer")]
    if len(named) == 1 and all(r.status >= 400 for r in replies if r not in named):
        return []
    return [f"one request forwarded, replies {_statuses(replies)}"]


def _same(request: Request, message: Message) -> list[str]:
    """The forwarded request says what the client's said."""
    problems = []
    if message.method != request.method:
        problems.append(f"method {request.method!r} became {message.method!r}")
    if message.target != request.target:
        problems.append(f"target {request.target[:60]!r} became {message.target[:60]!r}")
    if bytes(message.body) != request.body:
        problems.append(f"body of {len(request.body)} bytes became {len(message.body)} bytes")
    hosts = grammar.values(message.fields, b"host")
    if request.host and hosts != [request.host]:
        problems.append(f"Host {request.host!r} became {hosts!r}")
    return problems


def _same_fields(request: Request, message: Message) -> list[str]:
    """End-to-end fields pass with their values, same names in their order (RFC 9110 5.3)."""
    dropped = OWN | set(grammar.members(request.fields, b"connection"))
    problems = []
    for name in {key.lower() for key, _ in request.fields} - dropped:
        sent, came = grammar.values(request.fields, name), grammar.values(message.fields, name)
        if sent != came:
            problems.append(f"field {name!r}: {sent!r:.80} became {came!r:.80}")
    return problems


def _statuses(replies: list[Reply]) -> str:
    return "+".join(f"{r.status}{'' if r.complete else ' (cut)'}" for r in replies) or "none"
