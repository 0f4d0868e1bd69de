"""Waiting preStop hooks: does the pod end, or is only the application restarted?

A hook that asks /drain/wait is the first to know that something stops. If the pod ends, a signal follows
within moments, and the grace period has run since the hook came; if none follows, only the application was
restarted and its hook must not be kept. Written by the controller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.lifecycle.lazytimer import LazyTimer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class RestartWindow:
    """The time a first hook has to turn out to be a pod's end. Loop times, seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, length_s: float, passed: Callable[[], None]) -> None:
        self._loop = loop
        self._length_s = length_s
        self._passed = passed
        self._timer = LazyTimer(loop, self._expire)
        self.first_wait: float | None = None
        """When the first hook of what may be a termination came."""

    def open(self) -> None:
        """A hook has come; the first one starts the clock."""
        if self.first_wait is None:
            self.first_wait = self._loop.time()
            self._timer.set(self.first_wait + self._length_s)

    def close(self) -> None:
        """It is known what it was."""
        self.first_wait = None
        self._timer.cancel()

    def _expire(self) -> None:
        self.close()
        self._passed()
