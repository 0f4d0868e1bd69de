"""Two minutes of requests, new callers and errors: counted at ticks, bounded, and the callers' own."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from drainproxy.admin import recent
from drainproxy.admin.recent import STEP_S, STEPS, TICKS, Recent, Series
from drainproxy.lifecycle.arrival_rate import ArrivalRate
from drainproxy.metrics import Metrics


@dataclass
class Answers:
    """A listener's counters, exported when they are asked to be."""

    metrics: Metrics
    untold: int = 0
    waiting: int = 0

    def export_counts(self) -> None:
        """Bring the counters up to the present."""
        self.metrics.requests.inc("8080", "GET", "200", "serving", by=self.waiting)
        self.waiting = 0


class Desk:
    """A Recent on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        loop: Any = SimpleNamespace(time=lambda: self.now)
        monkeypatch.setattr(recent.asyncio, "get_running_loop", lambda: loop)
        self.metrics = Metrics()
        self.arrival_rate = ArrivalRate(())
        controller: Any = SimpleNamespace(arrival_rate=self.arrival_rate)
        self.answers = Answers(self.metrics)
        self.recent = Recent(controller, self.metrics, [self.answers])

    def step(self, took_s: float = STEP_S) -> None:
        """Let one step's time pass, and its ticks come."""
        self.now += took_s
        for _ in range(TICKS):
            self.recent.tick()

    def shown(self, name: str) -> list[float]:
        """Return one series."""
        series: list[float] = self.recent.shown()[name]["series"]
        return series


@pytest.fixture
def desk(monkeypatch):
    """A process that has just started."""
    return Desk(monkeypatch)


def test_requests_are_counted_a_second(desk):
    """Also those that no scrape has asked for yet."""
    desk.answers.waiting = 12
    desk.step()
    desk.metrics.h2_streams.inc("finished", by=6)
    desk.step()
    desk.step()
    assert desk.shown("requests") == [10.0, 5.0, 0.0]
    assert desk.recent.shown()["requests"]["per_s"] == 5.0


def test_new_callers_are_counted_before_a_drain_and_in_it(desk):
    """What `quiet` listens for: before it in the ring of arrivals, in it as late connections."""
    for at in (100.2, 100.4, 101.0):
        desk.arrival_rate.arrived(at)
    desk.step(2.0)
    desk.metrics.late_connections.inc("request", by=6)
    desk.metrics.late_connections.inc("probe", by=50)
    desk.step(2.0)
    assert sum(desk.shown("arrivals")) * 2.0 == pytest.approx(2 * (3 + 6), abs=0.5)
    assert desk.shown("arrivals")[0] == 1.5
    assert desk.shown("arrivals")[-1] == 3.0


def test_errors_are_those_that_callers_have(desk):
    """Whoever made the 5xx; answers that broke off; and no client's own mistake."""
    for code, count in (("200", 100), ("404", 20), ("499", 5), ("500", 6), ("503", 12)):
        desk.metrics.requests.inc("8080", "GET", code, "serving", by=count)
    desk.answers.untold = 6
    desk.step()
    assert desk.shown("errors") == [20.0]


def test_it_remembers_two_minutes_and_no_more(desk):
    """However long the process runs."""
    for _ in range(3 * STEPS):
        desk.step()
    assert [len(desk.shown(name)) for name in ("requests", "arrivals", "errors")] == [STEPS] * 3
    assert pytest.approx(120.0) == STEPS * STEP_S


def test_what_came_while_the_process_stood_still_is_spread_over_that(desk):
    """One high step would tell of a crowd that never was."""
    desk.step()
    desk.answers.waiting = 60
    desk.step(5 * STEP_S)
    assert desk.shown("requests") == [0.0, *[10.0] * 5]
    desk.step(3600.0)
    assert len(desk.shown("requests")) == STEPS


def test_a_young_process_has_a_short_memory(desk):
    """Nothing is made up for the time before it."""
    assert desk.recent.shown()["errors"] == {"per_s": 0.0, "series": []}


def test_a_count_that_goes_back_is_no_rate_below_nothing():
    """What looked like a failure was its client's own mistake."""
    series = Series()
    series.add(50.0, 1)
    series.add(-10.0, 1)
    assert series.shown()["series"] == [50.0, 0.0]


def test_an_even_stream_of_callers_is_drawn_as_one(desk):
    """Steps are no whole seconds, and arrivals are kept by those."""
    for index in range(60 * 10):
        desk.arrival_rate.arrived(101.0 + index / 10)
        if desk.now + STEP_S <= 101.0 + index / 10:
            desk.step()
    assert set(desk.shown("arrivals")[2:]) == {10.0}
