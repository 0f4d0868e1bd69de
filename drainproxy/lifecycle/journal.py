"""What the lifecycle has been through, as log lines and metrics: phases, plans, what is wrong with the pod.

Decides nothing. Written by the controller; read by /status.
"""

import asyncio
import math
from collections.abc import Iterable

from drainproxy.lifecycle import propagation
from drainproxy.lifecycle.budget import Plan
from drainproxy.lifecycle.drain import Drain
from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Rule, Wait
from drainproxy.log import Log
from drainproxy.metrics import Metrics


class Journal:
    """Loop times and durations in seconds."""

    def __init__(self, metrics: Metrics, log: Log, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics = metrics
        self._log = log
        self._loop = loop
        self._phase = Phase.STARTING
        self.phase_since = loop.time()
        self.phases_s: dict[Phase, float] = {}
        """Spent in each phase that was left."""
        self.problems: list[str] = []
        """What was found wrong with how this pod is set up."""
        metrics.phase.choose(Phase.STARTING)

    def entered(self, phase: Phase, *, in_flight: int, why: str) -> None:
        """One phase has followed another."""
        was, now = self._phase, self._loop.time()
        spent = now - self.phase_since
        self.phases_s[was] = self.phases_s.get(was, 0.0) + spent
        self._phase, self.phase_since = phase, now
        self._metrics.phase.choose(phase)
        self._log.event("phase", phase=phase, was=was, after_s=round(spent, 3), in_flight=in_flight, why=why)

    def planned(self, drain: Drain, plan: Plan, *, in_flight: int) -> None:
        """A drain has begun, or more has become known of it."""
        self._metrics.termination_cause_info.choose(drain.cause)
        self._log.event(
            "drain_plan",
            cause=drain.cause,
            plan=drain.intent,
            grace_s=plan.budget.grace_s,
            deadline_in_s=round(plan.budget.deadline(drain.t0) - self._loop.time(), 3),
            propagation_max_s=round(plan.rules.max_s, 3),
            sparse=propagation.sparse(plan.rules, drain.arrivals_per_s),
            young=drain.young,
            in_flight=in_flight,
        )

    def decided(self, drain: Drain, wait: Wait, now: float) -> None:
        """Something decides how long a drain lasts. Said of each once: callers may come at any rate."""
        if wait.rule in drain.decided_by or wait.rule is Rule.SETTLE:
            return
        drain.decided_by.add(wait.rule)
        of_s = None if math.isinf(wait.until - wait.since) else round(wait.until - wait.since, 3)
        left_s = None if math.isinf(wait.until) else round(wait.until - now, 3)
        self._log.event("waits", rule=wait.rule, what=wait.words, of_s=of_s, left_s=left_s)

    def note(self, problems: Iterable[str]) -> None:
        """Something is wrong with how this pod is set up."""
        for problem in problems:
            self._log.event("config_problem", "warning", problem=problem)
            self.problems.append(problem)

    def note_once(self, problem: str) -> None:
        """Something is wrong that may be found again and again."""
        if problem not in self.problems:
            self.note([problem])

    def refresh(self, *, deadline: float, problems: int) -> None:
        """Bring the gauges up to the present."""
        now = self._loop.time()
        for phase in Phase:
            current = now - self.phase_since if phase is self._phase else 0.0
            self._metrics.phase_duration_seconds.set(self.phases_s.get(phase, 0.0) + current, phase)
        self._metrics.drain_deadline_seconds.set(0.0 if deadline == math.inf else max(0.0, deadline - now))
        self._metrics.config_problems.set(float(problems))
