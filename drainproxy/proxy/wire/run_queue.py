"""Whose last read is not handled in full: they go on one after the other, and the loop turns in between.

One read may hold a hundred thousand chunks, frames or records of next to nothing, and each costs as much as
a large one. So a reader stops after READ_BUDGET of them and keeps the rest (its `backlog`); its connection is
not read from meanwhile, and goes on here, behind those who came earlier. Bytes are bounded by the read: libuv
reads up to 32 times in a turn while each read fills its buffer, so a large one is the turn's last.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

READ_BUDGET: Final = 256
"""Items that a reader handles before others have their turn: half a millisecond or so."""
LINE_BYTES: Final = 16
"""What may come in a chunk's line costs an item for each so many bytes: an extension needs two."""
LARGE_READ_BYTES: Final = 128 * 1024
"""A read of so many bytes is a turn's last, whatever is in it. uvloop's largest has 256,000."""
READERS_A_TURN: Final = 16
"""So many go on in one turn of the loop, however many wait."""
TURN_S: Final = 0.005
"""And no more once they have taken so long: some end hundreds of streams."""


class RunQueue:
    """First come, first served. One for all connections of a process."""

    __slots__ = ("_acted", "_loop", "_scheduled", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self._acted = 0
        """So many had their turn in this turn of the loop without waiting for it."""

    def in_turn(self, act: Callable[[], None]) -> None:
        """Call `act` now, or when it is its turn if many have been called in this turn of the loop: the
        kernel may tell of a thousand ends at once."""
        if self._acted >= READERS_A_TURN or self._waiting:
            self.add(act)
            return
        if not self._acted:
            self._loop.call_soon(self._turned)
        self._acted += 1
        act()

    def _turned(self) -> None:
        self._acted = 0

    def add(self, go_on: Callable[[], None]) -> None:
        """Have `go_on` called when it is its turn, and not in this turn of the loop."""
        self._waiting.append(go_on)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        waiting = self._waiting
        try:
            until = time.monotonic() + TURN_S
            for _ in range(min(len(waiting), READERS_A_TURN)):
                waiting.popleft()()
                if time.monotonic() > until:
                    break
        finally:
            # Whoever has failed is the loop's to tell of; the others go on.
            self._scheduled = bool(waiting)
            if waiting:
                self._loop.call_soon(self._run)
