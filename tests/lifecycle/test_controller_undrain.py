"""Taking a drain back: who may, what it undoes, and that the next drain knows nothing of it."""

from __future__ import annotations

import asyncio
import math

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.report import Cause
from tests.lifecycle.house import House, at, soon
from tests.support import clock
from tests.support.clock import in_fake_time


def busy(preset: str = "cluster") -> House:
    """A ready house in whose traffic a silence would be heard."""
    house = House(preset)
    house.traffic(per_s=10)
    return house


@in_fake_time
async def test_a_manual_drain_is_taken_back_while_it_propagates():
    """Ready again, without a deadline, and new requests are nobody's late arrivals."""
    house = busy()
    before = house.controller.published
    house.drain()
    await at(3.0)
    assert house.controller.resume() is None
    assert house.phase is Phase.READY
    assert house.controller.ready
    assert house.controller.published == before
    assert house.controller.deadline == math.inf
    assert sum(house.metrics.termination_cause_info.values.values()) == 0
    await at(300.0)
    assert house.course() == [("ready", 0.0), ("propagating", 0.0), ("ready", 3.0)]
    assert house.diary.of("drain_report") == []


async def _not_draining(house: House) -> None:
    """Nothing to take back."""


async def _draining(house: House) -> None:
    request = house.request()
    house.drain()
    await house.reach(Phase.DRAINING)
    house.loop.call_at(clock.START_S + 10.0, request.end)


async def _drained_and_told_to_end(house: House) -> None:
    house.drain()
    await house.reach(Phase.DRAINED)
    house.sigterm()


async def _drained_and_prestop(house: House) -> None:
    house.drain()
    await house.reach(Phase.DRAINED)
    house.prestop()


async def _drained_and_deleted(house: House) -> None:
    house.drain()
    await house.reach(Phase.DRAINED)
    house.controller.learn(Cause.DELETION)


async def _drained_and_asked_by_a_hook(house: House) -> None:
    house.drain()
    await house.reach(Phase.DRAINED)
    assert await house.controller.released() == "drained"


async def _sigterm(house: House) -> None:
    house.sigterm()


async def _sigterm_after_manual(house: House) -> None:
    house.drain()
    await at(1.0)
    house.sigterm()


async def _prestop(house: House) -> None:
    house.prestop()


async def _prestop_after_manual(house: House) -> None:
    house.drain()
    house.prestop()


async def _deletion(house: House) -> None:
    house.controller.terminate(Cause.DELETION)


async def _deletion_after_manual(house: House) -> None:
    house.drain()
    house.controller.terminate(Cause.DELETION)


REFUSED = {
    "not draining": (_not_draining, "not draining"),
    "draining": (
        _draining,
        "draining cannot be taken back: tunnels were told to leave; ask again once it is drained",
    ),
    "drained and SIGTERM": (_drained_and_told_to_end, "the pod is terminating"),
    "drained and preStop": (_drained_and_prestop, "the pod is terminating"),
    "drained and deleted": (_drained_and_deleted, "the pod is terminating"),
    "drained and a hook": (
        _drained_and_asked_by_a_hook,
        "a preStop hook has come, so the pod may be terminating",
    ),
    "after SIGTERM": (_sigterm, "the pod is terminating"),
    "SIGTERM after manual": (_sigterm_after_manual, "the pod is terminating"),
    "after preStop": (_prestop, "the pod is terminating"),
    "preStop after manual": (_prestop_after_manual, "the pod is terminating"),
    "pod deleted": (_deletion, "the pod is terminating"),
    "pod deleted after manual": (_deletion_after_manual, "the pod is terminating"),
}


@pytest.mark.parametrize(("before", "reason"), REFUSED.values(), ids=REFUSED.keys())
@in_fake_time
async def test_undrain_is_refused_with_the_reason(before, reason):
    """What cannot be taken back goes on as if nobody had asked."""
    house = busy()
    await before(house)
    phase, course = house.phase, house.course()
    assert house.controller.resume() == reason
    assert (house.phase, house.course()) == (phase, course)


@in_fake_time
async def test_work_in_flight_gets_its_own_time_back():
    """A tunnel that survived the drain must not be cut at a deadline nobody has any more."""
    house = busy()
    long = house.request()
    await soon()
    house.drain()
    late = house.request()
    await at(1.0)
    assert long.deadline == late.deadline == clock.START_S + 22.0
    house.controller.resume()
    assert long.deadline == late.deadline == math.inf
    await at(60.0)
    assert (long.cut_for, late.cut_for) == (None, None)
    long.end()
    late.end()
    await soon()
    assert house.phase is Phase.READY


@in_fake_time
async def test_waiting_hooks_are_answered_on_resume():
    """Those that came before the drain and those that came in it: there is nothing to wait for."""
    house = busy()
    early = asyncio.create_task(house.controller.released())
    await at(1.0)
    house.drain()
    late = asyncio.create_task(house.controller.released())
    await at(2.0)
    assert not early.done()
    assert not late.done()
    house.controller.resume()
    assert [await early, await late] == ["not draining", "not draining"]
    assert clock.now() == 2.0


@in_fake_time
async def test_a_hook_after_resume_has_a_whole_window():
    """The first drain's hooks have nothing to do with it."""
    house = busy()
    first = asyncio.create_task(house.controller.released())
    await at(1.0)
    house.drain()
    house.controller.resume()
    await at(4.0)
    assert first.done()
    hook = asyncio.create_task(house.controller.released())
    await at(8.9)
    assert not hook.done()
    await at(9.1)
    assert hook.done()


@pytest.mark.parametrize("preset", ["cluster", "mesh"])
@in_fake_time
async def test_the_next_drain_does_not_believe_the_last_ones_evidence(preset):
    """The slices flipped for the first drain and back again after it, and nobody watched them in between."""
    house = busy(preset)
    house.drain()
    house.gone()
    await at(1.0)
    house.controller.resume()
    await at(30.0)
    house.traffic(per_s=10)
    house.sigterm()
    assert await house.reach(Phase.DRAINED) == 35.0
    assert house.end_reason() == {"quiet": 1}


@in_fake_time
async def test_the_next_drain_begins_its_own_books():
    """Clock, late arrivals, phases: a second drain is as good as the first."""
    house = busy()
    house.drain()
    await at(1.0)
    house.arrive_late()
    house.metrics.drain_requests.inc("finished")
    await at(2.0)
    house.controller.resume()
    await at(100.0)
    house.traffic(per_s=10)
    house.sigterm()
    assert house.controller.deadline == clock.START_S + 122.0
    assert await house.reach(Phase.DRAINED) == 105.0
    report = house.controller.report
    assert report.phases_s == {"propagating": pytest.approx(5.0), "draining": 0.0}
    assert (report.requests.finished, report.requests.late) == (0, 0)
    assert report.last_late_after_flip_s is None
    assert len(house.diary.of("drain_report")) == 1


@in_fake_time
async def test_work_that_ends_after_resume_moves_nothing():
    """The books are not listened to while nothing drains."""
    house = busy()
    request = house.request()
    await soon()
    house.drain()
    house.controller.resume()
    request.end()
    await at(30.0)
    assert house.phase is Phase.READY
    assert house.inflight.on_empty is None


@in_fake_time
async def test_a_manual_drain_that_is_over_is_taken_back():
    """Ready again as if nothing had been, and nothing that the drain set up still happens."""
    house = busy()
    before = house.controller.published
    house.drain()
    await house.reach(Phase.DRAINED)
    await at(60.0)
    assert house.controller.waiting_for() == "SIGTERM, or undrain"
    assert not house.controller.ready
    assert house.controller.resume() is None
    assert house.controller.ready
    assert house.controller.published == before
    assert (house.controller.report, house.controller.deadline) == (None, math.inf)
    assert not house.controller.may_exit
    assert sum(house.metrics.termination_cause_info.values.values()) == 0
    assert house.loop.pending_timers() == []
    await at(300.0)
    assert [phase for phase, _ in house.course()] == ["ready", "propagating", "draining", "drained", "ready"]
    assert len(house.diary.of("drain_report")) == 1


@in_fake_time
async def test_the_drain_after_one_that_was_over_is_a_whole_one():
    """Its own clock, evidence, counts and report; and its tunnels are told to leave."""
    house = busy()
    house.drain()
    house.gone()
    house.metrics.drain_requests.inc("finished")
    await house.reach(Phase.DRAINED)
    await soon()
    assert house.controller.report.requests.finished == 1
    assert house.controller.resume() is None
    await at(100.0)
    house.traffic(per_s=10)
    request = house.request()
    await soon()
    house.sigterm()
    assert house.controller.deadline == clock.START_S + 122.0
    await house.reach(Phase.DRAINING)
    assert clock.now() == 105.0
    request.end()
    await house.reach(Phase.DRAINED)
    await soon()
    report = house.controller.report
    assert (report.requests.finished, report.in_flight_at_start) == (1, 1)
    assert report.phases_s == {"propagating": pytest.approx(5.0), "draining": pytest.approx(0.0)}
    assert house.controller.may_exit
    assert len(house.diary.of("drain_report")) == 2


@in_fake_time
async def test_what_was_cut_is_in_the_books_though_undrain_is_quicker():
    """The report of a drain that has just ended is not lost with it."""
    house = House("none", grace_period=10.0)
    stuck = house.request()
    await soon()
    house.drain()
    await house.reach(Phase.DRAINED)
    assert house.controller.report is None
    assert house.controller.resume() is None
    assert len(house.diary.of("drain_report")) == 1
    await soon()
    assert stuck.outcome == "cut"
    await at(30.0)
    assert house.phase is Phase.READY
    assert house.inflight.on_empty is None


@in_fake_time
async def test_a_hook_that_was_an_applications_restart_takes_undrain_away_for_a_moment_only():
    """Drained by hand, the application restarted: no signal follows within `restart_window`."""
    house = busy()
    house.drain()
    await house.reach(Phase.DRAINED)
    await at(60.0)
    assert await house.controller.released() == "drained"
    await at(64.9)
    assert house.controller.resume() is not None
    await at(65.1)
    assert house.controller.resume() is None
    assert house.phase is Phase.READY


@in_fake_time
async def test_what_was_not_heard_while_drained_is_no_silence():
    """Callers were away for a minute: soon after, a busy process is not called sparse for it."""
    house = busy()
    house.drain()
    await house.reach(Phase.DRAINED)
    await at(60.0)
    assert house.controller.resume() is None
    for second in range(60, 80):
        for _ in range(5):
            house.controller.arrival_rate.arrived(clock.START_S + second)
    assert house.controller.arrival_rate.arrivals_per_s(clock.START_S + 80.0) == pytest.approx(5.0, rel=0.1)
