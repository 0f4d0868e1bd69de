"""Long-lived work leaves once propagation is over: spread out, each once, and in time."""

from __future__ import annotations

import itertools
import math

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.reconnect_spread import turns
from tests.lifecycle.house import House, at, soon
from tests.support import clock
from tests.support.clock import in_fake_time


class Talk:
    """A Work that notes when it is told to leave, and stays unless it is to go."""

    started = 0.0
    deadline = math.inf

    def __init__(self, house: House, kind: str = "tunnel", *, goes: bool = True) -> None:
        self.kind = kind
        self.told: list[float] = []
        self._house = house
        self._goes = goes
        house.inflight.add(self)
        house.controller.reconnect_spread.joined(self)

    def drain_by(self, deadline: float) -> None:
        """It has no time of its own."""

    def leave(self) -> None:
        """Note it, and go."""
        self.told.append(clock.now())
        if self._goes:
            self._house.inflight.discard(self)

    def cut(self, reason: str) -> None:
        """Go."""
        self._house.inflight.discard(self)

    def describe(self) -> dict[str, str]:
        """Nothing to say."""
        return {}


@pytest.mark.parametrize(("count", "within_s"), [(0, 0), (1, 0.01), (20, 0.2), (500, 5.0), (5000, 5.0)])
def test_a_herd_is_spread_evenly(count, within_s):
    """10 ms each up to the spread; a twentieth of the time holds no more than its share and one over."""
    when = turns(count, 5.0)
    assert len(when) == count
    assert when == sorted(when)
    assert all(0 <= moment <= within_s for moment in when)
    for part in range(20):
        lower, upper = part * within_s / 20, (part + 1) * within_s / 20
        assert sum(lower <= moment < upper for moment in when) <= count / 20 + 1


def test_no_spread_is_no_time():
    """With `leave_spread` 0 all are told at once."""
    assert turns(3, 0.0) == [0.0, 0.0, 0.0]


@in_fake_time
async def test_long_lived_work_is_told_after_propagation_once_and_requests_are_not():
    """Told earlier, it would come back to a pod that is leaving."""
    house = House("cluster")
    talks = [Talk(house, kind) for kind in ("tunnel", "stream") * 250]
    request, frames = Talk(house, "http", goes=False), Talk(house, "http2", goes=False)
    house.traffic(per_s=10)
    house.sigterm()
    began = await house.reach(Phase.DRAINING)
    assert not any(talk.told for talk in talks)
    await at(began + 5.001)
    assert {len(talk.told) for talk in talks} == {1}
    times = sorted(talk.told[0] for talk in talks)
    assert began <= times[0] < times[-1] <= began + 5
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= 0.02
    assert not request.told
    assert not frames.told


@in_fake_time
async def test_the_spread_leaves_time_to_say_goodbye_before_the_deadline():
    """A drain that has used up its time is in a hurry."""
    house = House("none", grace_period=12.0, leave_spread=60.0)
    talks = [Talk(house) for _ in range(6000)]
    house.sigterm()
    await at(12.0)
    # app_stop 2 and reserve 1.2: the sum is far too long for the grace period.
    deadline = 12.0 - 2.0 - 1.2
    assert max(talk.told[0] for talk in talks) <= deadline - 2.0


@in_fake_time
async def test_who_begins_while_others_leave_or_have_left_is_told_at_once():
    """Its turn has been."""
    house = House("none")
    stays = Talk(house, goes=False)
    house.sigterm()
    await at(1.0)
    late = Talk(house, "stream", goes=False)
    assert not late.told
    await soon()
    assert late.told == [1.0]
    assert len(stays.told) == 1
    stays.cut("")
    late.cut("")
    await house.reach(Phase.DRAINED)
    later = Talk(house)
    await soon()
    assert len(later.told) == 1


@in_fake_time
async def test_who_is_still_there_is_told_again_every_five_seconds():
    """What it is worth is the work's business; who has gone is not told."""
    house = House("none", grace_period=60.0, leave_spread=0.0)
    stays, goes = Talk(house, goes=False), Talk(house)
    house.sigterm()
    await at(7.0)
    late = Talk(house, "stream", goes=False)
    await at(18.0)
    began = stays.told[0]
    assert stays.told == pytest.approx([began, began + 5, began + 10, began + 15])
    assert late.told == pytest.approx([7.0, 12.0, 17.0])
    assert len(goes.told) == 1
    for talk in (stays, late):
        talk.cut("")
    await house.reach(Phase.DRAINED)
    await at(30.0)
    assert len(stays.told) == 4


@in_fake_time
async def test_nobody_is_told_by_a_drain_that_is_taken_back():
    """`undrain` comes while the cluster forgets: nobody has left yet."""
    house = House("cluster")
    talk = Talk(house)
    house.drain()
    await at(1.0)
    assert house.controller.resume() is None
    await at(60.0)
    assert not talk.told
    house.inflight.discard(talk)


@in_fake_time
async def test_the_drain_after_one_that_was_taken_back_at_its_end_tells_everybody_again():
    """Once a drain, not once a process."""
    house = House("none")
    first = Talk(house)
    house.drain()
    await house.reach(Phase.DRAINED)
    assert len(first.told) == 1
    assert house.controller.resume() is None
    second = Talk(house)
    await soon()
    assert not second.told
    await at(100.0)
    house.drain()
    await house.reach(Phase.DRAINED)
    assert (len(first.told), len(second.told)) == (1, 1)
