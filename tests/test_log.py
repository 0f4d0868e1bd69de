"""Log lines: one line each whatever is in them, in bounded memory, and never at the cost of the loop."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy import log as log_module
from drainproxy.lifecycle.report import Place
from drainproxy.log import LINES_PER_CONDITION, MAX_QUEUED_LINES, Log, adopt_libraries

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pipe:
    """A pipe whose reader begins when the test says so."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe()

    def lines(self) -> list[str]:
        """Close the writing end and return what was written."""
        os.close(self.write)
        with os.fdopen(self._read, "rb") as stream:
            return stream.read().decode().splitlines()

    def read_on(self) -> None:
        """Read in the background from now on, so that the writer can go on."""
        self._read_to_end = threading.Thread(target=self._collect, daemon=True)
        self.collected = b""
        self._read_to_end.start()

    def _collect(self) -> None:
        while data := os.read(self._read, 65536):
            self.collected += data

    def collected_lines(self) -> list[str]:
        """Close the writing end and return what the background has read."""
        os.close(self.write)
        self._read_to_end.join(10)
        os.close(self._read)
        return self.collected.decode().splitlines()


def written(format_: str, **fields) -> list[str]:
    """The lines that one event with these fields makes."""
    pipe = Pipe()
    log = Log(format_, descriptor=pipe.write)
    log.event("thing", **fields)
    log.close(10)
    return pipe.lines()


# JSON.


def test_a_line_is_a_json_object_that_begins_with_when_how_bad_and_what():
    """Machines read it, and people find the same three fields in front."""
    (line,) = written("json", answer=42, words="two words", nothing=None, parts=[1, 2])
    fields = json.loads(line)
    assert list(fields)[:3] == ["time", "level", "event"]
    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "info",
        "event": "thing",
        "answer": 42,
        "words": "two words",
        "nothing": None,
        "parts": [1, 2],
    }


def test_the_time_is_utc_with_milliseconds():
    """Lines of many pods are sorted by it."""
    (line,) = written("json")
    stamp = json.loads(line)["time"]
    assert len(stamp) == len("2026-01-01T00:00:00.000Z")
    assert abs(time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) - time.mktime(time.gmtime())) < 60


any_text = st.text(st.characters(codec=None), max_size=40)


@given(st.dictionaries(st.sampled_from(["path", "agent", "why"]), any_text, min_size=1))
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("format_", ["json", "text"])
def test_nothing_a_client_sends_makes_a_second_line(format_, fields):
    """Control characters, line separators, lone surrogates: escaped, and ASCII throughout."""
    (line,) = written(format_, **fields)
    assert line.isascii()
    assert line.isprintable()
    if format_ == "json":
        read = json.loads(line)
        assert {name: read[name] for name in fields} == fields


def test_control_characters_are_escaped():
    """A terminal that shows the line must not obey it."""
    (line,) = written("json", path="/\x1b[2J\r\n\x00\x7f\u2028\u009b31m")
    assert "\\u001b" in line
    assert "\\r\\n\\u0000" in line
    assert "\\u2028" in line
    assert "\\u009b" in line


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), -float("inf"), [float("inf")]])
def test_numbers_that_json_does_not_know_do_not_spoil_the_line(odd):
    """`Infinity` is no JSON: strict readers would drop the whole line."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (line,) = written("json", deadline_s=odd, phase="ready")
    fields = json.loads(line, parse_constant=refuse)
    assert fields["phase"] == "ready"


@pytest.mark.parametrize("odd", [b"bytes", {1, 2}, ValueError("x"), object()])
def test_a_value_that_is_no_json_is_written_in_words(odd):
    """A log line is never the reason for a failure."""
    (line,) = written("json", odd=odd)
    assert isinstance(json.loads(line)["odd"], str)


@pytest.mark.parametrize("letter", ["x", "\x00", "\U0001f433"])
@pytest.mark.parametrize("fields", [1, 10])
def test_a_long_line_is_shortened_and_still_json(letter, fields):
    """A client chooses its path; it must not choose the memory of the log."""
    (line,) = written("json", **{f"field_{index}": letter * 100_000 for index in range(fields)}, last="here")
    read = json.loads(line)
    assert read["event"] == "thing"
    assert read["last"] == "here"
    assert read["field_0"].startswith(letter * 100)
    assert len(line) < 32_768


def test_a_shortened_line_has_the_types_of_any_other():
    """Whoever sums up `bytes` must not stumble over the line with the long path."""
    (line,) = written("json", path="x" * 100_000, status=200, duration_s=0.25, sent=False, detail=None)
    read = json.loads(line)
    assert (read["status"], read["duration_s"], read["sent"], read["detail"]) == (200, 0.25, False, None)


# Text.

TEXT = {
    "plain": ({"path": "/a", "status": 200}, "path=/a status=200"),
    "spaces": ({"why": "it is over"}, 'why="it is over"'),
    "control": ({"path": "/\x1b[2J\n"}, 'path="/\\u001b[2J\\n"'),
    "umlauts": ({"path": "/ü"}, 'path="/\\u00fc"'),
    "seconds": ({"after_s": 5.0, "left_s": 1.25, "age_s": 0.0}, "after_s=5 left_s=1.25 age_s=0"),
    "nothing": ({"detail": None, "status": 200}, "status=200"),
    "nested": ({"phases_s": {"draining": 0.2}}, 'phases_s={"draining": 0.2}'),
    "truth": ({"sparse": True}, "sparse=true"),
}


@pytest.mark.parametrize(("fields", "expected"), TEXT.values(), ids=TEXT.keys())
def test_text_is_for_people(fields, expected):
    """A clock, what happened, and `name=value`; quoted where it would not read as one word."""
    (line,) = written("text", **fields)
    clock, event, rest = line.split(" ", 2)
    assert len(clock) == len("12:34:56.789")
    assert event == "thing"
    assert rest == expected


def test_text_marks_what_is_not_mere_information():
    """A warning has to catch the eye without colours."""
    pipe = Pipe()
    log = Log("text", descriptor=pipe.write)
    log.event("thing", "warning")
    log.event("thing")
    log.close(10)
    assert [line.split(" ", 1)[1] for line in pipe.lines()] == ["WARNING thing", "thing"]


# A reader that does not read.


def test_a_blocked_stdout_never_blocks_and_what_is_lost_is_counted():
    """Every line is either written whole or counted as dropped, and the caller goes on at once."""
    pipe = Pipe()
    log = Log("json", descriptor=pipe.write)
    dropped = []
    log.on_dropped = dropped.append
    sent = MAX_QUEUED_LINES * 3
    # Nobody reads: a call that waited would never come back.
    for number in range(sent):
        log.event("thing", number=number, padding="x" * 200)
    assert set(dropped) == {"blocked"}
    pipe.read_on()
    log.close(30)
    numbers = [json.loads(line)["number"] for line in pipe.collected_lines()]
    assert len(numbers) + len(dropped) == sent
    assert numbers == sorted(numbers)
    assert len(numbers) >= MAX_QUEUED_LINES


def test_closing_is_bounded_when_nobody_reads():
    """The exit code matters more than the last line."""
    pipe = Pipe()
    log = Log("json", descriptor=pipe.write)
    for _ in range(2000):
        log.event("thing", padding="x" * 200)
    log.close(0.1)
    assert log._writer.is_alive()
    pipe.read_on()
    log._writer.join(30)
    assert not log._writer.is_alive()
    pipe.collected_lines()


def test_closing_waits_for_a_reader_that_is_only_slow(monkeypatch):
    """A collector that takes a page at a time loses nothing, the report least of all."""
    monkeypatch.setattr(log_module, "MAX_CLOSE_S", 60.0)
    pipe = Pipe()
    log = Log("json", descriptor=pipe.write)
    for number in range(2000):
        log.event("thing", number=number, padding="x" * 200)
    took = []

    def read_slowly() -> None:
        while data := os.read(pipe._read, 16384):
            took.append(data)
            # A line is some 300 bytes: all of them take longer than one look, and none stands still for it.
            time.sleep(0.03)

    reader = threading.Thread(target=read_slowly, daemon=True)
    reader.start()
    log.close(1.0)
    os.close(pipe.write)
    reader.join(30)
    numbers = [json.loads(line)["number"] for line in b"".join(took).splitlines()]
    assert numbers == list(range(2000))


def test_closing_writes_what_is_queued():
    """The drain report is the last line, and the one people look for."""
    pipe = Pipe()
    log = Log("json", descriptor=pipe.write)
    for number in range(100):
        log.event("thing", number=number)
    log.close(10)
    assert [json.loads(line)["number"] for line in pipe.lines()] == list(range(100))


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing():
    """The flag is shared with whoever else holds the pipe; a full one then says so instead of waiting."""
    pipe = Pipe()
    os.set_blocking(pipe.write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe.write, b"\n" * 4096)
    log = Log("json", descriptor=pipe.write)
    for number in range(2000):
        log.event("thing", number=number, padding="x" * 200)
    pipe.read_on()
    log.close(30)
    lines = [line for line in pipe.collected_lines() if line]
    assert [json.loads(line)["number"] for line in lines] == list(range(2000))


def test_a_reader_that_is_gone_costs_lines_and_nothing_else():
    """`kubectl logs` or a shell's pipe may end first; the lines are counted."""
    read, write = os.pipe()
    os.close(read)
    log = Log("json", descriptor=write)
    for _ in range(10):
        log.event("thing")
    log.close(10)
    assert log.unwritten == 10
    os.close(write)


# Conditions.


class Clock:
    """A time module that shows what the test sets."""

    now = 100.0

    def monotonic(self) -> float:
        """Return the test's second."""
        return self.now


def test_a_condition_writes_a_few_lines_a_second_for_each_name(monkeypatch):
    """A client that repeats itself fills neither the disk nor the queue, and hides nobody else's lines."""
    clock, pipe, dropped = Clock(), Pipe(), []
    monkeypatch.setattr(log_module, "time", clock)
    log = Log("json", descriptor=pipe.write)
    log.on_dropped = dropped.append
    for name in ["malformed-head"] * 25 + ["head-timeout"] * 2:
        log.condition("request", name, reason=name)
    clock.now += 1.0
    log.condition("request", "malformed-head", reason="malformed-head")
    log.close(10)
    reasons = [json.loads(line)["reason"] for line in pipe.lines()]
    assert reasons == ["malformed-head"] * LINES_PER_CONDITION + ["head-timeout"] * 2 + ["malformed-head"]
    assert dropped == ["rate"] * (25 - LINES_PER_CONDITION)


def test_a_condition_is_a_warning_unless_it_says_otherwise():
    """Its level is the caller's to lower or raise."""
    pipe = Pipe()
    log = Log("json", descriptor=pipe.write)
    log.condition("request", "a")
    log.condition("request", "b", "info")
    log.close(10)
    assert [json.loads(line)["level"] for line in pipe.lines()] == ["warning", "info"]


# Libraries.


@contextlib.contextmanager
def adopted(lines: list[dict[str, object]]) -> Iterator[None]:
    """Collect what libraries log in the block. pytest's own handlers stand aside meanwhile."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    pipe = Pipe()
    log = Log("json", descriptor=pipe.write)
    adopt_libraries(log)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        log.close(10)
        lines.extend(json.loads(line) for line in pipe.lines())


def test_warnings_of_libraries_come_as_lines_of_ours():
    """One stream, one format: with the failure's words, without its traceback's lines."""
    lines = []
    with adopted(lines):
        logging.getLogger("aiohttp.server").info("too chatty")
        logging.getLogger("aiohttp.server").warning("count %d", 3)
        try:
            raise ValueError("inside")
        except ValueError:
            logging.getLogger("asyncio").exception("it broke")
    assert [{key: line[key] for key in ("level", "event", "logger", "message")} for line in lines] == [
        {"level": "warning", "event": "library", "logger": "aiohttp.server", "message": "count 3"},
        {
            "level": "error",
            "event": "library",
            "logger": "asyncio",
            "message": "it broke: ValueError('inside')",
        },
    ]


def test_a_librarys_broken_message_does_not_break_the_library():
    """A handler that raises would raise into the code that only wanted to warn."""
    lines = []
    with adopted(lines):
        logging.getLogger("odd").warning("count %d", "three")
    assert "count" in lines[0]["message"]


# Which format.


def test_machines_get_json_and_a_terminal_gets_text(monkeypatch):
    """Nobody has to set it in a pod or in a shell."""
    said = []
    for read, write in (os.pipe(), os.openpty()):
        with os.fdopen(write, "w") as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            log = Log("auto", descriptor=write)
            log.event("hello")
            log.close(10.0)
            said.append(os.read(read, 4096))
        os.close(read)
    assert json.loads(said[0])["event"] == "hello"
    assert said[1].rstrip().endswith(b" hello")


# Formats for pipelines.

ACCESS = {
    "listener": "28080",
    "client": "192.0.2.7",
    "status": 502,
    "method": "GET",
    "path": "/a",
    "protocol": "HTTP/1.1",
    "host": "shop.example",
    "request_id": "r-1",
    "user_agent": "curl/8",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "bytes": 512,
    "bytes_received": 7,
    "duration_s": 0.25,
    "reason": "upstream-gone",
    "detail": "reset",
    "sent": False,
}


def line_of(format_: str, level: str = "info", project: str | None = None, **fields) -> dict:
    """Return the line that one access makes, parsed."""
    pipe = Pipe()
    log = Log(format_, descriptor=pipe.write, project=project)
    log.event("access", level, **fields)
    log.close(10)
    (line,) = pipe.lines()
    return json.loads(line)


def test_ecs_has_the_schemas_names_and_types():
    """What the schema knows has its place; nanoseconds, as it counts; the rest is under our name."""
    line = line_of("ecs", "warning", **ACCESS)
    assert list(line)[:4] == ["@timestamp", "log.level", "message", "ecs.version"]
    assert line["log.level"] == "warning"
    assert line["event"] == {"action": "access", "dataset": "drainproxy", "duration": 250_000_000}
    assert line["http"] == {
        "response": {"status_code": 502, "body": {"bytes": 512}},
        "request": {"method": "GET", "id": "r-1", "body": {"bytes": 7}},
        "version": "1.1",
    }
    assert line["url"] == {"path": "/a", "domain": "shop.example"}
    assert (line["trace"], line["span"]) == ({"id": ACCESS["trace_id"]}, {"id": ACCESS["span_id"]})
    assert line["error"] == {"code": "upstream-gone", "message": "reset"}
    assert (line["client"], line["user_agent"]) == ({"address": "192.0.2.7"}, {"original": "curl/8"})
    assert line["drainproxy"] == {"listener": "28080", "sent": False}


def test_ecs_takes_a_path_for_a_urls_only_in_the_line_of_a_request():
    """That of the control socket is a file's, and the status of a warm-up none of HTTP's."""
    line = line_of(
        "ecs", path="/run/control.sock", host="node-7", status="slow", protocol="grpc", reason="busy"
    )
    assert not {"url", "http"} & set(line)
    assert line["error"] == {"code": "busy"}
    assert line["drainproxy"] == {
        "path": "/run/control.sock",
        "host": "node-7",
        "status": "slow",
        "protocol": "grpc",
    }


@pytest.mark.parametrize(("format_", "where"), [("json", ()), ("ecs", ("drainproxy",)), ("gcp", ())])
def test_a_report_says_whose_it_is_in_every_format(format_, where):
    """Pod, namespace, node and workload, where a pipeline finds them."""
    whose = {"pod": "till-x2x4z", "namespace": "shop", "node": "node-7", "workload": "till"}
    pipe = Pipe()
    log = Log(format_, descriptor=pipe.write)
    log.event("drain_report", "warning", **Place(**whose).fields(), cause="deletion")
    log.close(10)
    line = json.loads(pipe.lines()[0])
    for name in where:
        line = line[name]
    assert {name: line[name] for name in whose} == whose


@pytest.mark.parametrize(
    ("level", "severity"), [("debug", "DEBUG"), ("info", "INFO"), ("warning", "WARNING"), ("error", "ERROR")]
)
def test_gcp_has_the_fields_that_its_agent_takes_out(level, severity):
    """Severity, time, the request, the span, and the trace by its project."""
    pipe = Pipe()
    log = Log("gcp", descriptor=pipe.write, level="debug", project="shop-prod")
    log.event("access", level, **ACCESS)
    log.close(10)
    (text,) = pipe.lines()
    line = json.loads(text)
    assert (line["severity"], line["event"]) == (severity, "access")
    assert line["message"].startswith("access ")
    assert line["httpRequest"] == {
        "requestMethod": "GET",
        "requestUrl": "/a",
        "status": 502,
        "remoteIp": "192.0.2.7",
        "userAgent": "curl/8",
        "protocol": "HTTP/1.1",
        "latency": "0.250000s",
        "requestSize": "7",
        "responseSize": "512",
    }
    assert line["logging.googleapis.com/trace"] == f"projects/shop-prod/traces/{ACCESS['trace_id']}"
    assert line["logging.googleapis.com/spanId"] == ACCESS["span_id"]
    assert line["reason"] == "upstream-gone"


def test_gcp_without_a_project_names_no_trace_that_nobody_could_find():
    """A trace id alone is no name of a trace there; it stays a field of ours. No request, no httpRequest."""
    line = line_of("gcp", **ACCESS)
    assert "logging.googleapis.com/trace" not in line
    assert line["trace_id"] == ACCESS["trace_id"]
    assert "httpRequest" not in line_of("gcp", phase="ready", status="x")


@pytest.mark.parametrize("format_", ["ecs", "gcp"])
def test_a_line_of_a_pipeline_is_one_line_whatever_is_in_it(format_):
    """Breaks, control characters, what is no JSON."""
    line = line_of(format_, path="/\n\u2028", method="GET", odd=float("nan"), thing=object())
    assert line


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        ("debug", ["debug", "info", "warning", "error", "drain_report"]),
        ("info", ["info", "warning", "error", "drain_report"]),
        ("warning", ["warning", "error", "drain_report"]),
        ("error", ["error", "drain_report"]),
    ],
)
def test_a_level_leaves_out_what_is_below_it_and_never_a_report(level, kept):
    """What a drain leaves behind is no chatter."""
    pipe = Pipe()
    log = Log("json", descriptor=pipe.write, level=level)
    for each in ("debug", "info", "warning", "error"):
        log.event(each, each)
    log.event("drain_report", cause="deletion")
    log.close(10)
    assert [json.loads(line)["event"] for line in pipe.lines()] == kept
