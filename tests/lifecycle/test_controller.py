"""A lifecycle from its beginning to its end: what leads where, what others are told, what is written down."""

from __future__ import annotations

import asyncio
import math

import pytest

from drainproxy.lifecycle.machine import POLICY, Phase
from drainproxy.lifecycle.propagation import Routability
from drainproxy.lifecycle.settings import ReadinessOnDrain
from tests.lifecycle.house import House, at, every, soon
from tests.support import clock
from tests.support.clock import in_fake_time

# The beginning.


@in_fake_time
async def test_it_starts_and_is_ready_once_the_application_answers():
    """Until then /readyz says no, and it says what it waits for."""
    house = House(ready=False)
    assert (house.phase, house.controller.ready) == (Phase.STARTING, False)
    assert house.controller.waiting_for() == "the application to answer"
    await at(3.0)
    house.controller.upstream_answers()
    assert (house.phase, house.controller.ready) == (Phase.READY, True)
    (line,) = house.diary.of("phase")
    assert line.fields == {
        "level": "info",
        "phase": "ready",
        "was": "starting",
        "after_s": 3.0,
        "in_flight": 0,
        "why": "the application answers",
    }


@in_fake_time
async def test_sigterm_before_ready_exits_at_once():
    """Nobody was told to come here, so nobody has to be waited for."""
    house = House(ready=False)
    house.sigterm()
    assert await house.reach(Phase.DRAINED) < 1.0
    assert house.course() == [("draining", 0.0), ("drained", 0.2)]
    assert house.controller.may_exit


@in_fake_time
async def test_sigterm_before_ready_waits_for_what_was_admitted():
    """A request whose connects are being retried is work like any other."""
    house = House(ready=False)
    request = house.request()
    await soon()
    house.sigterm()
    await at(7.0)
    request.end()
    await soon()
    assert house.course() == [("draining", 0.0), ("drained", 7.0)]


@in_fake_time
async def test_sigterm_before_ready_propagates_if_the_slices_already_name_the_pod():
    """publishNotReadyAddresses: callers come although nothing was ready."""
    house = House(ready=False)
    house.traffic(per_s=10)
    house.tell(Routability.ROUTABLE)
    house.sigterm()
    await house.reach(Phase.DRAINED)
    assert house.course() == [("propagating", 0.0), ("draining", 5.0), ("drained", 5.0)]


@in_fake_time
async def test_without_propagation_a_drain_is_over_as_soon_as_it_is_quiet():
    """Outside Kubernetes nobody chooses this pod; only `settle` is waited for."""
    house = House("none")
    house.sigterm()
    await house.reach(Phase.DRAINED)
    assert house.course() == [("ready", 0.0), ("propagating", 0.0), ("draining", 0.0), ("drained", 0.2)]
    assert house.end_reason() == {"quiet": 1}


@in_fake_time
async def test_a_hundred_sigterms_are_one():
    """Whoever sends them again changes neither the course nor the deadline."""
    once, often = House(), House()
    once.sigterm()
    resend = every(0.05, 5.0, often.sigterm)
    for house in (once, often):
        house.traffic(per_s=10)
        await house.reach(Phase.DRAINED)
    await resend
    assert often.course() == once.course()
    assert often.controller.deadline == once.controller.deadline
    assert often.controller.sigterm_at == once.controller.sigterm_at == clock.START_S
    assert [len(often.diary.of(event)) for event in ("drain_plan", "drain_report")] == [1, 1]
    assert often.controller.report == once.controller.report


# Settling.


@in_fake_time
async def test_a_request_starts_settling_anew():
    """Who has just asked may ask again."""
    house = House("none")
    house.sigterm()
    for second in (0.15, 0.3):
        await at(second)
        house.controller.request_came(house.loop.time())
    assert await house.reach(Phase.DRAINED) == pytest.approx(0.5)


@in_fake_time
async def test_work_that_outlasts_settling_ends_the_drain_with_it():
    """The last hold let go is an event, not something to be polled for."""
    house = House("none")
    house.sigterm()
    requests = [house.request(), house.request()]
    await at(4.0)
    requests[0].end()
    await at(9.0)
    assert house.phase is Phase.DRAINING
    assert house.controller.waiting_for() == "1 in flight"
    requests[1].end()
    await soon()
    assert house.course()[-1] == ("drained", 9.0)


@in_fake_time
async def test_a_request_that_comes_while_settling_is_waited_for():
    """Idle is a level, tested when it counts."""
    house = House("none")
    house.sigterm()
    await at(0.1)
    request = house.request()
    assert house.controller.waiting_for() == "settle, after the last byte"
    await at(3.0)
    request.end()
    assert await house.reach(Phase.DRAINED) == 3.0


# The end.


@in_fake_time
async def test_drained_by_sigterm_may_exit():
    """Both conditions are met in the same moment."""
    house = House("none")
    house.sigterm()
    await asyncio.wait_for(house.controller.until(lambda: house.controller.may_exit), 1.0)
    assert house.controller.waiting_for() == "exit"


@pytest.mark.parametrize(
    ("begin", "waits_for"), [(House.drain, "SIGTERM, or undrain"), (House.prestop, "SIGTERM")]
)
@in_fake_time
async def test_drained_without_sigterm_stays_until_it_comes(begin, waits_for):
    """A native sidecar outlives its drain; SIGTERM comes once every main container has exited."""
    house = House("none")
    begin(house)
    await house.reach(Phase.DRAINED)
    await at(9.0)
    assert not house.controller.may_exit
    assert house.controller.waiting_for() == waits_for
    leaving = asyncio.create_task(house.controller.until(lambda: house.controller.may_exit))
    await soon()
    house.sigterm()
    assert house.controller.may_exit
    await asyncio.wait_for(leaving, 1.0)
    assert len(house.diary.of("drain_report")) == 1


# What others are told.


@in_fake_time
async def test_the_application_coming_and_going_changes_readiness_and_no_phase():
    """A restart of the application is not our end."""
    house, told = House(), []
    house.controller.on_change(lambda: told.append(house.controller.ready))
    house.controller.upstream_refuses()
    house.controller.upstream_refuses()
    assert house.phase is Phase.READY
    assert house.controller.waiting_for() == "the application to answer again"
    house.controller.upstream_answers()
    assert told == [False, True]
    assert house.controller.waiting_for() == "nothing"


READINESS = {
    # Setting: /readyz at 0, 1.9, 2 and 5 s of a drain that propagates for 5 s.
    "auto": (ReadinessOnDrain("auto"), [False, False, False, False]),
    "fail": (ReadinessOnDrain("fail"), [False, False, False, False]),
    "delay": (ReadinessOnDrain("delay", 2.0), [True, True, False, False]),
    "delay beyond propagation": (ReadinessOnDrain("delay", 60.0), [True, True, True, False]),
}


@pytest.mark.parametrize(("setting", "expected"), READINESS.values(), ids=READINESS.keys())
@in_fake_time
async def test_readyz_while_draining_follows_the_setting(setting, expected):
    """`delay:` holds 200 for balancers that need to see the pod leave the slices first."""
    house = House(readiness_on_drain=setting)
    house.traffic(per_s=10)
    house.sigterm()
    said = []
    for second in (0.0, 1.9, 2.0, 5.0):
        await at(second)
        said.append(house.controller.ready)
    assert said == expected


@in_fake_time
async def test_a_delayed_readyz_still_tells_when_the_application_is_gone():
    """It says ready for the sake of those who come, and they would find nobody."""
    house = House(readiness_on_drain=ReadinessOnDrain("delay", 10.0))
    house.sigterm()
    house.controller.upstream_refuses()
    assert not house.controller.ready


@in_fake_time
async def test_what_is_published_fits_the_phase():
    """Others read one immutable row and are told when it is replaced."""
    house, seen = House(), {}
    house.traffic(per_s=10)
    house.controller.on_change(lambda: seen.setdefault(house.phase, house.controller.published))
    before = house.controller.published
    assert not before.draining
    assert not before.discourage_reuse
    assert before.drain_started == before.refuse_from == before.work_deadline == math.inf
    await at(2.0)
    house.sigterm()
    await house.reach(Phase.DRAINED)
    assert list(seen) == [Phase.PROPAGATING, Phase.DRAINING, Phase.DRAINED]
    for phase, row in seen.items():
        assert row.phase is phase
        assert row.policy is POLICY[phase]
        assert row.draining
        assert row.discourage_reuse
        assert row.drain_started == clock.START_S + 2.0
        # What comes after the drain is not the drain's to end.
        assert row.work_deadline == (math.inf if phase is Phase.DRAINED else clock.START_S + 24.0)
        assert row.refuse_from == clock.START_S + 23.0
    assert before.drain_started == math.inf


@in_fake_time
async def test_waiting_ends_for_those_whose_condition_is_met_and_for_nobody_else():
    """A waiter that is cancelled leaves nothing behind."""
    house = House("none")
    before = list(house.controller._listeners)
    drained = asyncio.create_task(house.reach(Phase.DRAINED))
    never = asyncio.create_task(house.controller.until(lambda: False))
    await soon()
    house.sigterm()
    await drained
    assert not never.done()
    never.cancel()
    with pytest.raises(asyncio.CancelledError):
        await never
    assert house.controller._listeners == before
