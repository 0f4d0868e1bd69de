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


async def _drained(house: House) -> None:
    house.drain()
    await house.reach(Phase.DRAINED)


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
    "draining": (_draining, "draining cannot be taken back"),
    "drained": (_drained, "drained cannot be taken back"),
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
