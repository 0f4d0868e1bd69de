"""The document of /status from plain values."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from drainproxy.admin.status import MAX_WORKS, DrainNow, Snapshot, WorkNow, status

READY = Snapshot(
    now=100.0,
    phase="ready",
    phase_since=90.0,
    phases_s={"starting": 2.5},
    waiting_for="nothing",
    ready=True,
    upstream_up=True,
    grace_s=30.0,
    about={"version": "1.2.3", "listeners": ["127.0.0.1:8080"]},
)
DRAIN = DrainNow(
    cause="manual",
    started=95.0,
    deadline=117.0,
    final=False,
    in_flight_at_start=3,
    propagation_ended=None,
    late_requests=2,
    last_late=99.5,
    outcomes={"finished": 1, "lost": 0},
)


def work(age: float, *, deadline: float = math.inf, **what: str) -> WorkNow:
    """Return a request that started `age` seconds ago."""
    return WorkNow(kind="http", started=100.0 - age, deadline=deadline, what=what)


def test_in_steady_state_it_says_how_long_and_that_nothing_is_waited_for():
    """Every key is there from the start, so that a script needs no defaults."""
    assert status(READY) == {
        "version": "1.2.3",
        "listeners": ["127.0.0.1:8080"],
        "uptime_s": 12.5,
        "phase": "ready",
        "since_s": 10.0,
        "phases_s": {"starting": 2.5, "ready": 10.0},
        "waiting_for": "nothing",
        "ready": True,
        "upstream_up": True,
        "grace_s": 30.0,
        "deadline_in_s": None,
        "drain": None,
        "in_flight": {"count": 0, "kinds": {}, "oldest": []},
        "config_problems": [],
        "report": None,
    }


def test_a_phase_entered_again_adds_up():
    """After `undrain` the time in ready is that of both stays."""
    again = replace(READY, phases_s={"starting": 2.5, "ready": 40.0, "propagating": 3.0})
    assert status(again)["phases_s"] == {"starting": 2.5, "ready": 50.0, "propagating": 3.0}


def test_a_drain_shows_its_clock_and_who_came_late():
    """Times count from now: loop times mean nothing outside."""
    shown = status(replace(READY, phase="propagating", drain=DRAIN))
    assert shown["deadline_in_s"] == 17.0
    assert shown["drain"] == {
        "cause": "manual",
        "for_s": 5.0,
        "length_s": 22.0,
        "final": False,
        "in_flight_at_start": 3,
        "propagation_ended": None,
        "late_requests": 2,
        "last_late_ago_s": 0.5,
        "outcomes": {"finished": 1, "lost": 0},
    }


def test_a_deadline_that_has_passed_is_zero_away():
    """After drained the clock does not run into the negative."""
    assert status(replace(READY, drain=replace(DRAIN, deadline=99.0)))["deadline_in_s"] == 0.0


def test_work_is_listed_with_age_and_deadline():
    """What the work calls itself cannot override what it is."""
    works = [work(3.25, deadline=101.5, method="GET", path="/slow", kind="fake", age_s="0"), work(1.0)]
    shown = status(replace(READY, kinds={"http": 2}, works=works))["in_flight"]
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
    works = (work(1000.0 - index) for index in range(5000))
    shown = status(replace(READY, kinds={"http": 4000, "tunnel": 1000}, works=works))["in_flight"]
    assert shown["count"] == 5000
    assert len(shown["oldest"]) == MAX_WORKS == 100
    assert shown["oldest"][0]["age_s"] == 1000.0


def test_the_document_is_json_without_infinities():
    """`NaN` and `Infinity` are no JSON: strict readers would refuse all of it."""
    shown = status(replace(READY, works=[work(1.0)], drain=replace(DRAIN, deadline=math.inf)))
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
