"""A report is found in whatever format a log was written, and nothing else is taken for one."""

from __future__ import annotations

import os

import pytest

from drainproxy.fleet import reports
from drainproxy.log import Log
from tests.fleet.records import report


def written(format_: str, said: dict[str, object]) -> str:
    """Return the line that the log writes."""
    reads, writes = os.pipe()
    log = Log(format_, descriptor=writes)  # type: ignore[arg-type]
    log.event("drain_report", **said)
    log.close()
    os.close(writes)
    with os.fdopen(reads) as lines:
        return lines.read().rstrip("\n")


@pytest.mark.parametrize("format_", ["json", "text", "ecs", "gcp"])
def test_a_line_of_any_format_holds_the_report(format_):
    """As it was written, word for word."""
    said = report(lost=2, told=1)
    found = reports.of_line(written(format_, said))
    assert found == said


def test_numbers_are_those_of_requests_and_tunnels_together():
    """Whoever lost a stream has lost something."""
    said = report(lost=2, told=1)
    said["tunnels"]["stream"]["cut"] = 3
    assert reports.lost(said) == 5
    assert reports.counts(said)["told_to_leave"] == 1
    assert reports.seconds(said) == 5.5


@pytest.mark.parametrize(
    "line",
    [
        "",
        "drain_report",
        "12:00:00.000 drain_report ",
        "12:00:00.000 drain_report cause=deletion",
        '{"event": "drain_report"}',
        '{"event": "drain_report", "cause": "x", "ended_by": "", "requests": 3}',
        '{"event": "phase", "why": "drain_report"}',
        '{"event": {"action": "drain_report"}}',
        "drain_report " + "[" * 70_000,
        "drain_report requests=" + "[" * 10_000,
    ],
)
def test_what_is_no_report_is_none(line):
    """And harms nobody."""
    assert reports.of_line(line) is None
