"""Whose turn is it? So many requests are in the application at a time, so many wait, the rest is refused.

Exists only where `max_in_flight` is set. First come, first served; who waits is work like any other: a drain
waits for it, and a client that leaves gives its place in the queue away.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from drainproxy.errors import LimitReached, QueueFull, QueueTimeout
from drainproxy.lifecycle.lazytimer import LazyTimer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.metrics import Metrics
    from drainproxy.proxy.limits.deadlines import Deadlines
    from drainproxy.proxy.settings import ProxySettings


class Waiting(Protocol):
    """A request that wants its turn."""

    deadlines: Deadlines

    def resume(self) -> None:
        """Go on: its turn has come."""

    def refused(self, error: LimitReached) -> None:
        """There is no turn for it."""


class ConcurrencyLimit:
    """Of every listener of the process. Written by exchanges as they begin and end."""

    def __init__(self, settings: ProxySettings, loop: asyncio.AbstractEventLoop, metrics: Metrics) -> None:
        self._max_in_flight = settings.max_in_flight or 0
        self._max_queued = settings.max_queued or 0
        self._timeout_s = settings.queue_timeout
        self._loop = loop
        self._active: set[Waiting] = set()
        self._waiting: dict[Waiting, float] = {}
        """Longest first, each with the loop time until which it waits."""
        self._hold_s = settings.hold_while_down or 0.0
        self._longer: set[Waiting] = set()
        """Those whose time was over while the application was away: they wait for it as long as others."""
        self.away: Callable[[], bool] = lambda: False
        self._timer = LazyTimer(loop, self._expire)
        self._metrics = metrics
        metrics.before_scrape.append(self._refresh)

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, exchange: Waiting) -> bool:
        """Tell whether it may go on now; if not, it is resumed later, or has failed."""
        if len(self._active) < self._max_in_flight:
            self._active.add(exchange)
            return True
        if len(self._waiting) >= self._max_queued:
            exchange.refused(QueueFull())
            return False
        deadline = self._loop.time() + self._timeout_s
        self._waiting[exchange] = deadline
        exchange.deadlines.count_from(math.inf)
        if deadline < self._timer.when:
            self._timer.set(deadline)
        return False

    def leave(self, exchange: Waiting) -> None:
        """An exchange has ended; whoever has waited longest is next."""
        self._longer.discard(exchange)
        if self._waiting.pop(exchange, None) is not None or exchange not in self._active:
            return
        self._active.remove(exchange)
        if self._waiting:
            following = next(iter(self._waiting))
            del self._waiting[following]
            self._longer.discard(following)
            self._active.add(following)
            # In a turn of its own: this one has not been answered for yet.
            self._loop.call_soon(following.resume)

    def _refresh(self) -> None:
        self._metrics.requests_queued.set(self.queued)

    def _expire(self) -> None:
        now = self._loop.time()
        away = self._hold_s > 0 and self.away()
        for exchange in [one for one, deadline in self._waiting.items() if deadline <= now]:
            if away and exchange not in self._longer:
                self._longer.add(exchange)
                self._waiting[exchange] = now + self._hold_s
            else:
                del self._waiting[exchange]
                self._longer.discard(exchange)
                exchange.refused(QueueTimeout())
        self._timer.set(min(self._waiting.values(), default=math.inf))
