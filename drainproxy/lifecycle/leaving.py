"""When does each tunnel and stream leave? In a turn of its own, so that they do not come back as one herd.

Once propagation is over everything long-lived is told to leave, over a while that grows with how many there
are. Who comes later is told as it comes, and who is still there a while later is told again. Tells only;
how to leave is each Work's business.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

from drainproxy.lifecycle.budget import LEAVE_MARGIN_S
from drainproxy.lifecycle.machine import Streams

if TYPE_CHECKING:
    import asyncio

    from drainproxy.lifecycle.controller import Controller
    from drainproxy.lifecycle.inflight import InFlight, Work

EACH_S = 0.01
"""A few leave in no time; `leave_spread` is for many."""
AGAIN_S = 5.0
"""Longer than an application's usual pauses. Who has not come further in this time has stopped."""
LONG_LIVED = frozenset(("stream", "tunnel"))
"""Kinds of Work that would not end by themselves."""


def turns(count: int, spread_s: float) -> list[float]:
    """Return when each of `count` leaves, in seconds from now: one in each slot, anywhere in it."""
    slot_s = min(spread_s, EACH_S * count) / max(count, 1)
    return [(place + random.random()) * slot_s for place in range(count)]  # noqa: S311 - spreads, hides nothing


class Leaving:
    """The controller's. Written by its news and by one timer; the data plane tells it who has come."""

    def __init__(
        self, controller: Controller, inflight: InFlight, spread_s: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._controller = controller
        self._inflight = inflight
        self._spread_s = spread_s
        self._loop = loop
        self._begun = False
        self._waiting: deque[tuple[float, Work]] = deque()
        """Who has not been told, and when to."""
        self._told: deque[tuple[float, Work]] = deque()
        """Who has been, and when to tell it again."""
        controller.on_change(self._look)

    def joined(self, work: Work) -> None:
        """Long-lived work has begun."""
        if self._controller.published.policy.streams is not Streams.RUN:
            # In a turn of its own: it has only just begun, and its beginning goes out first.
            self._loop.call_soon(self._tell, work)

    def _look(self) -> None:
        published = self._controller.published
        if published.policy.streams is Streams.RUN:
            # Nobody leaves yet; or the drain was taken back, and the next one begins anew.
            self._begun = False
            self._waiting.clear()
        if self._begun or published.policy.streams is not Streams.LEAVE:
            return
        self._begun = True
        now = self._loop.time()
        leaving = [work for work in self._inflight if work.kind in LONG_LIVED]
        random.shuffle(leaving)
        spread_s = min(self._spread_s, max(0.0, published.deadline - LEAVE_MARGIN_S - now))
        at = [now + turn for turn in turns(len(leaving), spread_s)]
        self._waiting.extend(zip(at, leaving, strict=True))
        self._tell_due(self._waiting)

    def _tell(self, work: Work) -> None:
        work.leave()
        if work in self._inflight.works:
            self._told.append((self._loop.time() + AGAIN_S, work))
            if len(self._told) == 1:
                self._loop.call_later(AGAIN_S, self._tell_due, self._told)

    def _tell_due(self, turns: deque[tuple[float, Work]]) -> None:
        """Tell whose turn has come, and come back for the next one; each of the two has one timer."""
        now = self._loop.time()
        while turns and turns[0][0] <= now:
            work = turns[0][1]
            if work in self._inflight.works:
                self._tell(work)
            turns.popleft()
        if turns:
            self._loop.call_at(turns[0][0], self._tell_due, turns)
