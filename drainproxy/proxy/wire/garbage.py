"""When is everything looked through for circles of objects that nobody holds? When few clients are here.
And when is memory given back that nobody is told to hold? Soon after there is much of it.

The interpreter would do it as its heap grows, which is while a crowd comes: a tenth of a second and more for
five thousand clients, in which nobody is served, and again after each quarter more of them. What a client
leaves is no circle and goes by itself (tests/proxy/test_freed.py), so there is next to nothing to find, and
it may wait; what is young is looked through some thousand objects at a time. What was
held for a moment, so that the account (buffers.py) has not seen it, is free memory of the C library's. Run by
app.py.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Final

from drainproxy.proxy.wire.allocator import give_back, resident_bytes
from drainproxy.tasks import next_tick, sleep_until

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET_BYTES: Final = 2 * 1024 * 1024
"""So much is held for few clients: looking through all they have takes some milliseconds."""
LONGEST_S: Final = 300.0
"""It waits no longer for few to be here."""
YOUNG_OBJECTS: Final = 10_000
"""So many more than before, and the interpreter looks through what is young. 64 requests that are answered at
once are more than the 700 that it has by itself: it looked at nearly each of their turns, for 2 us a request
and up to 1 ms at once."""
DUE: Final = 3
"""After so many looks at what is neither young nor old, of two times YOUNG_OBJECTS each, everything is looked
through: as often as by the interpreter's own numbers."""
NEVER: Final = (1 << 31) - 1
"""By the interpreter itself. CPython 3.14 does it piece by piece, and does not ask."""

FREE_BYTES: Final = 2 * 1024 * 1024
"""So much more than it was, beyond what is held, is worth giving back."""
GIVE_BACK_EVERY_S: Final = 3.0
"""And no sooner again: bodies that pass need it at once, and the kernel fills it with zeros."""
MAX_WAIT_S: Final = 60.0
"""Where there was little to give back, it is tried less and less often."""


class Garbage:
    """Of one process."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        """What is here now stays to the end: it is not looked at again."""
        self._longest_s = longest_s
        gc.set_threshold(YOUNG_OBJECTS, 1, NEVER)
        self._looked_at = time.monotonic()
        gc.collect()
        gc.freeze()
        self._least_bytes = resident_bytes()
        """Resident beyond what is held, at the least."""
        self._free_bytes = 0
        """The same, when it was given back last."""
        self._wait_s = GIVE_BACK_EVERY_S
        self._next_at = 0.0

    async def watch(self, held_bytes: Callable[[], int]) -> None:
        """Look through everything now and then, where the interpreter would have."""
        while True:
            await sleep_until(next_tick())
            held = held_bytes()
            self.look(held)
            self.give_back(held)

    def look(self, held_bytes: int) -> None:
        """Look through everything, if it is due and so much is held for clients."""
        waited_s = time.monotonic() - self._looked_at
        # How often what is neither young nor old was looked through since: nothing has come of fewer.
        if gc.get_count()[2] >= DUE and (held_bytes < QUIET_BYTES or waited_s >= self._longest_s):
            gc.collect()
            self._looked_at = time.monotonic()

    def give_back(self, held_bytes: int) -> None:
        """Give back what is free, if it is much and was not done a moment ago."""
        free, now = resident_bytes() - held_bytes, time.monotonic()
        self._least_bytes = min(self._least_bytes, free)
        if free <= self._least_bytes + FREE_BYTES:
            self._wait_s = GIVE_BACK_EVERY_S
            return
        if abs(free - self._free_bytes) > FREE_BYTES // 2:
            # It is not what could not be given back the last time.
            self._next_at -= self._wait_s - GIVE_BACK_EVERY_S
            self._wait_s = GIVE_BACK_EVERY_S
        if now >= self._next_at:
            if held_bytes < QUIET_BYTES:
                # It empties the interpreter's free lists: one tuple of two thousand keeps a page.
                gc.collect()
            give_back()
            self._free_bytes = resident_bytes() - held_bytes
            gained = free - self._free_bytes
            # What is not free may be soon: those who leave do so in their turn. Or it is needed now.
            self._wait_s = (
                GIVE_BACK_EVERY_S if gained > FREE_BYTES // 4 else min(2 * self._wait_s, MAX_WAIT_S)
            )
            self._next_at = now + self._wait_s
