"""When is everything looked through for circles of objects that nobody holds? When few clients are here.

The interpreter would do it as its heap grows, which is while a crowd comes: a tenth of a second and more for
five thousand clients, in which nobody is served, and again after each quarter more of them. What a client
leaves is no circle and goes by itself (tests/proxy/test_freed.py), so there is next to nothing to find, and
it may wait; what is young is looked through as ever, a few thousand objects at a time. Run by app.py, and
called by buffers.py.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from drainproxy.tasks import next_tick, sleep_until

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET_BYTES = 2 * 1024 * 1024
"""So much is held for few clients: looking through all they have takes some milliseconds."""
LONGEST_S = 300.0
"""It waits no longer for few to be here."""
NEVER = (1 << 31) - 1
"""By the interpreter itself. CPython 3.14 does it piece by piece, and does not ask."""


class Garbage:
    """Of one process."""

    def __init__(self) -> None:
        """What is here now stays to the end: it is not looked at again."""
        young, middle, self._due = gc.get_threshold()
        gc.set_threshold(young, middle, NEVER)
        self._looked_at = time.monotonic()
        gc.collect()
        gc.freeze()

    async def watch(self, held_bytes: Callable[[], int]) -> None:
        """Look through everything now and then, where the interpreter would have."""
        while True:
            await sleep_until(next_tick())
            self.look(held_bytes())

    def look(self, held_bytes: int) -> None:
        """Look through everything, if it is due and so much is held for clients."""
        waited_s = time.monotonic() - self._looked_at
        # How often what is neither young nor old was looked through since: nothing has come of fewer.
        if gc.get_count()[2] >= self._due and (held_bytes < QUIET_BYTES or waited_s >= LONGEST_S):
            gc.collect()
            self._looked_at = time.monotonic()
