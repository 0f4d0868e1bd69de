"""How late a loop runs its timers: whether who measures had the time to."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EVERY_S = 0.02


class Lateness:
    """The worst of one loop."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    @contextlib.asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """Look for the length of the block."""
        looking = asyncio.ensure_future(self._look())
        try:
            yield
        finally:
            looking.cancel()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.worst_s = max(self.worst_s, loop.time() - due)
