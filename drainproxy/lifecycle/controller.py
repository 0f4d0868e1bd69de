"""The single writer of the phase: facts and timers in, phase out.

It owns one timer. Every fact (a signal, a late arrival, the last hold let go, the cluster's word) leads to
`_review`, which fires the events that are due and sets the timer to the next moment that matters. What the
data plane may read is `published`, replaced whole at every change.
"""

import asyncio
import math
from dataclasses import replace
from functools import partial

from drainproxy.lifecycle import propagation
from drainproxy.lifecycle.arrival_rate import ArrivalRate, Probes
from drainproxy.lifecycle.budget import Plan
from drainproxy.lifecycle.drain import Drain, begun_by
from drainproxy.lifecycle.hooks import Hooks
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.journal import Journal
from drainproxy.lifecycle.lazytimer import LazyTimer
from drainproxy.lifecycle.machine import Event, Phase, Readiness, step
from drainproxy.lifecycle.notifier import Notifier
from drainproxy.lifecycle.propagation import Evidence, Reason, Routability, Rules, Wait
from drainproxy.lifecycle.readiness import by_setting
from drainproxy.lifecycle.reconnect_spread import ReconnectSpread
from drainproxy.lifecycle.report import NOWHERE, Cause, Place, Report
from drainproxy.lifecycle.settings import LifecycleSettings
from drainproxy.lifecycle.snapshot import picture
from drainproxy.lifecycle.weighing import STUCK, Known, Scales, undisturbed
from drainproxy.log import Log
from drainproxy.metrics import Metrics

CUT_WITHIN_S = 0.5
"""How long work that was cut may take to end before the report is written without it."""


class Controller(Notifier):
    """One process, one lifecycle, however many listeners."""

    def __init__(
        self,
        *,
        settings: LifecycleSettings,
        rules: Rules,
        inflight: InFlight,
        metrics: Metrics,
        log: Log,
        loop: asyncio.AbstractEventLoop,
        place: Place = NOWHERE,
    ) -> None:
        super().__init__()
        self._place = place
        self._settings = settings
        self._inflight = inflight
        self._metrics = metrics
        self._log = log
        self._loop = loop
        self.plan = Plan(settings, rules)
        self._scales = Scales(self.plan, settings, inflight)
        self.journal = Journal(metrics, log, loop)
        self.arrival_rate = ArrivalRate(settings.health_check_agents)
        self.probes = Probes()
        self.upstream_up = False
        self.drain: Drain | None = None
        self.reconnect_spread = ReconnectSpread(self, self.plan, inflight, settings.leave_spread, loop)
        self.sigterm_at: float | None = None
        self.hooks = Hooks(self, inflight, settings.restart_window, log, loop)
        self._evidence = propagation.UNKNOWN
        self._last_request = -math.inf
        self._timer = LazyTimer(loop, self._review)
        self.published = picture(Phase.STARTING, None, self.plan, settings, loop.time())
        inflight.export(metrics)
        metrics.before_scrape.append(self._refresh_metrics)
        self._refresh_metrics()

    # Facts, from outside.

    def upstream_answers(self) -> None:
        """The application accepts connections."""
        if self.upstream_up:
            return
        self.upstream_up = True
        self.arrival_rate.since = min(self.arrival_rate.since, self._loop.time())
        self._fire(Event.UPSTREAM_UP, "the application answers")

    def upstream_refuses(self) -> None:
        """The application has refused connections for long enough to say so."""
        if not self.upstream_up:
            return
        self.upstream_up = False
        self._fire(Event.UPSTREAM_DOWN, "the application refuses connections")

    def terminate(self, cause: Cause, *, sigterm: bool = False, prestop: bool = False) -> None:
        """Begin a drain, or give a manual one the clock of a real termination."""
        now = self._loop.time()
        t0 = now if self.hooks.first is None else self.hooks.first
        self.hooks.close_window()
        if self.drain is None:
            heard = self.arrival_rate.arrivals_per_s(now)
            self.drain = Drain(cause, now, t0, len(self._inflight), heard, self._metrics, place=self._place)
            self.drain.young = self.arrival_rate.young(now)
            self.drain.sigterm_at = now if sigterm else None
            # In a turn of its own: who lets go has not yet said how it ended.
            self._inflight.on_empty = partial(self._loop.call_soon, self._review)
            self._last_request = now
            self._announce()
            self._fire(Event.TERMINATE, begun_by(sigterm=sigterm, prestop=prestop))
            if self._evidence.state is Routability.ROUTABLE:
                # Said before, maybe days ago: whether it still holds is asked anew.
                self._evidence = replace(self._evidence, state=Routability.UNKNOWN, sole=False)
        elif self.drain.cause is Cause.MANUAL and cause is not Cause.MANUAL:
            # A manual drain has no SIGKILL behind it; a termination that follows has its own grace.
            self.drain.cause = cause
            self.drain.t0 = t0
            self._announce()
            self._publish(self.published.phase)
        if sigterm and self.sigterm_at is None and self.drain.final and self.drained:
            self.drain.outlived = not self.hooks.waiting
        self.drain.final = self.drain.final or sigterm or prestop or cause is not Cause.MANUAL
        self.drain.own_hook = self.drain.own_hook or (prestop and self.sigterm_at is None)
        if sigterm and self.sigterm_at is None:
            self.sigterm_at = self.drain.sigterm_at = now
            self._publish(self.published.phase)
        self._review()

    def resume(self) -> str | None:
        """Take a manual drain back. Return why not, or None when it was done."""
        phase = self.published.phase
        if self.drain is None:
            return "not draining"
        if self.drain.final:
            return "the pod is terminating"
        if phase is Phase.DRAINING:
            return "draining cannot be taken back: tunnels were told to leave; ask again once it is drained"
        if phase is Phase.DRAINED:
            if self.hook_waits:
                return "a preStop hook has come, so the pod may be terminating"
            if self.drain.report is None:
                self._close_books(self.drain)
            # Nothing was counted meanwhile: what was heard before says nothing of now.
            self.arrival_rate.since = self._loop.time()
        self.drain = None
        self._evidence = propagation.UNKNOWN
        self.hooks.close_window()
        self._timer.cancel()
        self._inflight.on_empty = None
        self._metrics.termination_cause_info.choose("")
        self._fire(Event.RESUME, "undrain")
        return None

    def abandon(self, why: str, reason: Reason = Reason.INTERRUPTED, *, cut: bool = True) -> None:
        """End the drain now and cut what is left, or only wait for that: nobody new can be served."""
        if self.drain is not None:
            self._fire(Event.DEADLINE if cut else Event.FORGOTTEN, why, reason)

    def evidence(self, word: Evidence) -> None:
        """Take the cluster's word, which may be that this pod is being deleted."""
        before, self._evidence = self._evidence, word
        if word.terminating:
            self.learn(Cause.DELETION)
            self._evidence = word
        if word.stuck and word.state is Routability.UNKNOWN:
            self.journal.note_once(STUCK)
        drain = self.drain
        if drain is not None:
            if word.state is Routability.GONE:
                self._metrics.endpoint_flip_seconds.set(max(0.0, word.since - drain.started))
            if before.sole is not word.sole:
                if before.sole:
                    drain.followed = self._loop.time()
                self._publish(self.published.phase)
            if self._scales.intent(self._known(drain)) != drain.intent:
                self._announce()
        self._review()

    def learn(self, cause: Cause, grace_s: float | None = None) -> None:
        """Take what the cluster says of why this pod ends, and how long it is given (seconds)."""
        if grace_s is not None:
            self.plan.observe(grace_s)
        if cause is Cause.DELETION and (self.drain is None or self.drain.cause is Cause.MANUAL):
            self.terminate(cause)
        elif self.drain is not None and (grace_s is not None or cause is not self.drain.cause):
            # A deletion is certain, the rest is inferred.
            if cause is Cause.DELETION or self.drain.cause is Cause.UNKNOWN:
                self.drain.cause = cause
            self._announce()
            self._publish(self.published.phase)
            self._review()

    def request_came(self, now: float) -> None:
        """A request came while a drain runs, and no health check: head and body are work by themselves."""
        self._last_request = now

    def late_arrival(self, now: float) -> None:
        """A request came, after the drain began, on a connection accepted after it began."""
        drain = self.drain
        if drain is None:
            return
        drain.came_late(now)

    def fetched(self) -> None:
        """Somebody has the numbers of after the drain."""
        self._review()

    # What others wait for.

    async def released(self) -> str:
        """Wait as an application's preStop hook does; return why it may stop now."""
        return await self.hooks.released()

    @property
    def drained(self) -> bool:
        """Admitted work has ended."""
        return self.published.phase is Phase.DRAINED

    @property
    def report(self) -> Report | None:
        """What happened; None until the drain has ended."""
        return None if self.drain is None else self.drain.report

    @property
    def may_exit(self) -> bool:
        """Drained, the application let go and told to go: after a drain without SIGTERM the process stays."""
        let_go = self.drain is not None and self.drain.let_go
        return self.report is not None and self.drained and let_go and self.sigterm_at is not None

    @property
    def ready(self) -> bool:
        """What /readyz answers."""
        readyz = self.published.policy.readyz
        if readyz is Readiness.WHILE_UPSTREAM_UP:
            return self.upstream_up
        if readyz is Readiness.BY_SETTING and self.drain is not None:
            setting, for_s = self._settings.readiness_on_drain, self._loop.time() - self.drain.started
            return self.upstream_up and by_setting(setting, self._evidence, for_s)
        return False

    @property
    def hook_waits(self) -> bool:
        """A preStop hook has come, and it is not known yet whether the pod ends."""
        return self.hooks.first is not None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with how this pod is set up."""
        return (*self.plan.problems, *self.journal.problems)

    @property
    def deadline(self) -> float:
        """Loop time of the drain's deadline; `math.inf` while none runs."""
        drain = self.drain
        if drain is None:
            return math.inf
        return self.plan.budget.work_deadline(drain.t0, drain.sigterm_at, told_last=drain.own_hook)

    def waits(self) -> tuple[Wait, ...]:
        """Return what is waited for: the first decides. A process that serves waits for nothing."""
        phase, drain = self.published.phase, self.drain
        if phase is Phase.DRAINED or (drain is None and self.hook_waits):
            return (self.hooks.waits(drain),)
        if drain is not None:
            return self._scales.waits(phase, self._known(drain))
        return undisturbed(phase, warming=self.warming, upstream_up=self.upstream_up)

    def waiting_for(self) -> str:
        """Say what decides, in the words of the manual."""
        return next((wait.words for wait in self.waits()), "nothing")

    # Decisions.

    def _known(self, drain: Drain) -> Known:
        return Known(drain, self._evidence, self.upstream_up, self._last_request, self._loop.time())

    def _review(self, *, looked: bool = False) -> None:
        """Fire what is due; set the timer to when something may be due next.

        `looked`: the loop has read its sockets since a timer found the process idle.
        """
        drain = self.drain
        if drain is None or drain.over:
            # Who leaves now listens to what is in flight himself.
            return
        now = self._loop.time()
        check_at = math.inf
        if self.published.phase is Phase.PROPAGATING:
            check_at = self._review_propagation(drain, now)
        if self.published.phase is Phase.DRAINING:
            check_at = self._review_draining(drain, now, looked=looked)
        if self.published.phase is Phase.DRAINED and drain.report is None:
            check_at = self._review_cut(drain, now)
        check_at = min(check_at, self.hooks.review(drain, now))
        if drain.let_go and drain.report is not None:
            self._inflight.on_empty = None
        self._timer.cancel()
        self._timer.set(check_at)

    def _review_propagation(self, drain: Drain, now: float) -> float:
        if now >= self.deadline:
            self._fire(Event.DEADLINE, "the drain's deadline", Reason.DEADLINE)
            return math.inf
        verdict = self._scales.verdict(self._known(drain))
        if verdict.over is not None:
            self._fire(Event.FORGOTTEN, f"propagation is over: {verdict.over}", verdict.over)
            return math.inf
        self.journal.decided(drain, verdict.waits[0], now)
        close_from = drain.started + self.plan.rules.min_s
        if self.plan.rules.balancer and not self.published.discourage_reuse:
            if now < close_from:
                return min(verdict.check_at, self.deadline, close_from)
            self._publish(Phase.PROPAGATING)
        return min(verdict.check_at, self.deadline)

    def _review_draining(self, drain: Drain, now: float, *, looked: bool) -> float:
        if now >= self.deadline:
            self._fire(Event.DEADLINE, "the drain's deadline", Reason.DEADLINE)
            return math.inf
        if self._inflight.pending:
            return self.deadline
        if drain.early and len(self._inflight):
            # Who was there is served. New ones come all the time: the last are finished, the next refused.
            drain.refusing, self._inflight.awaited = True, None
            self._publish(Phase.DRAINING)
            return self.deadline
        idle = self._scales.idle(self._known(drain))
        if now < idle.until:
            self.journal.decided(drain, idle, now)
            return min(idle.until, self.deadline)
        if not looked:
            # Timers run before sockets are read: after a stall, requests may be waiting behind this one.
            self._loop.call_soon(self._loop.call_soon, partial(self._review, looked=True))
            return self.deadline
        why = "who came in time is served" if len(self._inflight) else "nothing is in flight"
        self._fire(Event.IDLE, why)
        return math.inf

    def _review_cut(self, drain: Drain, now: float) -> float:
        """Write the one report, once what was cut has said how it ended, or a moment later without it."""
        until = drain.entered[Phase.DRAINED] + min(CUT_WITHIN_S, self.plan.budget.reserve_s / 4)
        if len(self._inflight) and now < until:
            return until
        self._close_books(drain)
        return math.inf

    def _close_books(self, drain: Drain) -> None:
        report = drain.close()
        level = "warning" if report.incomplete else "info"
        self._log.event("drain_report", level, **report.fields())
        self.tell()

    def _end_propagation(self, drain: Drain, reason: Reason) -> None:
        drain.propagation_ended = reason
        self._metrics.propagation_end.inc(reason)
        drain.early = reason is Reason.ALONE and self._scales.in_vain(self._known(drain))
        if drain.early or (self._evidence.stuck and reason is Reason.MAX):
            self._inflight.awaited = set(self._inflight)

    def _fire(self, event: Event, why: str, reason: Reason | None = None) -> None:
        """Let an event happen; `reason`: why propagation ends, if it ends with it."""
        was = self.published.phase
        routable = self._evidence.state is Routability.ROUTABLE or self._evidence.stuck
        phase = step(was, event, routable=routable)
        if phase is was:
            if event in {Event.UPSTREAM_UP, Event.UPSTREAM_DOWN}:
                self.tell()
                self._review()
            return
        now, drain = self._loop.time(), self.drain
        if drain is not None:
            drain.entered[phase] = now
            if was is Phase.PROPAGATING:
                assert reason is not None
                self._end_propagation(drain, reason)
            if phase is Phase.DRAINED:
                self._inflight.awaited = None
                drain.ended(self._evidence, unused_s=max(0.0, self.deadline - now), by=why)
        self.journal.entered(phase, in_flight=len(self._inflight), why=why)
        self._publish(phase)
        if phase is Phase.DRAINED and event is Event.DEADLINE:
            for work in self._inflight:
                work.cut("drain-deadline")
        self._review()

    # Publication.

    def _publish(self, phase: Phase) -> None:
        before = self.published
        now, sole = self._loop.time(), self._evidence.sole
        self.published = picture(phase, self.drain, self.plan, self._settings, now, sole=sole)
        if (self.published.work_deadline, self.published.deadline) != (before.work_deadline, before.deadline):
            for work in self._inflight:
                work.drain_by(self.published.work_deadline)
        self.tell()

    def _announce(self) -> None:
        assert self.drain is not None
        self.drain.intent = self._scales.intent(self._known(self.drain))
        self.journal.planned(self.drain, self.plan, in_flight=len(self._inflight))

    def _refresh_metrics(self) -> None:
        self.journal.refresh(deadline=self.deadline, problems=len(self.problems))
