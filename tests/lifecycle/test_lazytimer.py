"""LazyTimer: fires once its moment has come, and asks the loop for as little as that needs."""

from __future__ import annotations

import asyncio
import math
from weakref import ref

from drainproxy.lifecycle.lazytimer import LazyTimer, OwnedTimer
from tests.support import clock
from tests.support.clock import in_fake_time


class Bell:
    """A timer, and the seconds at which it rang."""

    def __init__(self) -> None:
        self.rang: list[float] = []
        self.loop = asyncio.get_running_loop()
        self.timer = LazyTimer(self.loop, lambda: self.rang.append(clock.now()))

    def set(self, second: float) -> None:
        """Have it ring when the clock shows `second`."""
        self.timer.set(self.loop.time() - clock.now() + second)

    def pending(self) -> int:
        """How many timers the loop holds for it."""
        assert isinstance(self.loop, clock.ClockLoop)
        return len(self.loop.pending_timers())


@in_fake_time
async def test_it_rings_once_at_its_moment() -> None:
    """Not before, and not again."""
    bell = Bell()
    bell.set(5)
    await asyncio.sleep(4.9)
    assert bell.rang == []
    await asyncio.sleep(60)
    assert bell.rang == [5]
    assert bell.timer.when == math.inf


@in_fake_time
async def test_a_moment_that_moves_back_rings_late() -> None:
    """The nearer moment passes in silence."""
    bell = Bell()
    bell.set(5)
    await asyncio.sleep(1)
    bell.set(9)
    await asyncio.sleep(60)
    assert bell.rang == [9]


@in_fake_time
async def test_a_moment_that_comes_nearer_rings_early() -> None:
    """And the later one never."""
    bell = Bell()
    bell.set(9)
    bell.set(5)
    await asyncio.sleep(60)
    assert bell.rang == [5]


@in_fake_time
async def test_moving_back_costs_the_loop_nothing() -> None:
    """A thousand requests on a connection hold one timer."""
    bell = Bell()
    for number in range(1000):
        bell.set(100 + number)
    assert bell.pending() == 1


@in_fake_time
async def test_never_is_never() -> None:
    """Infinity takes a moment back."""
    bell = Bell()
    bell.set(5)
    bell.timer.set(math.inf)
    await asyncio.sleep(60)
    assert bell.rang == []


@in_fake_time
async def test_a_moment_set_after_never_rings() -> None:
    """Also when the loop's timer has fired in vain meanwhile."""
    bell = Bell()
    bell.set(5)
    bell.timer.set(math.inf)
    await asyncio.sleep(6)
    bell.set(10)
    await asyncio.sleep(60)
    assert bell.rang == [10]


@in_fake_time
async def test_a_moment_that_has_passed_rings_at_once() -> None:
    """Late is better than never."""
    bell = Bell()
    await asyncio.sleep(3)
    bell.set(1)
    await asyncio.sleep(0.001)
    assert [round(at, 2) for at in bell.rang] == [3]


@in_fake_time
async def test_cancelled_it_holds_nothing() -> None:
    """A closed connection leaves nothing in the loop."""
    bell = Bell()
    bell.set(5)
    bell.timer.cancel()
    assert bell.pending() == 0
    await asyncio.sleep(60)
    assert bell.rang == []


@in_fake_time
async def test_it_can_be_set_again_from_within() -> None:
    """Ringing is when the next moment is decided."""
    bell = Bell()

    def again() -> None:
        bell.rang.append(clock.now())
        if len(bell.rang) < 3:
            bell.set(clock.now() + 2)

    bell.timer = LazyTimer(bell.loop, again)
    bell.set(1)
    await asyncio.sleep(60)
    assert bell.rang == [1, 3, 5]


class Owner:
    """Holds its timer."""

    def __init__(self) -> None:
        self.expirations = 0
        self.timer = OwnedTimer(asyncio.get_running_loop(), self)

    def expired(self) -> None:
        """See Expires."""
        self.expirations += 1


@in_fake_time
async def test_an_owned_timer_rings_at_its_owner_until_that_ends_it() -> None:
    """Its owner goes with the last that needs it, though the timer is set, and set again."""
    owner = Owner()
    timer = owner.timer
    timer.set(timer._loop.time() + 5)
    await asyncio.sleep(6)
    assert owner.expirations == 1
    timer.set(timer._loop.time() + 5)
    timer.end()
    timer.set(timer._loop.time() + 5)
    gone = ref(owner)
    del owner
    assert gone() is None
    await asyncio.sleep(6)


@in_fake_time
async def test_a_timer_that_was_ended_never_rings() -> None:
    """Whatever is set."""
    bell = Bell()
    bell.set(5)
    bell.timer.end()
    bell.set(6)
    await asyncio.sleep(60)
    assert bell.rang == []
