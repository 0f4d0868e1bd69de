"""Something happened: one bell per lane, rung for every byte and every close.

Waiting is for an event, for quiet, or for the limit; nothing sleeps a fixed time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Bell:
    """Rung by the client's and the application's side of a lane; the lane waits on it."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Say that something happened."""
        self._rung.set()

    async def until(self, done: Callable[[], bool], *, limit_s: float, quiet_s: float | None = None) -> bool:
        """Wait until `done`, or the limit, or until nothing rang for `quiet_s`; give `done()`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        while not done():
            self._rung.clear()
            end = deadline if quiet_s is None else min(deadline, loop.time() + quiet_s)
            try:
                async with asyncio.timeout_at(end):
                    await self._rung.wait()
            except TimeoutError:
                return done()
        return True

    async def quiet(self, quiet_s: float, *, limit_s: float) -> None:
        """Wait until nothing rang for `quiet_s`."""
        await self.until(lambda: False, limit_s=limit_s, quiet_s=quiet_s)
