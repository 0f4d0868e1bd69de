"""How much came in the last two minutes, and how much of it failed: the sparklines of /status.

Looks at counters that others keep, at ticks of the process (monitor.py): nothing is added to a request, and
an idle process wakes no oftener for it. Read by status.py; built by app.py.
"""

import asyncio
from array import array
from collections.abc import Sequence
from typing import Any, Protocol

from drainproxy.lifecycle.controller import Controller
from drainproxy.metrics import Metrics
from drainproxy.tasks import TICK_S

TICKS = 2
"""Of the process, from one look to the next."""
STEP_S = TICKS * TICK_S
STEPS = round(120 / STEP_S)
NOW_STEPS = 3
"""Steps that are called now: fewer would leap about with each caller."""
FAILED_FROM = "5"
"""Statuses from 500 on, whoever made them."""


class Answers(Protocol):
    """Where answers are counted: of one listener (accounting.py)."""

    @property
    def untold(self) -> int:
        """Failures that no status tells, less statuses that are not the failure they look like."""

    def export_counts(self) -> None:
        """Bring the counters up to the present."""


class Series:
    """How much came a second, for each step; the oldest is forgotten."""

    def __init__(self) -> None:
        self._per_s = array("f")

    def add(self, per_s: float, steps: int) -> None:
        """Take in what came in the last `steps`."""
        self._per_s.extend([max(0.0, per_s)] * steps)
        del self._per_s[:-STEPS]

    def shown(self) -> dict[str, Any]:
        """Return it as /status has it."""
        now = self._per_s[-NOW_STEPS:]
        return {
            "per_s": round(sum(now) / len(now), 1) if now else 0.0,
            "series": [round(each, 1) for each in self._per_s],
        }


class Recent:
    """Of one process."""

    def __init__(self, controller: Controller, metrics: Metrics, answers: Sequence[Answers]) -> None:
        self._controller = controller
        self._metrics = metrics
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self._looked_at = self._loop.time()
        self._ticks = 0
        self._before = (0.0, 0.0, 0.0)
        """What was counted at the last look: requests, late connections, errors."""
        self._requests, self._arrivals, self._errors = Series(), Series(), Series()

    def tick(self) -> None:
        """Look, if it is time. Whoever is late, since the process stood still, spreads what came over it."""
        self._ticks += 1
        if self._ticks % TICKS:
            return
        before, now = self._looked_at, self._loop.time()
        self._looked_at = now
        took_s = max(now - before, TICK_S)
        steps = min(STEPS, max(1, round(took_s / STEP_S)))
        counted = self._count()
        requests, late, errors = (
            (count - had) / took_s for count, had in zip(counted, self._before, strict=True)
        )
        self._before = counted
        self._requests.add(requests, steps)
        self._errors.add(errors, steps)
        # Before a drain arrivals are kept by whole seconds: of those that are over, so many have passed.
        seconds = range(int(before), int(now))
        heard = self._controller.arrival_rate.between(seconds.start, seconds.stop) / max(1, len(seconds))
        self._arrivals.add(heard + late, steps)

    def shown(self) -> dict[str, Any]:
        """Return what /status shows of it."""
        return {
            "step_s": STEP_S,
            "requests": self._requests.shown(),
            "arrivals": self._arrivals.shown(),
            "errors": self._errors.shown(),
        }

    def _count(self) -> tuple[float, float, float]:
        """Return how many requests have ended so far, how many callers came late, how many have failed."""
        requests = sum(self._metrics.h2_streams.values.values())
        errors = 0.0
        for each in self._answers:
            each.export_counts()
            errors += each.untold
        for (_, _, code, _), count in self._metrics.requests.values.items():
            requests += count
            if code >= FAILED_FROM:
                errors += count
        return requests, self._metrics.late_connections.value("request"), errors
