"""The last moment of a drain: what the deadline caught is cut, and the one report is written.

The report waits until everything that was cut has said how it ended, for a moment only. Called by the
controller when the phase becomes drained.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.lifecycle.drain import Drain
    from drainproxy.lifecycle.inflight import InFlight
    from drainproxy.lifecycle.propagation import Evidence
    from drainproxy.lifecycle.report import Report
    from drainproxy.log import Log
    from drainproxy.metrics import Metrics

CUT_WITHIN_S = 0.5
"""How long work that was cut may take to end before the report is written without it."""


@dataclass
class Ending:
    """Written by the controller; `report` stays None until the drain has one."""

    inflight: InFlight
    metrics: Metrics
    log: Log
    loop: asyncio.AbstractEventLoop
    written: Callable[[], None]
    report: Report | None = None
    _timer: asyncio.TimerHandle | None = None

    def begin(self, drain: Drain, evidence: Evidence, *, why: str, unused_s: float, cut: bool) -> None:
        """End `drain` now. `cut`: its deadline has come, and what is in flight goes with it."""
        self.metrics.drain_unused_seconds.set(unused_s)
        self.inflight.on_empty = None
        closed = partial(drain.report, evidence, now=self.loop.time(), unused_s=unused_s, ended_by=why)
        if not cut or not len(self.inflight):
            self._write(closed)
            return
        self.inflight.on_empty = partial(self.loop.call_soon, self._write, closed)
        self._timer = self.loop.call_later(CUT_WITHIN_S, self._write, closed)
        for work in self.inflight:
            work.cut("drain-deadline")

    def _write(self, closed: Callable[[], Report]) -> None:
        if self.report is not None:
            return
        self.inflight.on_empty = None
        if self._timer is not None:
            self._timer.cancel()
        self.report = closed()
        self.log.event("drain_report", **self.report.fields())
        self.written()
