"""Gathers what /status shows, in one go and without an `await`: no half-changed picture.

Reads the controller, the books of work and the counters; writes none of them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from drainproxy.admin.status import MAX_WORKS, DrainNow, Snapshot, WorkNow
from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.drain import Drain
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.metrics import OUTCOMES, Metrics


def take(
    *, controller: Controller, inflight: InFlight, metrics: Metrics, about: Mapping[str, Any], now: float
) -> Snapshot:
    """Return the process as it is at loop time `now`."""
    published = controller.published
    drain, report = controller.drain, controller.report
    return Snapshot(
        now=now,
        phase=published.phase,
        phase_since=controller.journal.phase_since,
        phases_s={phase.value: seconds for phase, seconds in controller.journal.phases_s.items()},
        waiting_for=controller.waiting_for(),
        ready=controller.ready,
        upstream_up=controller.upstream_up,
        grace_s=controller.plan.budget.grace_s,
        drain=None if drain is None else _drain(drain, controller.deadline, metrics),
        kinds=dict(sorted(Counter(work.kind for work in inflight.works).items())),
        works=[
            WorkNow(kind=work.kind, started=work.started, deadline=work.deadline, what=work.describe())
            for work in islice(inflight.works, MAX_WORKS)
        ],
        config_problems=controller.problems,
        report=None if report is None else report.fields(),
        about=about,
    )


def _drain(drain: Drain, deadline: float, metrics: Metrics) -> DrainNow:
    before = asdict(drain.requests_before)
    return DrainNow(
        cause=drain.cause,
        started=drain.started,
        deadline=deadline,
        final=drain.final,
        in_flight_at_start=drain.in_flight_at_start,
        propagation_ended=drain.propagation_ended,
        late_requests=int(metrics.late_requests.value()) - before["late"],
        last_late=drain.last_late,
        outcomes={
            outcome: int(metrics.drain_requests.value(outcome)) - before[outcome] for outcome in OUTCOMES
        },
    )
