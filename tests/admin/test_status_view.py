"""One frame of `drainproxy status`, in 80 columns."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import pytest
from rich.console import Console

from drainproxy.admin.status_view import render, sparkline
from drainproxy.lifecycle.report import Report, Tally, TunnelTally

READY = {
    "version": "1.2.3",
    "listeners": ["127.0.0.1:8080"],
    "hooks_waiting": 0,
    "uptime_s": 12.5,
    "phase": "ready",
    "phases_s": {"starting": 2.5, "ready": 10.0},
    "waiting_for": "nothing",
    "ready": True,
    "upstream_up": True,
    "deadline_in_s": None,
    "drain": None,
    "in_flight": {"count": 0, "kinds": {}, "oldest": []},
    "config_problems": [],
    "report": None,
    "waits": [],
    "recent": {
        name: {"per_s": per_s, "series": series}
        for name, per_s, series in (
            ("requests", 12.25, [10.0, 12.5]),
            ("arrivals", 0.0, []),
            ("errors", 0.0, [0.0]),
        )
    },
    "verdict": None,
}
DRAIN = {
    "cause": "deletion",
    "for_s": 5.0,
    "length_s": 22.0,
    "in_flight_at_start": 4,
    "late_requests": 2,
    "last_late_ago_s": 0.5,
    "outcomes": {"finished": 3, "timed_out": 1, "lost": 0},
    "tunnels": {"websocket": {"finished": 0, "cut": 0}, "stream": {"finished": 0, "told_to_leave": 0}},
}


def flight(*works: dict[str, Any]) -> dict[str, Any]:
    """Return what /status says of works in flight."""
    kinds = Counter(work["kind"] for work in works)
    return {"in_flight": {"count": len(works), "kinds": dict(kinds), "oldest": list(works)}}


def request(**what: str) -> dict[str, Any]:
    """Return one of them."""
    return {"kind": "http", "age_s": 6.0, "deadline_in_s": 12.0, **what}


PROPAGATING = {
    **READY,
    "phase": "propagating",
    "phases_s": {"starting": 2.5, "ready": 4000.0, "propagating": 5.0},
    "waiting_for": "quiet after the last late arrival",
    "waits": [
        {"rule": "quiet", "words": "quiet after the last late arrival", "passed_s": 0.8, "of_s": 2.0},
        {"rule": "max", "words": "max, whoever still comes", "passed_s": 5.0, "of_s": 15.0},
        {"rule": "margin", "words": "margin after the slices flipped", "passed_s": 2.0, "of_s": 2.0},
    ],
    "ready": False,
    "deadline_in_s": 17.0,
    "drain": DRAIN,
    **flight(
        request(method="GET", path="/slow"),
        {"kind": "tunnel", "age_s": 90.0, "deadline_in_s": 17.0, "path": "/ws"},
    ),
}
REPORT = Report(
    cause="deletion",
    phases_s={"propagating": 5.0, "draining": 1.25},
    propagation_ended="quiet",
    last_late_after_flip_s=None,
    in_flight_at_start=4,
    requests=Tally(finished=7, late=2),
    tunnels={"websocket": TunnelTally(), "stream": TunnelTally(), "other": TunnelTally()},
    unused_s=15.0,
    ended_by="nothing is in flight",
)


def ended(report: Report, document: dict[str, Any] = READY) -> dict[str, Any]:
    """Return what /status says once a drain has been reported."""
    verdict = {"served": not report.incomplete, "words": report.verdict()}
    return {**document, "report": report.fields(), "verdict": verdict}


def seen(document: dict[str, Any], *, width: int = 80, **how: object) -> list[str]:
    """Return the frame's lines as a terminal without colours shows them."""
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(render(document, **how))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def row(lines: list[str], label: str) -> str:
    """Return what a labelled row says."""
    (found,) = [line for line in lines if line.startswith(f"{label} ")]
    return re.sub(r"[━╸╺]+", "", found.removeprefix(label)).strip()


def test_a_ready_proxy_takes_a_glance():
    """Phase, nothing to wait for, nothing in flight, and no empty rows about a drain."""
    lines = seen(READY)
    assert lines[0].split() == ["drainproxy", "1.2.3", "127.0.0.1:8080", "up", "12.5", "s"]
    assert lines[3].split() == ["starting", "▶", "ready", "propagating", "draining", "drained"]
    assert lines[4].split() == ["2.5", "s", "10.0", "s"]
    assert row(lines, "waits for") == "nothing: it serves"
    assert row(lines, "in flight") == "0"
    assert row(lines, "application") == "accepts connections"
    assert len(lines) == 12


def test_a_drain_says_what_it_waits_for_and_how_long_it_may():
    """In the words of the manual."""
    lines = seen(PROPAGATING)
    assert row(lines, "waits for") == "quiet after the last late arrival"
    assert row(lines, "quiet") == "0.8 s of 2.0 s, decides now"
    assert row(lines, "max") == "5.0 s of 15.0 s"
    assert not any(line.startswith("margin") for line in lines), "what is over decides nothing any more"
    assert row(lines, "time left") == "17.0 s of 22.0 s"
    assert row(lines, "in flight") == "2: 1 http, 1 tunnel"
    assert row(lines, "drain") == "began 5.0 s ago, cause deletion; 2 came late, the last 0.5 s ago"
    assert row(lines, "since then") == "3 finished, 1 timed out"
    assert row(lines, "application") == "accepts connections; the pod is not ready"


def test_who_was_told_to_leave_is_shown_apart_while_a_drain_runs_and_after_it():
    """It has not finished: it goes on elsewhere."""
    tallies = {"websocket": TunnelTally(told_to_leave=500, cut=1), "stream": TunnelTally(told_to_leave=6)}
    said = "websocket 1 cut, 500 told to leave; stream 6 told to leave"
    now = {**DRAIN, "tunnels": {kind: asdict(tally) for kind, tally in tallies.items()}}
    assert row(seen({**PROPAGATING, "drain": now}), "tunnels") == said
    report = replace(REPORT, tunnels=tallies)
    assert row(seen(ended(report)), "tunnels") == said
    assert "6 stream tunnels told to leave" in report.sentence()


def test_work_is_listed_with_age_and_deadline():
    """Oldest first, as the document has it."""
    lines = seen(PROPAGATING)
    assert row(lines, "http").split() == ["GET", "/slow", "6.0", "s", "in", "12.0", "s"]
    assert row(lines, "tunnel").split() == ["/ws", "1", "min", "30", "s", "in", "17.0", "s"]


def test_more_work_than_fits_is_counted():
    """The list says that it is not all."""
    lines = seen({**PROPAGATING, **flight(*40 * [request()])}, max_works=5)
    assert sum(line.startswith("http") for line in lines) == 5
    assert "and 35 younger" in lines[-1]


@pytest.mark.parametrize(
    ("count", "words"), [(0, ""), (1, "1 preStop hook waiting"), (3, "3 preStop hooks waiting")]
)
def test_waiting_hooks_are_named(count, words):
    """They are why an application's container still stands."""
    assert words in row(seen({**PROPAGATING, "hooks_waiting": count}), "waits for")


def test_a_dead_application_is_said_aloud():
    """In ready it is what the pod waits for."""
    waits = {"upstream_up": False, "ready": False, "waiting_for": "the application to answer again"}
    lines = seen({**READY, **waits})
    assert row(lines, "waits for") == "the application to answer again"
    assert row(lines, "application") == "does not accept connections"


def test_the_report_of_a_clean_drain():
    """Its last frame, before the process is gone."""
    over = {"phase": "drained", "waiting_for": "exit", "waits": []}
    lines = seen({**ended(REPORT, PROPAGATING), **over, **flight()})
    assert row(lines, "last drain") == "everybody was served"
    assert row(lines, "its requests") == "7 finished, 2 late"
    assert row(lines, "took") == "propagating 5.0 s, draining 1.2 s; 15.0 s unused"
    assert row(lines, "ended by") == "nothing is in flight"
    assert not any(line.startswith(("time left", "tunnels")) for line in lines)


@pytest.mark.parametrize(
    ("tally", "verdict"),
    [
        (Tally(finished=7, late=2), "everybody was served"),
        (Tally(finished=7, refused=2), "not everybody was served: 2 refused"),
        (Tally(lost=1, cut=1, timed_out=1), "not everybody was served: 1 timed out, 1 cut, 1 lost"),
    ],
)
def test_what_was_cut_is_not_called_clean(tally, verdict):
    """In the words that the page and the report's Event have."""
    lines = seen(ended(replace(REPORT, requests=tally)))
    assert row(lines, "last drain") == verdict


def test_a_proxy_that_is_gone_leaves_its_last_word():
    """No clock that stands still, no work that may have ended since."""
    lines = seen(PROPAGATING, gone=True)
    assert lines[0].endswith("gone")
    assert row(lines, "its end") == "gone while propagating: its log has how it ended"
    still = ("time left", "waits for", "in flight", "http", "quiet", "requests /s")
    assert not any(line.startswith(still) for line in lines)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (READY, "gone, and nobody saw it drain: its log has why"),
        (ended(REPORT, {**PROPAGATING, "phase": "drained"}), "drained, everybody was served"),
        (
            ended(replace(REPORT, requests=Tally(cut=1)), {**PROPAGATING, "phase": "drained"}),
            "drained, but not everybody was served",
        ),
    ],
)
def test_how_it_ended_is_said_as_far_as_it_was_seen(document, words):
    """A good end is no failure; the page has the same words."""
    assert row(seen(document, gone=True), "its end") == words


def test_whose_it_is_and_what_the_cluster_says():
    """Ten terminals look alike; whether the rows have flipped is what a slow drain turns on."""
    where = {"pod": "till-x2x4z", "namespace": "shop", "node": "node-7", "workload": "till"}
    facts = {"rows": 2, "rows_flipped": 1, "other_ready": 3, "other_ready_on_node": 1, "api_up": True}
    lines = seen({**PROPAGATING, "place": where, "cluster": facts})
    assert lines[1] == "shop/till-x2x4z of till on node-7"
    assert row(lines, "cluster") == "1 of 2 rows flipped; 3 others ready, 1 of them on this node"
    silent = {**facts, "rows": 0, "rows_flipped": 0, "other_ready": 0, "api_up": False}
    assert row(seen({**PROPAGATING, "cluster": silent}), "cluster") == "its API has not answered"


def test_rates_have_a_line_of_two_minutes():
    """The newest on the right; a young process has none on the left; what came at all is seen."""
    assert row(seen(READY), "requests /s").split()[0] == "12.2"
    full = [0.0] * 50 + [100.0] * 49 + [1.0]
    assert sparkline(full, 4) == "\u2581\u2581\u2588\u2588"
    assert sparkline([*full[:-25], *[1.0] * 25], 4) == "\u2581\u2581\u2588\u2582"
    assert sparkline([5.0] * 25, 4) == "   \u2588"
    assert sparkline([], 4) == "    "


def test_one_deadline_for_all_stands_once():
    """A column of one and the same number hides the ages."""
    lines = seen({**PROPAGATING, **flight(request(path="/a"), request(path="/b"))})
    assert row(lines, "in flight") == "2, to be done in 12.0 s"
    assert not any("ends by" in line for line in lines)
    assert any("ends by" in line for line in seen(PROPAGATING))
    forever = {**request(path="/a"), "deadline_in_s": None}
    assert row(seen({**READY, **flight(forever)}), "in flight") == "1"


def test_settings_that_do_not_fit_are_shown_in_full_until_a_drain_needs_the_room():
    """The sentence says which number to change."""
    problem = "grace period 14 s is too short: " + "and so on, " * 12 + "set it to 30 s"
    before = seen({**READY, "config_problems": [problem]})
    assert "set it to 30 s" in " ".join(before)
    during = seen({**PROPAGATING, "config_problems": [problem]})
    assert row(during, "settings").startswith("grace period 14 s is too short")
    assert "set it to 30 s" not in " ".join(during)


def test_a_callers_path_cannot_give_orders_to_the_terminal():
    """Escape sequences become question marks, and markup stays text."""
    path = "/\x1b[2J\x9b31m\u202e[bold red]x[/]\r\n"
    text = "\n".join(seen({**PROPAGATING, **flight(request(path=path))}))
    assert "/?[2J?31m?[bold red]x[/]??" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width):
    """Also with a path that is."""
    works = flight(request(path="/" + "x" * 500))
    for line in seen({**ended(REPORT, PROPAGATING), **works}, width=width):
        assert len(line) <= width


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (60.0, "1 min 0 s"),
        (3599.0, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (86399.0, "23 h 59 min"),
        (90000.0, "1 d 1 h"),
    ],
)
def test_durations_are_read_by_people(seconds, words):
    """Two units at most."""
    assert seen({**READY, "uptime_s": seconds})[0].endswith(f"up {words}")
