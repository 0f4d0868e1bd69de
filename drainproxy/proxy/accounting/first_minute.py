"""How long did requests take while the pod was young? Counted apart in its first minute of being ready.

They are in the histogram of all requests too, as of each scrape; counting them costs none a further call.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.lifecycle.port import Lifecycle
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.accounting.accounting import Accounting

MINUTE_S: Final = 60.0


class FirstMinute:
    """Of a process, from its start."""

    def __init__(self, books: Sequence[Accounting], lifecycle: Lifecycle, metrics: Metrics) -> None:
        self._books = books
        self._lifecycle = lifecycle
        self._all, self._young = metrics.request_duration_seconds, metrics.first_minute_duration_seconds
        self._merged = [0] * len(self._young.counts)
        self._merged_sum = 0.0
        self._begun = False
        for each in books:
            each.durations = self._young
        metrics.use(self._young)
        # Not behind a scrape's other preparations: nothing waits for it.
        metrics.before_scrape.append(self._merge)
        lifecycle.on_change(self._look)

    def _look(self) -> None:
        if self._lifecycle.ready and not self._begun:
            self._begun = True
            asyncio.get_running_loop().call_later(MINUTE_S, self._end)

    def _end(self) -> None:
        for each in self._books:
            each.durations = self._all

    def _merge(self) -> None:
        """Have them among all requests."""
        young = self._young
        for place, (count, merged) in enumerate(zip(young.counts, self._merged, strict=True)):
            self._all.counts[place] += count - merged
        self._all.sum += young.sum - self._merged_sum
        self._merged, self._merged_sum = list(young.counts), young.sum
