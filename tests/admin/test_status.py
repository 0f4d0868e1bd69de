"""The document of /status: what is in it, and in which words."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from drainproxy.admin.status import MAX_WORKS, status
from drainproxy.lifecycle.drain import Drain
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Rule, Wait
from drainproxy.lifecycle.report import Cause, Tally
from drainproxy.metrics import Metrics

ABOUT = {"version": "1.2.3", "listeners": ["127.0.0.1:8080"]}
DRAIN = Drain(
    cause=Cause.MANUAL,
    started=95.0,
    t0=95.0,
    in_flight_at_start=3,
    arrivals_per_s=1.0,
    metrics=Metrics(),
    last_late=99.5,
    intent="leave as for a deletion",
)
DRAIN.requests_before = Tally(finished=4)


@dataclass(eq=False)
class Request:
    """What the document asks of a Work."""

    kind: str
    started: float
    deadline: float
    what: dict[str, str]

    def describe(self) -> dict[str, str]:
        """Say what it is."""
        return self.what


def work(age: float, *, deadline: float = math.inf, kind: str = "http", **what: str) -> Request:
    """Return a request that started `age` seconds ago; `what_` it says of itself."""
    return Request(kind, 100.0 - age, deadline, {name.rstrip("_"): text for name, text in what.items()})


def document(
    *works: Request,
    phase: Phase = Phase.READY,
    drain: Drain | None = None,
    deadline=117.0,
    waits=(),
    **spent: float,
) -> dict[str, Any]:
    """Return what is shown at loop time 100 of a lifecycle that is in `phase` since 90."""
    journal = SimpleNamespace(
        phase_since=90.0, phases_s={Phase(name): s for name, s in {"starting": 2.5, **spent}.items()}
    )
    controller: Any = SimpleNamespace(
        published=SimpleNamespace(phase=phase),
        journal=journal,
        drain=drain,
        report=None,
        deadline=deadline,
        waiting_for=lambda: "nothing",
        waits=lambda: waits,
        ready=True,
        upstream_up=True,
        plan=SimpleNamespace(budget=SimpleNamespace(grace_s=30.0)),
        problems=(),
    )
    inflight, metrics = InFlight(), Metrics()
    for each in works:
        inflight.add(each)
    metrics.drain_requests.inc("finished", by=5)
    metrics.late_requests.inc(by=2)
    recent: Any = SimpleNamespace(shown=lambda: {"step_s": 1.2})
    return status(
        controller=controller, inflight=inflight, metrics=metrics, recent=recent, about=ABOUT, now=100.0
    )


def test_in_steady_state_it_says_how_long_and_that_nothing_is_waited_for():
    """Every key is there from the start, so that a script needs no defaults."""
    assert document() == {
        "version": "1.2.3",
        "listeners": ["127.0.0.1:8080"],
        "uptime_s": 12.5,
        "phase": "ready",
        "since_s": 10.0,
        "phases_s": {"starting": 2.5, "ready": 10.0},
        "waiting_for": "nothing",
        "waits": [],
        "ready": True,
        "upstream_up": True,
        "held": 0,
        "grace_s": 30.0,
        "deadline_in_s": None,
        "drain": None,
        "in_flight": {"count": 0, "kinds": {}, "oldest": []},
        "recent": {"step_s": 1.2},
        "config_problems": [],
        "report": None,
        "verdict": None,
    }


def test_what_is_waited_for_has_its_clock():
    """The first decides. What was over long ago is over, and what no clock ends has none."""
    quiet = Wait(Rule.QUIET, "quiet after the last late arrival", 99.2, 101.2)
    margin = Wait(Rule.MARGIN, "margin after the slices flipped", 80.0, 82.0)
    flip = Wait(Rule.FLIP, "the slices to flip")
    assert document(waits=(quiet, margin, flip))["waits"] == [
        {"rule": "quiet", "words": "quiet after the last late arrival", "passed_s": 0.8, "of_s": 2.0},
        {"rule": "margin", "words": "margin after the slices flipped", "passed_s": 2.0, "of_s": 2.0},
        {"rule": "flip", "words": "the slices to flip", "passed_s": None, "of_s": None},
    ]


def test_a_phase_entered_again_adds_up():
    """After `undrain` the time in ready is that of both stays."""
    spent = document(ready=40.0, propagating=3.0)["phases_s"]
    assert spent == {"starting": 2.5, "ready": 50.0, "propagating": 3.0}


def test_a_drain_shows_its_clock_and_who_came_late():
    """Times count from now: loop times mean nothing outside."""
    shown = document(phase=Phase.PROPAGATING, drain=DRAIN)
    assert shown["deadline_in_s"] == 17.0
    assert shown["drain"] == {
        "cause": "manual",
        "plan": "leave as for a deletion",
        "for_s": 5.0,
        "length_s": 22.0,
        "final": False,
        "in_flight_at_start": 3,
        "propagation_ended": None,
        "arrivals_per_s": 1.0,
        "young": False,
        "late_requests": 2,
        "last_late_ago_s": 0.5,
        "outcomes": {"finished": 1, "timed_out": 0, "cut": 0, "refused": 0, "lost": 0},
        "tunnels": {
            kind: {"finished": 0, "timed_out": 0, "cut": 0, "refused": 0, "lost": 0, "late": 0}
            | {"told_to_leave": 0}
            for kind in ("websocket", "stream", "other")
        },
    }


def test_a_deadline_that_has_passed_is_zero_away():
    """After drained the clock does not run into the negative."""
    assert document(drain=DRAIN, deadline=99.0)["deadline_in_s"] == 0.0


def test_work_is_listed_with_age_and_deadline():
    """What the work calls itself cannot override what it is."""
    works = [work(3.25, deadline=101.5, method="GET", path="/slow", kind_="fake", age_s="0"), work(1.0)]
    shown = document(*works)["in_flight"]
    assert shown == {
        "count": 2,
        "kinds": {"http": 2},
        "oldest": [
            {"method": "GET", "path": "/slow", "kind": "http", "age_s": 3.25, "deadline_in_s": 1.5},
            {"kind": "http", "age_s": 1.0, "deadline_in_s": None},
        ],
    }


def test_a_crowd_is_counted_in_full_and_listed_in_part():
    """The oldest are what a drain waits for."""
    works = (work(1000.0 - index, kind="http" if index % 5 else "tunnel") for index in range(5000))
    shown = document(*works)["in_flight"]
    assert shown["count"] == 5000
    assert shown["kinds"] == {"http": 4000, "tunnel": 1000}
    assert len(shown["oldest"]) == MAX_WORKS == 100
    assert shown["oldest"][0]["age_s"] == 1000.0


def test_the_document_is_json_without_infinities():
    """`NaN` and `Infinity` are no JSON: strict readers would refuse all of it."""
    shown = document(work(1.0), drain=DRAIN, deadline=math.inf)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
