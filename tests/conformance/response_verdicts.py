"""The verdict over a response case: what a faulty application may do to a client.

The expected message is read from the scripted bytes by two readers (strict, then h11), not kept
per case.  A reply is good, an honest error, or visibly cut; the connection to the application
is used again only where the bytes left no doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conformance import answers, grammar, invariants, witness
from tests.conformance.answers import Answers, Ended, Reply

if TYPE_CHECKING:
    from tests.conformance.cases import ResponseCase
    from tests.conformance.grammar import Fields
    from tests.conformance.lane import Seen

HOP_BY_HOP = {
    b"connection",
    b"content-length",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
GATEWAY_ERRORS = {502, 503, 504}
# RFC 9112 6.1 and 6.3 call these framings faulty: an error is right even where the label is
# content with a clean-up.
FAULTY_FRAMING = {"te-and-cl", "te-in-1.0"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The message that the application's bytes stand for.

    `folded`: RFC 9112 5.2 lets a gateway put any number of spaces for a fold.
    """

    status: int
    fields: Fields
    body: bytes
    folded: bool = False


def judge(case: ResponseCase, klass: str, seen: Seen, *, may_reuse: bool) -> list[str]:
    """Give what is wrong with what was seen; an empty list is a pass."""
    strict = _strict(case)
    retry = 2 if not case.sent and case.method in {"GET", "HEAD"} else 1
    problems = invariants.check(seen, at_most=retry)
    problems += _pool(klass, strict, seen, may_reuse=may_reuse)
    if len(seen.answers.replies) > 1:
        problems.append(f"more than one reply: {_shown(seen)}")
    return problems + _RULES[klass](case, strict, seen)


def _strict(case: ResponseCase) -> Answers:
    return answers.read(case.sent, [case.method.encode()], _ending(case))


def _ending(case: ResponseCase) -> Ended:
    if case.after == "rst":
        return Ended.RESET
    return Ended.OPEN if case.after in {"keep", "stall"} else Ended.FIN


def _pool(klass: str, strict: Answers, seen: Seen, *, may_reuse: bool) -> list[str]:
    """Tell whether the connection was kept although its bytes (or the label) forbid it."""
    first = strict.replies[0] if strict.replies else None
    clean = first is not None and first.complete and not strict.rest and not first.closes
    if may_reuse or (klass == "may-accept" and clean):
        return []
    if seen.reused:
        return [f"the connection to the application was used again ({sorted(seen.reused)})"]
    if klass != "may-accept" and any(held.open for held in seen.held):
        return ["the connection to the application stays open"]
    return []


def _must_error(status: int, seen: Seen) -> list[str]:
    got = [(reply.status, reply.complete) for reply in seen.answers.replies]
    return [] if got == [(status, True)] else [f"{_shown(seen)} instead of {status}"]


def _must_502(case: ResponseCase, strict: Answers, seen: Seen) -> list[str]:
    return _must_error(502, seen)


def _must_504(case: ResponseCase, strict: Answers, seen: Seen) -> list[str]:
    return _must_error(504, seen)


def _must_not_complete(case: ResponseCase, strict: Answers, seen: Seen) -> list[str]:
    return [] if _failed_openly(seen) else [f"{_shown(seen)}: can be taken as complete"]


def _must_normalise(case: ResponseCase, strict: Answers, seen: Seen) -> list[str]:
    if strict.fault in FAULTY_FRAMING and _failed_openly(seen):
        return []
    return _relayed(case, strict, seen)


def _must_502_or_normalise(case: ResponseCase, strict: Answers, seen: Seen) -> list[str]:
    return [] if _failed_openly(seen) else _relayed(case, strict, seen)


def _must_forward(case: ResponseCase, strict: Answers, seen: Seen) -> list[str]:
    problems = _relayed(case, strict, seen)
    given = strict.replies[0].interim if strict.replies else ()
    got = seen.answers.replies[0].interim if seen.answers.replies else ()
    if [s for s in given if s != 100] != [s for s in got if s != 100]:
        problems.append(f"interim replies {given} became {got} (RFC 9110 15.2)")
    return problems


def _may_pass(case: ResponseCase, strict: Answers, seen: Seen) -> list[str]:
    """RFC 9110 15.3.6 forbids 205 a body: the body may pass or be dropped, never linger."""
    if not _relayed(case, strict, seen):
        return []
    got = [(r.status, r.complete, r.body) for r in seen.answers.replies]
    wanted = [(r.status, True, b"") for r in strict.replies[:1]]
    return [] if got == wanted else [f"{_shown(seen)}: neither passed nor emptied"]


def _must_reject(case: ResponseCase, strict: Answers, seen: Seen) -> list[str]:
    if strict.replies and strict.replies[0].complete and strict.replies[0].closes:
        # A whole message that closes, then more bytes: the rest is discarded (RFC 9112 9.6).
        return _must_502_or_normalise(case, strict, seen)
    return [] if _failed_openly(seen) else [f"{_shown(seen)} for an invalid response"]


_RULES = {
    "must-502": _must_502,
    "must-504": _must_504,
    "must-not-complete": _must_not_complete,
    "must-normalise": _must_normalise,
    "must-502-or-normalise": _must_502_or_normalise,
    "may-accept": _must_502_or_normalise,
    "bounded": _must_502_or_normalise,
    "must-forward": _must_forward,
    "may-pass": _may_pass,
    "must-reject": _must_reject,
    "must-accept": _must_forward,
}


def _failed_openly(seen: Seen) -> bool:
    """An error of the gateway's own, a cut, or a close without a reply."""
    if not seen.answers.replies:
        return seen.ended is not Ended.OPEN
    reply = seen.answers.replies[0]
    if reply.complete:
        return reply.status in GATEWAY_ERRORS
    return seen.ended is not Ended.OPEN


def _relayed(case: ResponseCase, strict: Answers, seen: Seen) -> list[str]:
    """The client holds the message as one of the readers understands it."""
    if not seen.answers.replies or not seen.answers.replies[0].complete:
        return [f"{_shown(seen)}: no whole reply"]
    reply = seen.answers.replies[0]
    wanted = _wanted(case, strict)
    if not wanted:
        return _only_lines(case, reply)
    tries = [_differences(one, reply) for one in wanted]
    return min(tries, key=len)


def _wanted(case: ResponseCase, strict: Answers) -> list[Wanted]:
    found = []
    if strict.replies and strict.replies[0].complete:
        first = strict.replies[0]
        found.append(Wanted(first.status, first.fields, first.body))
    other = witness.read_response(case.sent, method=case.method, ended=_ending(case) is Ended.FIN)
    if other and other.whole:
        folded = strict.fault == "obs-fold"
        found.append(Wanted(other.status, other.fields, bytes(other.body), folded))
    return found


def _differences(wanted: Wanted, reply: Reply) -> list[str]:
    problems = []
    if reply.status != wanted.status:
        problems.append(f"status {wanted.status} became {reply.status}")
    if reply.body != wanted.body:
        problems.append(f"body {wanted.body[:40]!r} became {reply.body[:40]!r}")
    if reply.status in {101, 204} and reply.value(b"content-length"):
        problems.append(f"{reply.status} with Content-Length (RFC 9110 8.6)")
    nominated = set(grammar.members(wanted.fields, b"connection"))
    for name in {key.lower() for key, _ in wanted.fields}:
        came, gave = grammar.values(reply.fields, name), grammar.values(wanted.fields, name)
        if wanted.folded:
            came = [b" ".join(value.split()) for value in came]
        if name in nominated - HOP_BY_HOP:
            problems += [f"nominated field {name!r} was forwarded"] if came else []
        elif name not in HOP_BY_HOP and came != gave:
            problems.append(f"field {name!r} changed or missing")
    return problems


def _only_lines(case: ResponseCase, reply: Reply) -> list[str]:
    """No reader takes the bytes: at least no field may be born inside a line."""
    lines = case.sent.split(b"\n")
    names = {line.split(b":")[0].strip().lower() for line in lines}
    added = {b"date", b"server", b"via", b"connection", b"transfer-encoding", b"content-length"}
    odd = {key.lower() for key, _ in reply.fields} - names - added
    return [f"fields {sorted(odd)} come from nowhere"] if odd else []


def _shown(seen: Seen) -> str:
    listed = [f"{r.status}{'' if r.complete else ' (cut)'}" for r in seen.answers.replies]
    interim = [str(status) for status in seen.answers.interim]
    return ("+".join([*interim, *listed]) or "no reply") + f", connection {seen.ended.value}"
