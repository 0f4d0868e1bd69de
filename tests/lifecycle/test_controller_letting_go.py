"""When the application may stop: after the last scrape if one is due, at the deadline in any case."""

from __future__ import annotations

import asyncio
import math

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.report import Cause
from drainproxy.proxy.shutdown import Shutdown
from tests.lifecycle.house import House, at, soon
from tests.support import clock
from tests.support.clock import in_fake_time


def scraper(house: House, until: float) -> list[tuple[bool, float]]:
    """Let a scrape be due by `until` on the clock; return what was asked: incomplete, and the latest time."""
    asked: list[tuple[bool, float]] = []

    def last_scrape(report, given: float) -> float:
        asked.append((report.incomplete, given - clock.START_S))
        return clock.START_S + until

    house.controller.hooks.last_scrape = last_scrape
    return asked


def hook(house: House) -> asyncio.Task[str]:
    """A preStop hook of the application."""
    return asyncio.create_task(house.controller.released())


@in_fake_time
async def test_the_application_is_kept_for_the_last_scrape():
    """It serves meanwhile: what is told to stop before the numbers are out answers nobody."""
    house = House("none")
    asked = scraper(house, 6.0)
    waiting = hook(house)
    house.sigterm()
    assert await house.reach(Phase.DRAINED) == pytest.approx(0.2)
    await at(5.9)
    assert not waiting.done()
    assert not house.controller.may_exit
    assert house.controller.waiting_for() == "a last scrape"
    assert await waiting == "drained"
    assert clock.now() == 6.0
    assert house.controller.may_exit
    assert house.controller.waiting_for() == "exit"
    assert asked[0] == (False, 22.0)


@in_fake_time
async def test_a_scrape_that_comes_lets_go_at_once():
    """Nothing waits for the time that was set aside for it."""
    house = House("none")
    scraper(house, 6.0)
    waiting = hook(house)
    house.sigterm()
    await at(3.0)
    scraper(house, -math.inf)
    house.controller.fetched()
    assert await waiting == "drained"
    assert clock.now() == 3.0
    assert house.loop.pending_timers() == []


@in_fake_time
async def test_who_comes_while_a_scrape_is_awaited_is_served_first():
    """The application is let go once its last request is answered."""
    house = House("none")
    scraper(house, 2.0)
    waiting = hook(house)
    house.sigterm()
    await at(1.9)
    late = house.request()
    await at(4.0)
    assert house.controller.waiting_for() == "a last scrape, 1 in flight"
    assert not waiting.done()
    late.end()
    assert await waiting == "drained"
    assert clock.now() == 4.0


@in_fake_time
async def test_the_deadline_waits_for_no_scrape():
    """The application keeps its time to stop; the process may stay for the scrape while it does."""
    house = House("none")
    scraper(house, 3600.0)
    waiting = hook(house)
    stuck = house.request()
    await soon()
    house.sigterm()
    assert await waiting == "drained"
    assert clock.now() == 22.0
    await soon()
    assert stuck.outcome == "cut"
    assert house.controller.may_exit
    assert house.controller.hooks.late_scrape_until == clock.START_S + 27.0


@pytest.mark.parametrize("late", [False, True], ids=["drained early", "finished at the last moment"])
@in_fake_time
async def test_a_drain_that_lost_nothing_keeps_no_process_after_its_application(late):
    """Only what a deadline has cut is worth the wait."""
    house = House("none")
    request = house.request()
    house.sigterm()
    await at(21.7 if late else 1.0)
    request.end()
    await house.controller.until(lambda: house.controller.may_exit)
    assert house.controller.hooks.late_scrape_until == -math.inf


@in_fake_time
async def test_a_drain_by_hand_keeps_nobody():
    """Nothing ends, so no numbers are lost."""
    house = House("none")
    asked = scraper(house, 3600.0)
    house.drain()
    waiting = hook(house)
    assert await waiting == "drained"
    assert clock.now() == pytest.approx(0.2)
    assert not asked


@in_fake_time
async def test_a_sigterm_that_comes_after_the_drain_began_leaves_no_time_for_a_scrape():
    """The containers before this one are gone, and nobody need have told us of a short grace period."""
    house = House("none")
    scraper(house, 15.0)
    house.prestop()
    await at(4.0)
    assert not house.controller.may_exit
    house.sigterm()
    await house.controller.until(lambda: house.controller.may_exit)
    assert clock.now() == 5.0


@in_fake_time
async def test_a_hook_that_still_waits_says_that_the_application_is_there():
    """Beside a plain sidecar the word of the deletion may be quicker than SIGTERM: that is no haste."""
    house = House("none")
    asked = scraper(house, 6.0)
    waiting = hook(house)
    await soon()
    house.controller.learn(Cause.DELETION)
    await at(0.1)
    house.sigterm()
    assert await waiting == "drained"
    assert clock.now() == 6.0
    assert asked[-1][1] == 22.0


@in_fake_time
async def test_a_scrape_does_not_hold_up_who_leaves():
    """Numbers fetched while the last request is served take the word of its end from nobody."""
    house = House("none")
    house.sigterm()
    await house.controller.until(lambda: house.controller.may_exit)
    last = house.request()
    await soon()
    leaving = asyncio.create_task(Shutdown([], house.controller, house.inflight, 0.2).depart())
    await soon()
    house.controller.fetched()
    await at(3.0)
    last.end()
    await leaving
    assert clock.now() == 3.0


@in_fake_time
async def test_a_second_sigterm_promises_no_more_time():
    """The kubelet gives two seconds from the first one on."""
    house = House("none")
    house.controller.learn(Cause.DELETION)
    await at(3.0)
    assert house.phase is Phase.DRAINED
    house.sigterm()
    by = Shutdown([], house.controller, house.inflight, 0.2).exit_by
    house.sigterm()
    assert Shutdown([], house.controller, house.inflight, 0.2).exit_by == by


# A grace period of five seconds.


@in_fake_time
async def test_in_five_seconds_propagation_has_its_time_and_nobody_is_refused_meanwhile():
    """kubectl delete --grace-period=5, and the pod may be read."""
    house = House("cluster")
    house.traffic(per_s=10)
    house.prestop()
    house.controller.learn(Cause.DELETION, 5)
    assert house.phase is Phase.PROPAGATING
    assert await house.reach(Phase.DRAINING) == pytest.approx(10 / 3)
    assert house.controller.published.refuse_from - clock.START_S > 5.5


@in_fake_time
async def test_beside_a_native_sidecar_work_outlasts_a_short_grace_period():
    """The application is told to stop in time and given two seconds: nothing is cut before."""
    house = House("cluster")
    request = house.request()
    await soon()
    waiting = hook(house)
    house.prestop()
    house.controller.learn(Cause.DELETION, 5)
    assert request.deadline == clock.START_S + 6.0
    assert await waiting == "the deadline has come"
    assert clock.now() == 4.5
    assert house.phase is Phase.DRAINING
    await at(5.9)
    request.end()
    await house.reach(Phase.DRAINED)
    assert request.outcome == "finished"
    house.sigterm()
    assert house.controller.may_exit


@in_fake_time
async def test_a_native_sidecar_that_is_told_when_the_grace_period_is_over_has_two_seconds():
    """The kubelet waits for the containers after it no longer than that: its application still runs."""
    house = House("cluster")
    request = house.request()
    await soon()
    house.prestop()
    house.controller.learn(Cause.DELETION, 5)
    await at(5.0)
    house.sigterm()
    assert request.deadline == clock.START_S + 6.0
    assert await house.reach(Phase.DRAINED) == 6.0
    await soon()
    assert request.outcome == "cut"


@in_fake_time
async def test_sigterm_at_once_ends_the_overtime():
    """Beside a plain sidecar, SIGKILL comes when the grace period is over."""
    house = House("cluster")
    request = house.request()
    await soon()
    house.controller.learn(Cause.DELETION, 5)
    assert request.deadline == clock.START_S + 6.0
    house.sigterm()
    assert request.deadline == clock.START_S + 4.5
    assert await house.reach(Phase.DRAINED) == 4.5
    await house.controller.until(lambda: house.controller.may_exit)
    assert clock.now() < 4.7
    assert request.outcome == "cut"
    # Nothing is left of the grace period to wait in.
    assert house.controller.hooks.late_scrape_until <= house.loop.time()


@in_fake_time
async def test_a_native_sidecar_is_not_killed_for_a_plan_that_nobody_told_was_too_long():
    """It plans for 30 s; SIGTERM after five says that they were five, and two seconds are left."""
    house = House("cluster")
    request = house.request()
    await soon()
    house.prestop()
    assert request.deadline == clock.START_S + 22.0
    await at(5.0)
    house.sigterm()
    assert request.deadline == clock.START_S + 6.5
    await house.controller.until(lambda: house.controller.may_exit)
    assert clock.now() < 6.7
    assert request.outcome == "cut"
