"""The runner itself: it passes what is right and fails a proxy that forwards anything."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.conformance import cases, exceptions, lane, resources, run, score
from tests.conformance.cases import RequestCase, ResponseCase
from tests.conformance.exceptions import Override
from tests.conformance.group import Group
from tests.conformance.outcome import Mark, Outcome, Tally
from tests.conformance.proxies import KINDS
from tests.conformance.relay import Relay

if TYPE_CHECKING:
    from pathlib import Path

GOOD = b"GET /good?a=%2e HTTP/1.1\r\nHost: shop\r\nX-Kept: one\r\n\r\n"
FOLDED = b"GET / HTTP/1.1\r\nHost: shop\r\nX-A: one\r\n two\r\n\r\n"
BAD_CHUNK = b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"
SHORT_BODY = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 400\r\n\r\nonly this"
BOTH = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
CLOSING = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that never answers makes the lane wait for its limits: keep them short here."""
    monkeypatch.setattr(lane, "ANSWER_S", 1.0)
    monkeypatch.setattr(lane, "CLOSE_S", 0.5)


def request(data: bytes, klass: str, name: str = "case") -> RequestCase:
    return RequestCase(name, klass, (data,))


async def outcome_of(
    case: cases.Case, *, overrides: dict[str, Override] | None = None, relay: Relay | None = None
) -> Outcome:
    group = Group(lambda: relay or Relay(), overrides or {}, splits=False)
    return (await group.run([case]))[0]


def problems(outcome: Outcome) -> str:
    return "; ".join(problem for found in outcome.problems.values() for problem in found)


async def test_passes_a_good_request():
    """A relay forwards a good request as it is, and that is a pass."""
    outcome = await outcome_of(request(GOOD, "must-accept"))
    assert outcome.mark is Mark.PASS, problems(outcome)


async def test_fails_when_a_faulty_head_is_forwarded():
    """Bytes of a must-reject case at the application fail it, whatever the client saw."""
    outcome = await outcome_of(request(FOLDED, "must-reject"))
    assert outcome.mark is Mark.FAIL
    assert "bytes reached the application" in problems(outcome)


async def test_fails_when_ambiguous_framing_is_forwarded():
    """Content-Length with Transfer-Encoding at the application is two framing fields."""
    outcome = await outcome_of(request(BOTH, "must-normalise"))
    assert outcome.mark is Mark.FAIL
    assert "more than one framing field" in problems(outcome)


async def test_fails_when_a_cut_request_keeps_its_connection():
    """A connection with half a request on it eats the sentinel that comes next."""
    outcome = await outcome_of(request(SHORT_BODY, "may-accept"))
    assert outcome.mark is Mark.FAIL
    assert "keeps it open" in problems(outcome)
    assert "sentinel" in problems(outcome)


async def test_a_fault_in_a_body_may_have_been_begun():
    """What was forwarded before a bad chunk is no fault if it is never completed."""
    outcome = await outcome_of(request(BAD_CHUNK, "must-reject"), relay=Relay(pooled=False))
    assert "bytes reached the application" not in problems(outcome)


async def test_fails_when_a_closing_request_leaves_the_connection_open():
    """A request with `close` must end its connection, answer or not."""
    outcome = await outcome_of(request(CLOSING, "must-accept"))
    assert outcome.mark is Mark.FAIL
    assert "stays open after a request that closes" in problems(outcome)


async def test_fails_when_an_invalid_response_reaches_the_client():
    """What an application must not send must not come through."""
    case = ResponseCase("case", "must-502", (b"HTTP/1.1 banana\r\n\r\n",), "close")
    outcome = await outcome_of(case)
    assert outcome.mark is Mark.FAIL
    assert "instead of 502" in problems(outcome)


async def test_fails_when_a_second_response_stays_in_the_pool():
    """Bytes after the response must not be the next client's answer."""
    twice = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * 2
    case = ResponseCase("case", "must-normalise", (twice,), "keep")
    outcome = await outcome_of(case)
    assert outcome.mark is Mark.FAIL


async def test_passes_a_good_response():
    """A whole response comes through with its fields and may leave its connection pooled."""
    good = b"HTTP/1.1 201 Created\r\nX-Kept: one\r\nContent-Length: 2\r\n\r\nok"
    case = ResponseCase("case", "must-forward", (good,), "keep", may_reuse=True)
    outcome = await outcome_of(case)
    assert outcome.mark is Mark.PASS, problems(outcome)


async def test_an_exception_lifts_the_label_only():
    """With another class the same forwarded request is an exception, and counted as one."""
    lifted = {"case": Override(rfc="RFC 0 0", why="a reason", klass="may-accept")}
    outcome = await outcome_of(request(GOOD, "must-reject"), overrides=lifted)
    assert outcome.mark is Mark.EXCEPTION
    outcome = await outcome_of(request(SHORT_BODY, "must-reject"), overrides=lifted)
    assert outcome.mark is Mark.FAIL


async def test_byte_by_byte_arrives_in_many_reads():
    """Splitting is real: the relay sees many more reads than whole messages."""
    relay = Relay()
    group = Group(lambda: relay, {}, splits=True)
    outcomes = await group.run([request(GOOD, "must-accept")])
    assert outcomes[0].mark is Mark.PASS, problems(outcomes[0])
    assert relay.reads > len(GOOD) // 2


class Dying(Relay):
    """Counts as dead after the first request that asks for it."""

    dead = False

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            self.dead |= b"GET /die" in data
            sink.write(data)

    def died(self) -> str:
        return "exit code 1" if self.dead else ""


async def test_a_dead_proxy_fails_its_case_and_is_restarted():
    """The case that kills the proxy fails, the next one finds a new proxy."""
    deadly = request(b"GET /die HTTP/1.1\r\nHost: shop\r\n\r\n", "must-accept", "deadly")
    group = Group(Dying, {}, splits=False)
    outcomes = await group.run([deadly, request(GOOD, "must-accept")])
    assert [one.mark for one in outcomes] == [Mark.FAIL, Mark.PASS]
    assert "died" in problems(outcomes[0])
    assert not group.problems  # counted once, at the case that did it


async def test_a_descriptor_that_stays_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The process must be back where it was, or the file fails."""
    monkeypatch.setattr(resources, "BACK_S", 0.2)
    relay = Relay()
    relay.pid = os.getpid()
    baseline = await resources.measure(relay)
    if baseline is None:
        pytest.skip("no /proc here")
    assert not await resources.back_to(baseline, relay)
    with (tmp_path / "held").open("w"):
        found = await resources.back_to(baseline, relay)
    assert "descriptors" in found[0]


def write(path: Path, **row: object) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_the_command_says_what_it_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Exit code 1 and the counts in the last line, which is what `make` and people read."""
    monkeypatch.setitem(KINDS, "relay", Relay)
    file = tmp_path / "own.jsonl"
    write(file, name="good", steps_b64=[b64(GOOD)], **{"class": "must-accept"})
    write(file, name="bad", steps_b64=[b64(FOLDED)], **{"class": "must-reject"})
    # In a thread: `main` makes a loop of its own, and the test has one already.
    assert await asyncio.to_thread(run.main, [str(tmp_path), "--proxy", "relay"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"
    only_good = [str(tmp_path), "--proxy", "relay", "--only", "good"]
    assert await asyncio.to_thread(run.main, only_good) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed, 0 skipped"


class Absent(Relay):
    """A proxy that does not start."""

    async def start(self, upstreams: list[int]) -> None:
        raise RuntimeError("no such proxy")


async def test_a_proxy_that_does_not_start_fails_its_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The counts come even so: cases that were not run are failures."""
    monkeypatch.setitem(KINDS, "absent", Absent)
    write(tmp_path / "own.jsonl", name="a", steps_b64=[b64(GOOD)], **{"class": "must-accept"})
    write(tmp_path / "own.jsonl", name="b", steps_b64=[b64(GOOD)], **{"class": "must-accept"})
    assert await asyncio.to_thread(run.main, [str(tmp_path), "--proxy", "absent"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 2 failed, 0 skipped"


def test_nothing_to_run_is_no_success(tmp_path: Path):
    """An empty directory, or a row with an unknown class, is exit code 2."""
    assert run.main([str(tmp_path)]) == 2
    write(tmp_path / "own.jsonl", name="odd", steps_b64=[b64(GOOD)], **{"class": "must-sing"})
    assert run.main([str(tmp_path)]) == 2


def test_the_loader_takes_the_variant_with_a_host(tmp_path: Path):
    """`with_host_b64` replaces the steps where the original has no Host."""
    write(
        tmp_path / "own.jsonl",
        name="hostless",
        steps_b64=[b64(b"GET / HTTP/1.1\r\n\r\n")],
        host_missing=True,
        with_host_b64=b64(GOOD),
        **{"class": "may-accept"},
    )
    (case,) = cases.load(tmp_path)["own.jsonl"].cases
    assert case.sent == GOOD


def test_every_exception_gives_its_reason():
    """The table loads, and each row changes something."""
    for name, override in exceptions.load().items():
        assert override.rfc.startswith("RFC "), name
        assert override.klass or override.may_reuse, name


def test_a_score_compares_what_all_were_asked():
    """A row a file, the own chapters in one; leaks are counted apart."""
    good = Outcome(request(GOOD, "must-accept"), Mark.PASS)
    leak = Outcome(
        request(FOLDED, "must-reject"), Mark.FAIL, {"whole": ["9 bytes reached the application: b''"]}
    )
    one = Tally({"a.toml": [good], "b.toml": [good], "recorded.jsonl": [good]})
    two = Tally({"a.toml": [good], "b.toml": [leak], "recorded.jsonl": [good]})
    assert score.table({"one": one, "two": two}, {"a.toml", "b.toml"}).splitlines()[2:] == [
        "| the project's own cases | 2 of 2 | 1 of 2 |",
        "| `recorded.jsonl` | 1 of 1 | 1 of 1 |",
        "| of these, what must be accepted | 3 of 3 | 2 of 2 |",
        "| faulty heads of which bytes reached the application | 0 of 0 | 1 of 1 |",
    ]
