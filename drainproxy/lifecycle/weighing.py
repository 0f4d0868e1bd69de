"""What does a drain wait for, by all that is known of it? Facts from everybody, rules from propagation.py.

Pure. The controller asks whenever something has changed, and tells what it knows.
"""

import math
from dataclasses import dataclass, replace

from drainproxy.lifecycle.budget import Plan
from drainproxy.lifecycle.drain import Drain
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import (
    Evidence,
    Facts,
    Reason,
    Routability,
    Rule,
    Verdict,
    Wait,
    held_alone,
    judge,
    silence_s,
)
from drainproxy.lifecycle.reconnect_spread import LONG_LIVED
from drainproxy.lifecycle.report import PLANS, Cause
from drainproxy.lifecycle.settings import LifecycleSettings

STUCK = (
    "publishNotReadyAddresses keeps this pod's endpoint ready until the pod is gone: callers are sent here to"
    " its last moment; take it off the Service that they use, and give peers a headless one of their own"
)
"""What is wrong where no row of the pod's can say anything."""


def undisturbed(phase: Phase, *, warming: bool, upstream_up: bool) -> tuple[Wait, ...]:
    """Return what a process waits for while no drain runs and no hook waits; where it serves, nothing."""
    if phase is Phase.READY:
        return () if upstream_up else (Wait(Rule.APPLICATION, "the application to answer again"),)
    if warming:
        return (Wait(Rule.WARMUP, "the warm-up to end"),)
    return (Wait(Rule.APPLICATION, "the application to answer"),)


@dataclass(slots=True)
class Known:
    """What the controller knows at one moment. Times are loop times in seconds."""

    drain: Drain
    word: Evidence
    upstream_up: bool
    last_request: float
    now: float


class Scales:
    """Of one process."""

    def __init__(self, plan: Plan, settings: LifecycleSettings, inflight: InFlight) -> None:
        self._plan = plan
        self._settings = settings
        self._inflight = inflight

    def verdict(self, known: Known) -> Verdict:
        """Weigh whether propagation is over."""
        if self.in_vain(known):
            return Verdict(Reason.ALONE, known.now)
        return judge(self._plan.rules, self._facts(known), known.now)

    def intent(self, known: Known) -> str:
        """Say what a drain means to do."""
        word = known.word
        if self.in_vain(known):
            return "leave early: nobody else serves, and the successor starts only when this pod is gone"
        if held_alone(self._plan.rules, self._facts(known)):
            return "stay until another endpoint is ready, or the deadline is near: this pod alone serves"
        if word.stuck and word.state is Routability.UNKNOWN:
            return "leave by time and quiet: publishNotReadyAddresses keeps the slices from saying anything"
        return PLANS[known.drain.cause]

    def in_vain(self, known: Known) -> bool:
        """Tell whether staying cannot help: nobody can take over before this pod is gone.

        However long it stays, callers miss it for as long as its successor takes to start.
        """
        word = known.word
        told = word.terminating and word.sole and not word.coming
        known_rows = word.state is not Routability.UNKNOWN or word.stuck
        return told and known_rows and self._plan.successor_waits

    def waits(self, phase: Phase, known: Known) -> tuple[Wait, ...]:
        """Return what a drain in `phase`, not drained yet, waits for; the first decides."""
        if phase is Phase.PROPAGATING:
            return self.verdict(known).waits
        if count := self._inflight.pending:
            return (Wait(Rule.IN_FLIGHT, f"{count} in flight"),)
        return (self.idle(known),)

    def idle(self, known: Known) -> Wait:
        """Return until when a drain that has no work left goes on, and for what."""
        drain, settled_at = known.drain, known.last_request + self._settings.settle
        budget = self._plan.budget
        refuse_from = (
            budget.work_deadline(drain.t0, drain.sigterm_at, told_last=drain.own_hook)
            - budget.refuse_window_s
        )
        if drain.propagation_ended is Reason.ALONE:
            # Still nobody else: whoever comes is served here or not at all. Those who are refused from then
            # on do not keep it.
            until = -math.inf if drain.early else refuse_from
            return Wait(Rule.REFUSE_WINDOW, "refuse_window: this pod alone serves", drain.started, until)
        if drain.propagation_ended is Reason.MAX and known.word.stuck:
            # Callers will come until the pod is gone: who came before is waited for, and nobody else.
            return Wait(Rule.SETTLE, "nothing", until=-math.inf)
        if drain.propagation_ended is Reason.MAX and drain.last_late is not None:
            # The cap was reached while callers still came: their silence is the last evidence left.
            quiet_s = silence_s(self._plan.rules, known.word, drain.arrivals_per_s)
            if (at := min(drain.last_late + quiet_s, refuse_from)) > settled_at:
                return Wait(Rule.QUIET, "quiet after the last late arrival", drain.last_late, at)
        return Wait(Rule.SETTLE, "settle, after the last byte", known.last_request, settled_at)

    def _facts(self, known: Known) -> Facts:
        drain = known.drain
        # Without the application nobody is served here either.
        word = known.word if known.upstream_up else replace(known.word, sole=False)
        return Facts(
            started=drain.started,
            evidence=word,
            last_late=drain.last_late,
            arrivals_per_s=drain.arrivals_per_s,
            latest=self._latest(known),
            followed=drain.followed,
            young=drain.young,
        )

    def _latest(self, known: Known) -> float:
        """Return by when a pod that alone serves has to go over to draining; `-math.inf`: nothing holds it.

        A pod that is not being deleted gets no successor, and readiness `fail` forbids kube-proxy's fallback.
        """
        drain, readiness = known.drain, self._settings.readiness_on_drain
        if readiness.kind == "fail" or not (known.word.terminating or drain.cause is Cause.DELETION):
            return -math.inf
        budget = self._plan.budget
        deadline = budget.deadline(drain.t0)
        # Tunnels and streams need their turns; requests are answered for longer. It is looked again then.
        at = deadline - budget.leave_s
        if known.now >= at and not any(work.kind in LONG_LIVED for work in self._inflight.works):
            at = deadline - budget.leave_margin_s
        return at if readiness.kind == "auto" else min(at, drain.started + readiness.delay_s)
