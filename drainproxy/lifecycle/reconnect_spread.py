"""When does each tunnel and stream leave? In a turn of its own, so that they do not come back as one herd.

Once propagation is over everything long-lived is told to leave, over a while that grows with how many there
are. Who comes later is told as it comes, and who is still there a while later is told again. Tells only;
how to leave is each Work's business.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

from drainproxy.lifecycle.machine import Streams

if TYPE_CHECKING:
    import asyncio

    from drainproxy.lifecycle.budget import Plan
    from drainproxy.lifecycle.inflight import InFlight, Work
    from drainproxy.lifecycle.notifier import Notifier

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


class ReconnectSpread:
    """The controller's. Written by its news and by one timer; the data plane tells it who has come."""

    def __init__(
        self, news: Notifier, plan: Plan, inflight: InFlight, spread_s: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._news = news
        self._plan = plan
        self._inflight = inflight
        self._spread_s = spread_s
        self._loop = loop
        self._begun = False
        self._waiting: deque[tuple[float, Work]] = deque()
        """Who has not been told, and when to."""
        self._told: deque[tuple[float, Work]] = deque()
        """Who has been, and when to tell it again."""
        self._again: asyncio.TimerHandle | None = None
        news.on_change(self._look)

    def joined(self, work: Work) -> None:
        """Long-lived work has begun."""
        if self._news.published.policy.streams is not Streams.RUN:
            # In a turn of its own: it has only just begun, and its beginning goes out first.
            self._loop.call_soon(self._tell, work)

    def _look(self) -> None:
        published = self._news.published
        if published.policy.streams is Streams.RUN:
            # Nobody leaves yet; or the drain was taken back, and the next one begins anew.
            self._begun = False
            self._waiting.clear()
            self._told.clear()
        if self._begun or published.policy.streams is not Streams.LEAVE:
            return
        self._begun = True
        now = self._loop.time()
        leaving = [work for work in self._inflight if work.kind in LONG_LIVED]
        random.shuffle(leaving)
        last = published.deadline - self._plan.budget.leave_margin_s
        spread_s = min(self._spread_s, max(0.0, last - now))
        at = [now + turn for turn in turns(len(leaving), spread_s)]
        self._waiting.extend(zip(at, leaving, strict=True))
        self._tell_next()

    def _tell_next(self) -> None:
        """Tell whose turn has come."""
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self._tell(self._waiting.popleft()[1])
        if self._waiting:
            self._loop.call_at(self._waiting[0][0], self._tell_next)

    def _tell(self, work: Work) -> None:
        if work in self._inflight.works:
            work.leave()
        if work in self._inflight.works:
            self._told.append((self._loop.time() + AGAIN_S, work))
            self._look_again_later()

    def _tell_again(self) -> None:
        """Tell who was told a while ago and is still there."""
        self._again = None
        now = self._loop.time()
        while self._told and self._told[0][0] <= now:
            self._tell(self._told.popleft()[1])
        self._look_again_later()

    def _look_again_later(self) -> None:
        if self._told and self._again is None:
            # Timers run before sockets are read: after a stall of ours, what has come meanwhile comes first.
            soon = self._loop.call_soon
            self._again = self._loop.call_at(self._told[0][0], soon, soon, self._tell_again)
