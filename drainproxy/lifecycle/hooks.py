"""The application's preStop hooks: who waits at /drain/wait, and when may the application stop?

When the drain is over and its last numbers have been fetched, if a scraper is due; at the drain's deadline
in any case. Until then the application serves whoever still comes. The controller's; it asks at every change.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from drainproxy.lifecycle.budget import MIN_STOP_S
from drainproxy.lifecycle.lazytimer import LazyTimer
from drainproxy.lifecycle.propagation import DOUBT, Reason, Rule, Wait

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.lifecycle.budget import Plan
    from drainproxy.lifecycle.drain import Drain
    from drainproxy.lifecycle.inflight import InFlight
    from drainproxy.lifecycle.journal import Journal
    from drainproxy.lifecycle.report import Report
    from drainproxy.log import Log

HASTE_S = MIN_STOP_S / 2
"""Where SIGTERM comes after a drain began and no hook waits, the containers before this one are gone: of the
time that the kubelet then gives in any case, whatever grace period was planned for, half may be waited for a
scrape. Beside a plain sidecar only the cluster's word of the deletion was quicker, and the hooks wait."""


class Ending(Protocol):
    """What the controller knows of an end, and the hooks ask for."""

    drain: Drain | None
    sigterm_at: float | None
    plan: Plan
    journal: Journal

    @property
    def drained(self) -> bool:
        """Admitted work has ended."""

    def tell(self) -> None:
        """Something has changed."""

    async def until(self, reached: Callable[[], bool]) -> None:
        """Return once `reached()` is true; it is asked after every change."""


class Hooks:
    """Loop times in seconds."""

    def __init__(
        self,
        controller: Ending,
        inflight: InFlight,
        restart_window_s: float,
        log: Log,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._controller = controller
        self._inflight = inflight
        self._restart_window_s = restart_window_s
        self._log = log
        self._loop = loop
        self._window = LazyTimer(loop, self._restarted)
        self.first: float | None = None
        """When the first hook of what may be a termination came."""
        self.waiting = 0
        """Hooks that wait: as many containers are told to stop only once these are answered."""
        self.last_scrape: Callable[[Report, float], float] = lambda _report, _until: -math.inf
        """Asked once a drain is reported: until when, and not beyond the time given, is a scrape awaited?"""

    async def released(self) -> str:
        """Wait as a hook does; return why it may stop now."""
        controller = self._controller
        if controller.drain is None or not controller.drain.final:
            # If the pod ends, a signal follows soon, and the grace period has run since the first hook.
            if self.first is None:
                self.first = self._loop.time()
                self._window.set(self.first + self._restart_window_s)
            controller.tell()

        def over() -> bool:
            drain = controller.drain
            return self.first is None if drain is None else drain.let_go

        self.waiting += 1
        try:
            await controller.until(over)
        finally:
            self.waiting -= 1
        if controller.drain is None:
            return "not draining"
        return "drained" if controller.drained else "the deadline has come"

    def close_window(self) -> None:
        """It is known what the hooks meant."""
        self.first = None
        self._window.cancel()

    def hurry(self) -> None:
        """Let the application go now: a person insists."""
        if (drain := self._controller.drain) is not None:
            drain.let_go = True
            self._controller.tell()

    def review(self, drain: Drain, now: float) -> float:
        """Let the application go if it is time; return when to look again."""
        if drain.let_go:
            return math.inf
        until = self._controller.plan.budget.deadline(drain.t0)
        if now < until:
            if not self._controller.drained:
                return until
            if drain.final and (again := self._look_again_at(drain, now, until)) > now:
                return again
        drain.let_go, drain.let_go_late = True, now >= until
        if self._controller.drained:
            self._inflight.awaited = None
        self._controller.tell()
        return math.inf

    @property
    def late_scrape_until(self) -> float:
        """Until when the process may stay for a scrape though its application is stopping.

        Only what was cut by the drain's deadline is worth that: there was no time before.
        """
        drain = self._controller.drain
        if drain is None or drain.report is None or not (drain.let_go_late and drain.report.incomplete):
            return -math.inf
        if drain.propagation_ended is Reason.ALONE:
            # A successor may be waiting for the pod's end.
            return -math.inf
        budget = self._controller.plan.budget
        return budget.deadline(drain.t0) + budget.app_stop_s

    @property
    def callers_until(self) -> float:
        """Until when callers may still come whom the cap of propagation has not outlasted."""
        drain = self._controller.drain
        if drain is None or drain.last_late is None:
            return -math.inf
        if drain.propagation_ended not in {Reason.MAX, Reason.DEADLINE}:
            return -math.inf
        return drain.last_late + DOUBT * self._controller.plan.rules.quiet_s

    def waits(self, drain: Drain | None) -> Wait:
        """Return what a drain that is over waits for, or where none has begun, a hook."""
        if drain is None and self.first is not None:
            words = "SIGTERM: a preStop hook has come; without one, only the application restarts"
            return Wait(Rule.RESTART_WINDOW, words, self.first, self.first + self._restart_window_s)
        if drain is not None and drain.report is not None and not drain.let_go:
            count = self._inflight.pending
            return Wait(Rule.LAST_SCRAPE, f"a last scrape, {count} in flight" if count else "a last scrape")
        if self._controller.sigterm_at is not None:
            return Wait(Rule.EXIT, "exit")
        final = drain is None or drain.final
        return Wait(Rule.SIGTERM, "SIGTERM" if final else "SIGTERM, or undrain")

    def _look_again_at(self, drain: Drain, now: float, until: float) -> float:
        """Return until when a drain that is over holds the application at most; `now` for no longer."""
        if drain.report is None:
            return until
        if drain.early:
            return now
        scrape_by = until
        sigterm_at = self._controller.sigterm_at
        told_last = drain.own_hook or not self.waiting
        if sigterm_at is not None and sigterm_at > drain.started and told_last:
            scrape_by = min(until, max(sigterm_at, self._controller.journal.phase_since) + HASTE_S)
        scraped_at = min(self.last_scrape(drain.report, scrape_by), scrape_by)
        if scraped_at > now:
            drain.held = True
            return scraped_at
        if drain.held and self._inflight.awaited is None:
            # Who came meanwhile is served first, and nobody who comes from now on holds it any more.
            self._inflight.awaited = set(self._inflight)
        return until if drain.held and self._inflight.pending else now

    def _restarted(self) -> None:
        """No signal has followed a hook: only the application was stopped."""
        self.close_window()
        if self._controller.drain is None:
            self._log.event("restart", why="the application was stopped alone: its hook is answered")
            self._controller.tell()
