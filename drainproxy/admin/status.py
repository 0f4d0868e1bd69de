"""The JSON of /status: what the process does now, and what it waits for.

Reads the controller, the books of work and the counters in one go, without an `await`, and writes none of
them. The live page (page.html) and `drainproxy status` (view.py) show it. Durations are relative to the
moment of asking, since loop times mean nothing outside the process. Neither query strings nor bodies ever
come here.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from drainproxy.admin.recent import Recent
from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.drain import Drain
from drainproxy.lifecycle.inflight import InFlight, Work
from drainproxy.lifecycle.propagation import Wait
from drainproxy.metrics import OUTCOMES, Metrics

MAX_WORKS = 100
"""Rows of work listed, oldest first: the oldest are what a drain waits for."""


def status(
    *,
    controller: Controller,
    inflight: InFlight,
    metrics: Metrics,
    recent: Recent,
    about: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """Return the document of loop time `now`; `about` is what the composition root knows."""
    phase, journal = controller.published.phase, controller.journal
    in_phase_s = now - journal.phase_since
    spent = {**journal.phases_s, phase: journal.phases_s.get(phase, 0.0) + in_phase_s}
    drain, report = controller.drain, controller.report
    return {
        **about,
        "uptime_s": _seconds(sum(spent.values())),
        "phase": phase,
        "since_s": _seconds(in_phase_s),
        "phases_s": {each: _seconds(seconds) for each, seconds in spent.items()},
        "waiting_for": controller.waiting_for(),
        "waits": [_wait(wait, now) for wait in controller.waits()],
        "ready": controller.ready,
        "upstream_up": controller.upstream_up,
        "held": int(metrics.requests_held.value()),
        "grace_s": controller.plan.budget.grace_s,
        "deadline_in_s": None if drain is None else _until(controller.deadline, now),
        "drain": None if drain is None else _drain(drain, controller.deadline, metrics, now),
        "in_flight": {
            "count": len(inflight),
            "kinds": dict(sorted(Counter(work.kind for work in inflight.works).items())),
            "oldest": [_work(work, now) for work in islice(inflight.works, MAX_WORKS)],
        },
        "recent": recent.shown(),
        "config_problems": list(controller.problems),
        "report": None if report is None else report.fields(),
        "verdict": None if report is None else {"served": not report.incomplete, "words": report.verdict()},
    }


def _wait(wait: Wait, now: float) -> dict[str, Any]:
    """Return one thing that is waited for, and how much of it is over. None: no clock ends it."""
    of_s = wait.until - wait.since
    clock = of_s < math.inf
    return {
        "rule": wait.rule,
        "words": wait.words,
        "passed_s": _seconds(min(max(0.0, now - wait.since), max(0.0, of_s))) if clock else None,
        "of_s": _seconds(max(0.0, of_s)) if clock else None,
    }


def _drain(drain: Drain, deadline: float, metrics: Metrics, now: float) -> dict[str, Any]:
    before = drain.requests_before
    return {
        "cause": drain.cause,
        "plan": drain.intent,
        "for_s": _seconds(now - drain.started),
        "length_s": _until(deadline, drain.started),
        "final": drain.final,
        "in_flight_at_start": drain.in_flight_at_start,
        "propagation_ended": drain.propagation_ended,
        "arrivals_per_s": _seconds(drain.arrivals_per_s),
        "young": drain.young,
        "late_requests": int(metrics.late_requests.value()) - before.late,
        "last_late_ago_s": None if drain.last_late is None else _seconds(now - drain.last_late),
        "outcomes": {
            outcome: int(metrics.drain_requests.value(outcome)) - getattr(before, outcome)
            for outcome in OUTCOMES
        },
        "tunnels": {kind: asdict(tally) for kind, tally in drain.tunnels().items()},
    }


def _work(work: Work, now: float) -> dict[str, Any]:
    return {
        **work.describe(),
        "kind": work.kind,
        "age_s": _seconds(now - work.started),
        "deadline_in_s": _until(work.deadline, now),
    }


def _until(deadline: float, now: float) -> float | None:
    """JSON has no infinity: None stands for never."""
    return None if deadline == math.inf else _seconds(max(0.0, deadline - now))


def _seconds(value: float) -> float:
    return round(value, 3)
