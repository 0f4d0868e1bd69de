"""The last moment of a drain: what the deadline caught is cut, and the one report is written.

The report waits until everything that was cut has said how it ended, for a moment only. Called by the
controller when the phase becomes drained.
"""

from __future__ import annotations

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


class Ending:
    """Written by the controller; `report` stays None until the drain has one."""

    def __init__(
        self,
        *,
        inflight: InFlight,
        metrics: Metrics,
        log: Log,
        loop: asyncio.AbstractEventLoop,
        written: Callable[[], None],
    ) -> None:
        self._inflight = inflight
        self._metrics = metrics
        self._log = log
        self._loop = loop
        self._written = written
        self._timer: asyncio.TimerHandle | None = None
        self.report: Report | None = None

    def begin(self, drain: Drain, evidence: Evidence, *, why: str, unused_s: float, cut: bool) -> None:
        """End `drain` now. `cut`: its deadline has come, and what is in flight goes with it."""
        self._metrics.drain_unused.set(unused_s)
        self._inflight.on_empty = None
        write = partial(self._write, drain, evidence, why, self._loop.time(), unused_s)
        if not cut or not len(self._inflight):
            write()
            return
        self._inflight.on_empty = partial(self._loop.call_soon, write)
        self._timer = self._loop.call_later(CUT_WITHIN_S, write)
        for work in self._inflight:
            work.cut("drain-deadline")

    def _write(self, drain: Drain, evidence: Evidence, why: str, now: float, unused_s: float) -> None:
        if self.report is not None:
            return
        self._inflight.on_empty = None
        if self._timer is not None:
            self._timer.cancel()
        self.report = drain.report(
            now=now, unused_s=unused_s, ended_by=why, evidence=evidence, metrics=self._metrics
        )
        self._log.event("drain_report", **self.report.fields())
        self._written()
