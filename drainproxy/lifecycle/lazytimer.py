"""A timer that is re-armed lazily: a deadline that moves back costs an assignment.

A connection's deadlines move at every request and its timer almost never fires, so the loop is asked only
when a deadline comes nearer than the one it was last asked for.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol


class Expires(Protocol):
    """Has a time."""

    def expired(self) -> None:
        """It is up."""


class LazyTimer:
    """Calls `expired` once loop time has reached `when`."""

    __slots__ = ("_armed_for", "_expired", "_handle", "_loop", "when")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = math.inf
        self.when = math.inf

    def set(self, when: float) -> None:
        """Expire at loop time `when`; `math.inf` for never."""
        self.when = when
        if when < self._armed_for:
            if self._handle is not None:
                self._handle.cancel()
            self._arm()

    def wake_by(self, when: float) -> None:
        """Expire at loop time `when`, or earlier."""
        if when < self.when:
            self.set(when)

    def cancel(self) -> None:
        """Never expire, and hold nothing."""
        self.when = self._armed_for = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def end(self) -> None:
        """Never expire again, whatever is set."""
        self.cancel()
        self._expired = _nothing

    def _arm(self) -> None:
        self._armed_for = self.when
        self._handle = self._loop.call_at(self.when, self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._armed_for = math.inf
        if self.when == math.inf:
            return
        if self._loop.time() < self.when:
            self._arm()
        else:
            self.when = math.inf
            self._call()

    def _call(self) -> None:
        self._expired()


class OwnedTimer(LazyTimer):
    """Calls `owner.expired`, until its owner ends it: it belongs to that, and a circle of the two would be
    freed by nobody but the collector."""

    __slots__ = ("_owner",)

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Expires) -> None:
        super().__init__(loop, _nothing)
        self._owner: Expires | None = owner

    def _call(self) -> None:
        if self._owner is not None:
            self._owner.expired()

    def end(self) -> None:
        """See LazyTimer."""
        super().end()
        self._owner = None


def _nothing() -> None: ...
