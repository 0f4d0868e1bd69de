"""How often the API may be asked: a few times at once, once a second sustained, less after failures.

Thousands of pods end together in a rollout, and an API server in trouble must not be asked harder by each.
One object for all that a pod asks.
"""

import asyncio
import random

BURST = 5
"""A permission check, a list, and watches of a few slices."""

GAP_S = 1.0
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 16.0


class RateLimit:
    """Loop times. Single writer: the event loop's thread."""

    def __init__(self) -> None:
        self._due = 0.0
        """When the next request would come if all came a gap apart (GCRA's theoretical arrival time)."""
        self._not_before = 0.0
        self._backoff_s = FIRST_BACKOFF_S

    async def turn(self) -> None:
        """Wait until a request may be sent, and count it."""
        now = asyncio.get_running_loop().time()
        due = max(self._due, now)
        self._due = due + GAP_S
        await asyncio.sleep(max(due - (BURST - 1) * GAP_S, self._not_before) - now)

    def worked(self) -> None:
        """An answer was worth having."""
        self._backoff_s = FIRST_BACKOFF_S

    def failed(self, retry_after_s: float | None = None) -> None:
        """An answer was none: wait longer, unevenly, and no less than the server says (RFC 9110 10.2.3)."""
        wait_s = max(self._backoff_s * random.uniform(0.5, 1.0), retry_after_s or 0.0)  # noqa: S311 - jitter
        self._not_before = asyncio.get_running_loop().time() + wait_s
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)
