"""Is it worth asking the application for a connection? Not for a while after several were refused.

Counts refusals only, and only in a row: an application that lets callers wait, or takes some connections, is
slow, not gone. Requests on connections that stand are never asked about.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from drainproxy.errors import BreakerOpen

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

FAILURES: Final = 5
"""In a row; one alone may be a restart that is over at the next attempt."""


class Breaker:
    """Of one application. Written by its pool."""

    def __init__(self, cooldown_s: float | None, loop: asyncio.AbstractEventLoop) -> None:
        """`cooldown_s` None: never opens."""
        self._cooldown_s = cooldown_s
        self._loop = loop
        self._failures = 0
        self._until = -math.inf
        self.open = False
        self.on_change: Callable[[], None] = lambda: None

    def admit(self) -> None:
        """Let an attempt through; while open, after each cool-down. Raises BreakerOpen.

        Nobody is refused for somebody else's attempt: that one may have to wait for an answer.
        """
        if self.open and self._loop.time() < self._until:
            raise BreakerOpen

    def failed(self) -> None:
        """A connect was refused."""
        self._failures += 1
        if self._cooldown_s is not None and self._failures >= FAILURES:
            self._until = self._loop.time() + self._cooldown_s
            self._set(is_open=True)

    def connected(self) -> None:
        """A connect has succeeded, a probe's too."""
        self._failures = 0
        self._set(is_open=False)

    def _set(self, *, is_open: bool) -> None:
        if self.open is not is_open:
            self.open = is_open
            self.on_change()
