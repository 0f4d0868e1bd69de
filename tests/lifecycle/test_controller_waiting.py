"""Applications' preStop hooks: they wait for a drain, begin none, and are not kept by a restart."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy.lifecycle.machine import Phase
from tests.lifecycle.house import House, at, soon
from tests.support import clock
from tests.support.clock import in_fake_time


async def answered(house: House) -> tuple[str, float]:
    """What a hook that asks now is told, and when."""
    word = await house.controller.released()
    return word, clock.now()


@pytest.mark.parametrize("begin", [House.sigterm, House.prestop, House.drain])
@in_fake_time
async def test_a_hook_is_answered_when_drained(begin):
    """The application gets its SIGTERM when nobody needs it any more."""
    house = House("none")
    request = house.request()
    await soon()
    begin(house)
    hook = asyncio.create_task(answered(house))
    await at(9.0)
    request.end()
    assert await hook == ("drained", 9.0)


@in_fake_time
async def test_a_hook_is_answered_at_the_deadline_at_the_latest():
    """The application needs its `app_stop` too."""
    house = House("none")
    request = house.request()
    await soon()
    house.sigterm()
    assert await answered(house) == ("drained", 22.0)
    request.end()


@in_fake_time
async def test_a_hook_that_comes_after_the_drain_is_answered_at_once():
    """Hooks are delivered at least once."""
    house = House("none")
    house.sigterm()
    await house.reach(Phase.DRAINED)
    await at(5.0)
    assert await answered(house) == ("drained", 5.0)


@pytest.mark.parametrize("begin", [House.sigterm, House.prestop, House.drain])
@in_fake_time
async def test_a_hook_before_the_signal_waits_for_the_drain_that_follows(begin):
    """Hooks and signals of one termination come in any order."""
    house = House("none")
    request = house.request()
    hook = asyncio.create_task(answered(house))
    await at(4.9)
    begin(house)
    await at(12.0)
    request.end()
    assert await hook == ("drained", 12.0)


@in_fake_time
async def test_a_hook_without_a_signal_was_a_restart_of_the_application():
    """Nothing drains and nothing is refused: it is answered after `restart_window`, and logged."""
    house = House("none")
    assert await answered(house) == ("not draining", 5.0)
    assert house.phase is Phase.READY
    assert [line.at for line in house.diary.of("restart")] == [5.0]
    assert house.diary.of("drain_plan") == []


@in_fake_time
async def test_hooks_of_several_containers_share_one_window():
    """It is the first one that may have been the pod's end."""
    house = House("none")
    first = asyncio.create_task(answered(house))
    await at(3.0)
    second = asyncio.create_task(answered(house))
    assert await first == ("not draining", 5.0)
    assert await second == ("not draining", 5.0)
    assert len(house.diary.of("restart")) == 1


@in_fake_time
async def test_a_second_restart_has_its_own_window():
    """A crash loop must not lend its hooks to each other."""
    house = House("none")
    assert await answered(house) == ("not draining", 5.0)
    await at(7.0)
    assert await answered(house) == ("not draining", 12.0)


@in_fake_time
async def test_a_signal_after_the_window_has_its_own_clock():
    """The restart before had nothing to do with it."""
    house = House("none")
    await house.controller.released()
    await at(6.0)
    house.sigterm()
    assert house.controller.deadline == clock.START_S + 28.0


@in_fake_time
async def test_a_hook_during_a_drain_does_not_move_its_clock():
    """The first sign of a termination was the signal."""
    house = House()
    house.sigterm()
    await at(2.0)
    hook = asyncio.create_task(answered(house))
    await soon()
    assert house.controller.deadline == clock.START_S + 22.0
    await hook


@in_fake_time
async def test_a_hook_that_hangs_up_leaves_nothing_behind():
    """The kubelet does, at the end of the grace period."""
    house = House("none")
    before = list(house.controller._listeners)
    hook = asyncio.create_task(answered(house))
    await soon()
    hook.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hook
    assert house.controller._listeners == before
    await at(60.0)
    assert house.phase is Phase.READY


@in_fake_time
async def test_waiting_begins_no_drain():
    """Anyone on the pod network may ask."""
    house = House("none")
    hooks = [asyncio.create_task(answered(house)) for _ in range(64)]
    await at(4.0)
    assert house.phase is Phase.READY
    assert house.controller.ready
    assert not house.controller.published.draining
    assert {await hook for hook in hooks} == {("not draining", 5.0)}
