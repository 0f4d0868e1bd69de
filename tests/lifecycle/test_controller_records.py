"""What a drain leaves behind: log lines, metrics and the one report, which must not disagree."""

from __future__ import annotations

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.report import Cause
from tests.lifecycle.house import House, at, soon
from tests.support.clock import in_fake_time


@in_fake_time
async def test_log_metrics_and_report_tell_the_same_story():
    """One drain with a late arrival, one request that ends in propagation and one after it."""
    house = House()
    house.traffic(per_s=10)
    requests = [house.request(), house.request()]
    await at(1.0)
    house.sigterm()
    (plan,) = house.diary.of("drain_plan")
    assert plan.fields["cause"] == "unknown"
    assert plan.fields["grace_s"] == 30.0
    assert plan.fields["deadline_in_s"] == 22.0
    assert plan.fields["propagation_max_s"] == 15.0
    assert plan.fields["sparse"] is False
    assert plan.fields["in_flight"] == 2
    await at(2.5)
    house.arrive_late()
    await at(3.0)
    requests[0].end()
    await at(9.9)
    requests[1].end()
    await at(10.0)
    assert house.course() == [("ready", 0.0), ("propagating", 1.0), ("draining", 6.0), ("drained", 9.9)]
    report = house.controller.report.fields()
    assert report["phases_s"] == {"propagating": 5.0, "draining": 3.9}
    assert report["propagation_ended"] == "quiet"
    assert report["in_flight_at_start"] == 2
    assert [report["unused_s"], house.metrics.drain_unused_seconds.value()] == pytest.approx([13.1, 13.1])
    assert report["requests"]["finished"] == house.metrics.drain_requests.value("finished") == 2
    assert report["requests"]["late"] == house.metrics.late_requests.value() == 1
    assert report["ended_by"] == "nothing is in flight"
    assert house.end_reason() == {"quiet": 1}
    assert house.metrics.late_connection_age_seconds.sum == pytest.approx(1.5)
    (written,) = house.diary.of("drain_report")
    assert written.fields == {"level": "info", **report}


@in_fake_time
async def test_a_report_says_when_callers_stopped_and_how_long_they_were_silent():
    """So that others can tell which rules would have been enough, and the metrics say the same."""
    house = House()
    house.traffic(per_s=10)
    await at(1.0)
    house.sigterm()
    for came in (1.5, 3.4, 4.0):
        await at(came)
        house.arrive_late()
    await at(5.0)
    house.gone()
    await house.reach(Phase.DRAINED)
    await soon()
    report = house.controller.report.fields()
    assert (report["last_late_s"], report["longest_silence_s"]) == (3.0, 1.9)
    assert (report["flipped_after_s"], report["last_late_after_flip_s"]) == (4.0, 0.0)
    assert report["arrivals_per_s"] == 9.5
    assert house.metrics.last_late_seconds.value() == 3.0


@in_fake_time
async def test_a_second_drain_begins_with_nobody_late():
    """A drain by hand leaves the process with the first one's numbers."""
    house = House("none")
    house.controller.terminate(Cause.MANUAL)
    house.arrive_late()
    house.metrics.drain_longest_request_seconds.set(3.0)
    await house.reach(Phase.DRAINED)
    assert house.controller.resume() is None
    house.controller.terminate(Cause.MANUAL)
    assert house.metrics.last_late_seconds.value() == 0.0
    assert house.metrics.drain_longest_request_seconds.value() == 0.0


@in_fake_time
async def test_the_request_that_ends_the_drain_is_in_its_report():
    """The proxy counts a request after it let go of it, and the report must not be faster."""
    house = House("none")
    request = house.request()
    await soon()
    house.sigterm()
    await at(5.0)
    request.end()
    await house.reach(Phase.DRAINED)
    await soon()
    assert house.metrics.drain_requests.value("finished") == 1
    assert house.controller.report.requests.finished == 1


@in_fake_time
async def test_phase_metrics_add_up_to_the_life_of_the_process():
    """One phase is 1 at any time, and their durations are looked at when somebody asks."""
    house = House(ready=False)
    await at(2.0)
    house.controller.upstream_answers()
    await at(10.0)
    house.traffic(per_s=10)
    house.sigterm()
    await at(12.0)
    _refresh(house)
    assert _durations(house) == {"starting": 2, "ready": 8, "propagating": 2, "draining": 0, "drained": 0}
    assert house.metrics.drain_deadline_seconds.value() == pytest.approx(20.0)
    await at(20.0)
    _refresh(house)
    assert _durations(house) == {"starting": 2, "ready": 8, "propagating": 5, "draining": 0, "drained": 5}
    assert house.metrics.phase.values == {
        ("starting",): 0,
        ("ready",): 0,
        ("propagating",): 0,
        ("draining",): 0,
        ("drained",): 1,
    }
    await at(60.0)
    _refresh(house)
    assert house.metrics.drain_deadline_seconds.value() == 0.0


@in_fake_time
async def test_there_is_no_deadline_to_show_while_nothing_drains():
    """Infinity is no number for a gauge."""
    house = House()
    _refresh(house)
    assert house.metrics.drain_deadline_seconds.value() == 0.0


@pytest.mark.parametrize("cause", Cause)
@in_fake_time
async def test_the_cause_is_shown_and_reported(cause):
    """Alerts on `restart` must not fire for a rollout."""
    house = House("none")
    house.controller.terminate(cause)
    assert [labels[0] for labels, value in house.metrics.termination_cause_info.values.items() if value] == [
        cause
    ]
    await house.reach(Phase.DRAINED)
    assert house.controller.report.cause == cause


@in_fake_time
async def test_a_sum_that_does_not_fit_is_shown_as_a_config_problem():
    """A running pod does not refuse; it says so, where an alert can see it."""
    assert House("alb").metrics.config_problems.value() == 1
    assert House("alb", grace_period=105.0).metrics.config_problems.value() == 0


@in_fake_time
async def test_timers_that_contradict_one_another_are_a_config_problem_too():
    """The log names them at the start; the alert and /status go on saying so."""
    house = House(refuse_window=60.0)
    assert house.metrics.config_problems.value() == 1
    (problem,) = house.controller.problems
    assert "refuse_window 60 s leaves no time" in problem


@in_fake_time
async def test_listeners_never_see_a_half_changed_picture():
    """Who is told of a report is told of it by a drain that is over."""
    house, seen = House("none"), []
    house.controller.on_change(lambda: seen.append((house.phase, house.controller.report is not None)))
    house.sigterm()
    await house.reach(Phase.DRAINED)
    await soon()
    assert seen[-1] == (Phase.DRAINED, True)
    assert (Phase.DRAINING, True) not in seen


def _refresh(house: House) -> None:
    for refresh in house.metrics.before_scrape:
        refresh()


def _durations(house: House) -> dict[str, float]:
    return {
        labels[0]: round(spent, 6) for labels, spent in house.metrics.phase_duration_seconds.values.items()
    }
