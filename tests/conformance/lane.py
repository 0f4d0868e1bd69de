"""A lane: one listener of the proxy, one recording application behind it, one case at a time.

A case runs like this: a priming request leaves one connection in the proxy's pool, the case
follows, then sentinels on fresh client connections take every pooled connection in turn and
end it.  So nothing of one case reaches the next, and what a case left behind meets a sentinel.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conformance import requests, witness
from tests.conformance.bell import Bell
from tests.conformance.client import Client
from tests.conformance.recorder import PRIME, SENTINEL, Held, Recorder, Script
from tests.conformance.requests import End

if TYPE_CHECKING:
    from tests.conformance.answers import Answers, Ended
    from tests.conformance.cases import RequestCase, ResponseCase

ANSWER_S = 5.0  # an answer that is due comes within this, however loaded the machine
PART_QUIET_S = 0.3  # a part of a message gets no answer: quiet this long is the sign to go on
SETTLE_S = 0.05  # after the last answer: bytes too many would follow at once
CLOSE_S = 3.0  # after the client's FIN: the proxy lets go within a second, by design
LET_GO_S = 1.0  # a connection to the application that must not be pooled
MAX_SENTINELS = 6
EARLY_BODY_BYTES = 100_000_000
EARLY_PIECE = b"x" * 65_536

_tokens = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a case showed: to the client, to the application, to the sentinels."""

    answers: Answers
    ended: Ended  # how the proxy ended the client's connection
    by_itself: bool  # it ended before the client's FIN
    received: bytes  # all that the client was sent
    held: list[Held]
    sentinels: list[str]  # what was wrong with them
    reused: frozenset[int] = frozenset()  # connections that carried a sentinel


class Lane:
    """One pair of listener and application; runs its cases one after another."""

    def __init__(self) -> None:
        self.bell = Bell()
        self.recorder = Recorder(self.bell)
        self.front = 0  # the proxy's port, set once it runs

    async def request_case(self, case: RequestCase, *, bytewise: bool) -> Seen:
        """Send the steps, each after the answer to the one before."""
        await self._prime()
        self.recorder.begin()
        sent, methods = b"", _methods(case.sent)
        client = await Client.connect(self.front, self.bell, methods)
        for step in case.steps:
            sent += step
            await client.send(step, bytewise=bytewise)
            await self._answered(client, sent)
        await self.bell.quiet(SETTLE_S, limit_s=1.0)
        if case.expects.closes:
            await self.bell.until(lambda: client.closed, limit_s=CLOSE_S)
        by_itself = await self._end(client, requests.read(case.sent))
        return await self._seen(client, by_itself=by_itself)

    async def response_case(self, case: ResponseCase, *, bytewise: bool) -> Seen:
        """Ask for the scripted response."""
        await self._prime()
        self.recorder.begin(Script(case.parts, case.after, bytewise=bytewise))
        client = await Client.connect(self.front, self.bell, [case.method.encode()])
        if case.after == "close-before-reading-body":
            await self._upload(client, case)
        else:
            await client.send(case.request or _head(case) + b"\r\n")
        await self.bell.until(
            lambda: bool(client.answers.whole) or client.closed or bool(client.answers.fault),
            limit_s=2 * ANSWER_S,
        )
        await self.bell.quiet(SETTLE_S, limit_s=1.0)
        by_itself = client.closed
        if any(reply.status == 101 for reply in client.answers.replies):
            client.finish()  # a tunnel ends with both sides
        self.recorder.script = None
        if case.after != "settle" and not case.may_reuse:
            await self.bell.until(
                lambda: not any(held.open for held in self.recorder.held()), limit_s=LET_GO_S
            )
        return await self._seen(client, by_itself=by_itself)

    async def prime_once(self) -> bool:
        """Send one ordinary request; give whether this lane's application answered it."""
        before = sum(len(c.raw) for c in self.recorder.connections)
        answered = not await self._ask(PRIME, f"p{next(_tokens)}")
        return answered and sum(len(c.raw) for c in self.recorder.connections) > before

    async def _prime(self) -> None:
        """Leave one pooled connection; the pool may still hold one that was just closed."""
        for _ in range(3):
            if await self.prime_once():
                return
        raise ConnectionError("the proxy does not answer an ordinary request")

    async def _answered(self, client: Client, sent: bytes) -> None:
        """Wait for the replies that these bytes are due, or for quiet where none is."""
        reading = requests.read(sent)
        due = max(reading.count + reading.faulty, witness.count_requests(sent).whole)
        waiting = reading.end in {End.IN_HEAD, End.IN_BODY} or reading.faulty
        quiet_s = PART_QUIET_S if waiting else None
        await self.bell.until(
            lambda: client.closed or client.answers.whole >= due, limit_s=ANSWER_S, quiet_s=quiet_s
        )
        if waiting and not reading.faulty:
            await self.bell.quiet(PART_QUIET_S, limit_s=ANSWER_S)

    async def _end(self, client: Client, reading: requests.Reading) -> bool:
        """End the client's side; give whether the proxy had ended by itself."""
        last = reading.requests[-1:]
        if reading.end is End.CLEAN and last and not last[0].closes:
            return client.closed
        if last and last[0].closes:
            await self.bell.until(lambda: client.closed, limit_s=CLOSE_S)
        by_itself = client.closed
        client.finish()
        await self.bell.until(lambda: client.closed, limit_s=CLOSE_S)
        return by_itself

    async def _seen(self, client: Client, *, by_itself: bool) -> Seen:
        """Leave, let the proxy drop what it will not finish, then send the sentinels."""
        answers, ended, received = client.answers, client.ended, bytes(client.received)
        await client.close()
        await self.bell.until(
            lambda: not any(held.partial and held.open for held in self.recorder.held()), limit_s=CLOSE_S
        )
        held = self.recorder.held()
        used = {one.number for one in held}
        problems, reused = await self._sentinels()
        return Seen(answers, ended, by_itself, received, held, problems, frozenset(reused & used))

    async def _sentinels(self) -> tuple[list[str], set[int]]:
        """Send sentinels until the pool is empty; each ends the connection it came on."""
        problems: list[str] = []
        carried: set[int] = set()
        for _ in range(MAX_SENTINELS):
            before = {c.number: len(c.raw) for c in self.recorder.connections}
            problem = await self._ask(SENTINEL, f"s{next(_tokens)}")
            problems += [problem] if problem else []
            grown = {
                c.number
                for c in self.recorder.connections
                if c.number in before and len(c.raw) > before[c.number]
            }
            carried |= grown
            if not grown or not self.recorder.open_count():
                break
        self.recorder.close_all()
        return problems, carried

    async def _ask(self, kind: bytes, token: str) -> str:
        """Ask for `token` on a fresh connection; give what was wrong, or nothing."""
        client = await Client.connect(self.front, self.bell, [b"GET"])
        line = b"GET " + kind + token.encode() + b" HTTP/1.1\r\n"
        await client.send(line + b"Host: localhost\r\nConnection: close\r\n\r\n")
        await self.bell.until(lambda: client.closed or bool(client.answers.whole), limit_s=ANSWER_S)
        got = client.answers
        await client.close()
        if len(got.replies) != 1 or not got.replies[0].complete:
            return f"{token} got no answer ({bytes(client.received[:80])!r})"
        reply = got.replies[0]
        if reply.status != 200 or reply.value(b"x-answer") != token.encode():
            return f"{token} got {reply.status} {reply.value(b'x-answer')!r}"
        return ""

    async def _upload(self, client: Client, case: ResponseCase) -> None:
        """Send a body that would take long, stop when the answer is there."""
        length = f"Content-Length: {EARLY_BODY_BYTES}\r\n\r\n".encode()
        await client.send(_head(case) + length)
        for _ in range(EARLY_BODY_BYTES // len(EARLY_PIECE)):
            if client.closed or client.answers.whole:
                return
            await client.send(EARLY_PIECE)


def _head(case: ResponseCase) -> bytes:
    lines = [f"{case.method} /scripted HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in case.headers.items()]
    return "\r\n".join([*lines, ""]).encode()


def _methods(sent: bytes) -> list[bytes]:
    """Give the methods of all requests in the bytes, as the more generous reader sees them."""
    strict = [request.method for request in requests.read(sent).requests]
    seen = witness.count_requests(sent).methods
    return seen if len(seen) > len(strict) else strict
