"""Requests wait here while the application restarts: each so long as it was given, and nothing of it is sent.

Of one application. Who waits is woken by what its pool knows (presence.py), in the order in which they came;
nobody here asks whether it is back. How many may wait is bounded elsewhere: each has a client's connection,
a turn where turns are counted, and its place in the account of buffers. Called by connector.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.metrics import HoldEnded, Metrics
    from drainproxy.proxy.upstream.presence import Presence


class Held(Protocol):
    """What waits: a request, or a connection that has to reach the application."""

    def held(self, *, on: bool) -> None:
        """It waits from now on, and the application cannot be late meanwhile; or goes on."""


class Hold:
    """Written by those who wait, on the loop's thread."""

    def __init__(self, presence: Presence, loop: asyncio.AbstractEventLoop, metrics: Metrics) -> None:
        self._presence = presence
        self._loop = loop
        self._metrics = metrics
        self._waiting: dict[asyncio.Future[None], None] = {}
        metrics.use(metrics.requests_held, metrics.held, metrics.held_seconds)
        presence.on_change.append(self._wake)

    @contextlib.contextmanager
    def one(self, waits: Held | None) -> Iterator[None]:
        """Count one that waits, for the length of the block; it ends without an exception once it is back."""
        began = self._loop.time()
        outcome: HoldEnded = "left"
        self._count(1)
        if waits is not None:
            waits.held(on=True)
        try:
            yield
            outcome = "back"
        except Exception:
            outcome = "in_vain"
            raise
        finally:
            self._count(-1)
            self._ended(outcome, self._loop.time() - began)

    async def back(self, until: float) -> bool:
        """Wait until the application accepts connections, or loop time `until`; return whether it does."""
        while self._presence.fallen:
            woken: asyncio.Future[None] = self._loop.create_future()
            self._waiting[woken] = None
            try:
                async with asyncio.timeout_at(until):
                    await woken
            except TimeoutError:
                return not self._presence.fallen
            finally:
                self._waiting.pop(woken, None)
        return self._loop.time() < until

    def _wake(self) -> None:
        if not self._presence.fallen:
            for woken in self._waiting:
                if not woken.done():
                    woken.set_result(None)

    def _count(self, change: int) -> None:
        gauge = self._metrics.requests_held
        gauge.set(gauge.value() + change)

    def _ended(self, outcome: HoldEnded, after_s: float) -> None:
        self._metrics.held.inc(outcome)
        self._metrics.held_seconds.observe(after_s)
