"""The end that comes whatever happens: what it cuts, whose clock it runs on, and that nothing outlasts it."""

from __future__ import annotations

import asyncio
import math

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Reason
from drainproxy.lifecycle.report import Cause
from tests.lifecycle.house import House, Request, at, soon
from tests.support import clock
from tests.support.clock import in_fake_time


@pytest.mark.parametrize("grace", [None, 30.0, 60.0, 20.0, 5.0])
@in_fake_time
async def test_the_deadline_cuts_what_is_left_and_says_so(grace):
    """Drained is reached at the deadline, and each work is told why it ends."""
    house = House(grace_period=grace)
    house.traffic(per_s=10)
    requests = [house.request() for _ in range(3)]
    await soon()
    house.sigterm()
    deadline = house.controller.deadline - clock.START_S
    await house.reach(Phase.DRAINED)
    assert clock.now() == pytest.approx(deadline)
    await soon()
    assert [request.cut_for for request in requests] == ["drain-deadline"] * 3
    assert [request.ended_at for request in requests] == [deadline] * 3
    report = house.controller.report
    assert report.ended_by == "the drain's deadline"
    assert report.unused_s == 0.0


@in_fake_time
async def test_what_the_deadline_cut_is_in_the_report():
    """The report waits until the books are kept: report and metrics cannot disagree."""
    house = House("none")
    requests = [house.request() for _ in range(3)]
    await soon()
    house.sigterm()
    await at(5.0)
    requests[0].end()
    await house.reach(Phase.DRAINED)
    await house.controller.until(lambda: house.controller.may_exit)
    assert clock.now() == 22.0
    report = house.controller.report.requests
    assert (report.finished, report.cut) == (1, 2)
    assert house.metrics.drain_requests.value("cut") == 2
    assert len(house.diary.of("drain_report")) == 1


class Stubborn(Request):
    """Work that cannot be cut: a coroutine that is stuck."""

    def cut(self, reason: str) -> None:
        """Take a note, and go on."""
        self.cut_for = reason


@in_fake_time
async def test_work_that_does_not_end_when_it_is_cut_does_not_hold_the_exit():
    """A defect somewhere else costs its own request, not the report and the exit code."""
    house = House("none")
    stuck = Stubborn(house)
    await soon()
    house.sigterm()
    await at(23.0)
    assert stuck.cut_for == "drain-deadline"
    assert house.phase is Phase.DRAINED
    assert house.controller.may_exit
    stuck.end()


class Prompt:
    """Work that lets go in the very call that cuts it, as one without a coroutine may."""

    kind = "tunnel"
    started = 0.0
    deadline = math.inf

    def __init__(self, house: House) -> None:
        self._inflight = house.inflight
        self._inflight.add(self)

    def drain_by(self, deadline: float) -> None:
        """It ends when it is cut."""

    def leave(self) -> None:
        """It does not."""

    def cut(self, reason: str) -> None:
        """Let go at once."""
        self._inflight.discard(self)

    def describe(self) -> dict[str, str]:
        """Nothing to say."""
        return {}


@pytest.mark.parametrize("count", [1, 2, 5])
@in_fake_time
async def test_work_that_lets_go_as_it_is_cut_ends_the_drain_once(count):
    """One drain, one report, one line for each phase."""
    house = House("none")
    for _ in range(count):
        Prompt(house)
    house.sigterm()
    await house.reach(Phase.DRAINED)
    await at(30.0)
    assert len(house.inflight) == 0
    assert house.course() == [("ready", 0), ("propagating", 0), ("draining", 0), ("drained", 22)]
    assert len(house.diary.of("drain_report")) == 1


# What work is told.


@in_fake_time
async def test_work_learns_its_deadline_when_the_drain_begins():
    """It is the earlier of its own and the drain's."""
    house = House()
    short, long = Request(house, own_deadline=clock.START_S + 3.0), house.request()
    await soon()
    assert (short.deadline, long.deadline) == (clock.START_S + 3.0, math.inf)
    await at(1.0)
    house.sigterm()
    assert (short.deadline, long.deadline) == (clock.START_S + 3.0, clock.START_S + 23.0)
    short.end()
    long.end()


@in_fake_time
async def test_work_admitted_while_draining_reads_its_deadline():
    """It is published for those who come later."""
    house = House()
    house.sigterm()
    await at(3.0)
    request = house.request()
    assert request.deadline == clock.START_S + 22.0
    await soon()
    request.end()


@pytest.mark.parametrize(("setting", "limit"), [(None, 22.0), (5.0, 5.0), (60.0, 22.0)])
@in_fake_time
async def test_drain_timeout_limits_work_and_not_the_drain(setting, limit):
    """`drain_timeout` counts from the drain's start, and the deadline is still the deadline."""
    house = House(drain_timeout=setting)
    request = house.request()
    await soon()
    await at(1.0)
    house.sigterm()
    assert request.deadline == clock.START_S + 1.0 + limit
    assert house.controller.published.work_deadline == clock.START_S + 1.0 + limit
    assert house.controller.deadline == clock.START_S + 23.0
    request.end()


# Whose clock.


@in_fake_time
async def test_a_hook_that_came_before_the_signal_started_the_clock():
    """The kubelet counts the hook's time against the grace period."""
    house = House("none")
    hook = asyncio.create_task(house.controller.released())
    await at(3.0)
    request = house.request()
    await soon()
    house.sigterm()
    assert house.controller.deadline == clock.START_S + 22.0
    assert request.deadline == clock.START_S + 22.0
    assert await house.reach(Phase.DRAINED) == 22.0
    assert await hook == "drained"


FOLLOW_UPS = {
    # After a manual drain at 0, this at 10: the deadline, and the cause.
    "SIGTERM": (House.sigterm, 32.0, "unknown"),
    "own preStop": (House.prestop, 32.0, "unknown"),
    "observed deletion": (lambda house: house.controller.terminate(Cause.DELETION), 32.0, "deletion"),
    "drain again": (House.drain, 22.0, "manual"),
}


@pytest.mark.parametrize(("follow_up", "deadline", "cause"), FOLLOW_UPS.values(), ids=FOLLOW_UPS.keys())
@in_fake_time
async def test_a_termination_after_a_manual_drain_has_a_clock_of_its_own(follow_up, deadline, cause):
    """Nobody counted against a drain by hand, and work must not pay for it."""
    house = House("none")
    request = house.request()
    await soon()
    house.drain()
    await at(10.0)
    assert request.deadline == clock.START_S + 22.0
    follow_up(house)
    assert house.controller.deadline == clock.START_S + deadline
    assert house.controller.published.work_deadline == request.deadline == clock.START_S + deadline
    assert house.controller.published.refuse_from == clock.START_S + deadline - 1.0
    assert await house.reach(Phase.DRAINED) == deadline
    await soon()
    assert house.controller.report.cause == cause


@pytest.mark.parametrize("first", [House.sigterm, House.prestop])
@pytest.mark.parametrize("second", [House.sigterm, House.prestop, House.drain])
@in_fake_time
async def test_a_termination_has_one_clock(first, second):
    """What follows it is the same termination; SIGTERM after the own hook says that it is nearly over."""
    house = House("none")
    request = house.request()
    await soon()
    first(house)
    await at(10.0)
    second(house)
    deadline = 11.5 if (first, second) == (House.prestop, House.sigterm) else 22.0
    assert house.controller.deadline == request.deadline == clock.START_S + deadline
    assert len(house.diary.of("drain_plan")) == 1
    request.end()


@in_fake_time
async def test_a_hook_during_a_manual_drain_starts_the_clock_of_the_termination():
    """The hook was the first sign of it, though something drained already."""
    house = House("none")
    request = house.request()
    await soon()
    house.drain()
    await at(8.0)
    hook = asyncio.create_task(house.controller.released())
    await at(10.0)
    house.sigterm()
    assert house.controller.deadline == request.deadline == clock.START_S + 30.0
    request.end()
    assert await hook == "drained"


@in_fake_time
async def test_a_termination_after_a_manual_drain_is_over_changes_nothing_but_the_exit():
    """Drained stays drained: one drain, one report, and now the process may go."""
    house = House("none")
    house.drain()
    await house.reach(Phase.DRAINED)
    report = house.controller.report
    await at(100.0)
    house.sigterm()
    assert house.controller.may_exit
    assert house.controller.report is report
    assert house.controller.deadline == clock.START_S + 122.0


# Abandoning.


@pytest.mark.parametrize("preset", ["none", "cluster"])
@in_fake_time
async def test_abandoning_ends_a_drain_at_once(preset):
    """The application is gone, or a person insists: what is left is cut and reported."""
    house = House(preset)
    request = house.request()
    await soon()
    house.sigterm()
    await at(2.0)
    house.controller.abandon("the application is gone", Reason.UPSTREAM_GONE)
    assert house.phase is Phase.DRAINED
    await house.controller.until(lambda: house.controller.may_exit)
    assert clock.now() == 2.0
    assert request.cut_for is not None
    report = house.controller.report
    assert (report.ended_by, report.requests.cut) == ("the application is gone", 1)
    assert report.unused_s == pytest.approx(20.0)
    assert house.end_reason() == ({"upstream_gone": 1} if preset == "cluster" else {"quiet": 1})


@in_fake_time
async def test_abandoning_without_a_drain_does_nothing():
    """There is nothing to end, and work goes on."""
    house = House()
    request = house.request()
    await soon()
    house.controller.abandon("a slip of the hand")
    assert house.phase is Phase.READY
    assert request.cut_for is None
    request.end()


@in_fake_time
async def test_abandoning_twice_is_abandoning_once():
    """A person who presses Ctrl-C in anger gets one report."""
    house = House()
    house.sigterm()
    house.controller.abandon("interrupted twice")
    house.controller.abandon("interrupted twice")
    await soon()
    assert len(house.diary.of("drain_report")) == 1


@in_fake_time
async def test_no_timer_is_left_once_it_is_over():
    """Whatever armed one: a hook's window, the cap, the deadline."""
    house = House()
    hook = asyncio.create_task(house.controller.released())
    await at(1.0)
    request = house.request()
    house.sigterm()
    await at(9.0)
    request.end()
    await hook
    await soon()
    assert house.controller.may_exit
    assert house.loop.pending_timers() == []
