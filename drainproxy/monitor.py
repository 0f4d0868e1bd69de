"""Does the process itself keep up? How late its event loop is, whether the clock of its log leaps, and how
many lines it could not write.

Knows nothing of requests. app.py runs it as a service.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from drainproxy.tasks import next_tick, sleep_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.log import Log
    from drainproxy.metrics import Metrics

LAG_TOLD_S = 0.5
"""So late is worth a line: clients and probes have begun to notice."""
LEAP_TOLD_S = 0.5
"""No daemon slews a clock so far in a tick."""


class Monitor:
    """Of one process."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log
        self.each_tick: Callable[[], None] = _nothing
        """Whoever counts by the clock does so when the process is awake for this."""
        log.on_dropped = metrics.log_lines_dropped.inc
        metrics.before_scrape.append(self._refresh)

    async def run(self) -> None:
        """Say when time itself goes wrong: the loop stands still, or the clock of the log's stamps leaps."""
        loop = asyncio.get_running_loop()
        offset_s = time.time() - time.monotonic()
        while True:
            await sleep_until(due := next_tick())
            late_s = max(0.0, loop.time() - due)
            self._metrics.event_loop_lag_seconds.observe(late_s)
            self.each_tick()
            if late_s >= LAG_TOLD_S:
                # A CPU limit that throttles, a node that is too full: whoever looks for lost time finds it.
                self._log.condition("event_loop", "event_loop", late_s=round(late_s, 3))
            leap_s = time.time() - time.monotonic() - offset_s
            offset_s += leap_s
            if abs(leap_s) >= LEAP_TOLD_S:
                self._metrics.clock_leaps.inc()
                self._log.condition("clock", "clock", leap_s=round(leap_s, 3))

    def _refresh(self) -> None:
        self._metrics.log_lines_dropped.values["unwritten",] = self._log.unwritten


def _nothing() -> None: ...
