"""The JSON of /status: what the process does now, and what it waits for.

Pure: plain values in, one dict out. snapshot.py gathers the values; the live page (page.html) and
`drainproxy status` (view.py) show them. Durations are relative to the moment of asking, since loop times
mean nothing outside the process. Neither query strings nor bodies ever come here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

MAX_WORKS = 100
"""Rows of work listed, oldest first: the oldest are what a drain waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkNow:
    """One request, stream or tunnel. Loop times; `math.inf` for no deadline."""

    kind: str
    started: float
    deadline: float
    what: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainNow:
    """A drain that runs or has ended. Loop times."""

    cause: str
    started: float
    deadline: float
    final: bool
    """The pod is ending: `undrain` is refused."""
    in_flight_at_start: int
    propagation_ended: str | None
    late_requests: int
    last_late: float | None
    outcomes: Mapping[str, int]
    """Requests by how they ended, since the drain began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The process at loop time `now`."""

    now: float
    phase: str
    phase_since: float
    phases_s: Mapping[str, float]
    """Seconds spent in each phase that was left, the present one not counted."""
    waiting_for: str
    ready: bool
    upstream_up: bool
    grace_s: float
    drain: DrainNow | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    """Work in flight by kind, all of it."""
    works: Iterable[WorkNow] = ()
    """Oldest first; no more than MAX_WORKS are taken."""
    config_problems: Sequence[str] = ()
    report: Mapping[str, Any] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the composition root knows: version, listeners, upstreams."""


def status(snapshot: Snapshot) -> dict[str, Any]:
    """Return the JSON document as a dict."""
    now = snapshot.now
    in_phase_s = now - snapshot.phase_since
    spent = dict(snapshot.phases_s)
    spent[snapshot.phase] = spent.get(snapshot.phase, 0.0) + in_phase_s
    drain = snapshot.drain
    return {
        **snapshot.about,
        "uptime_s": _seconds(sum(spent.values())),
        "phase": snapshot.phase,
        "since_s": _seconds(in_phase_s),
        "phases_s": {phase: _seconds(seconds) for phase, seconds in spent.items()},
        "waiting_for": snapshot.waiting_for,
        "ready": snapshot.ready,
        "upstream_up": snapshot.upstream_up,
        "grace_s": snapshot.grace_s,
        "deadline_in_s": None if drain is None else _until(drain.deadline, now),
        "drain": None if drain is None else _drain(drain, now),
        "in_flight": {
            "count": sum(snapshot.kinds.values()),
            "kinds": dict(snapshot.kinds),
            "oldest": [_work(work, now) for work in islice(snapshot.works, MAX_WORKS)],
        },
        "config_problems": list(snapshot.config_problems),
        "report": None if snapshot.report is None else dict(snapshot.report),
    }


def _drain(drain: DrainNow, now: float) -> dict[str, Any]:
    return {
        "cause": drain.cause,
        "for_s": _seconds(now - drain.started),
        "length_s": _until(drain.deadline, drain.started),
        "final": drain.final,
        "in_flight_at_start": drain.in_flight_at_start,
        "propagation_ended": drain.propagation_ended,
        "late_requests": drain.late_requests,
        "last_late_ago_s": None if drain.last_late is None else _seconds(now - drain.last_late),
        "outcomes": dict(drain.outcomes),
    }


def _work(work: WorkNow, now: float) -> dict[str, Any]:
    return {
        **work.what,
        "kind": work.kind,
        "age_s": _seconds(now - work.started),
        "deadline_in_s": _until(work.deadline, now),
    }


def _until(deadline: float, now: float) -> float | None:
    """JSON has no infinity: None stands for never."""
    return None if deadline == math.inf else _seconds(max(0.0, deadline - now))


def _seconds(value: float) -> float:
    return round(value, 3)
