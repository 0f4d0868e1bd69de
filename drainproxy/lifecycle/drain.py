"""One drain while it runs: when it began, why, what it has seen. The report is made from it.

Written by the controller only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Evidence, Reason, Routability
from drainproxy.lifecycle.report import Cause, Report, Tally
from drainproxy.metrics import OUTCOMES, TUNNELS

if TYPE_CHECKING:
    from drainproxy.metrics import Metrics


@dataclass(slots=True)
class Drain:
    """Times are loop times in seconds. Its books are open from the beginning."""

    cause: Cause
    started: float
    t0: float
    """From when the kubelet counts the grace period: a hook may have come before the signal."""
    in_flight_at_start: int
    metrics: Metrics
    requests_before: Tally = field(init=False)
    tunnels_before: dict[str, Tally] = field(init=False)
    final: bool = False
    """The pod is ending for certain: `undrain` is refused."""
    last_late: float | None = None
    propagation_ended: Reason | None = None
    entered: dict[Phase, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.requests_before, self.tunnels_before = _requests(self.metrics), _tunnels(self.metrics)

    def report(self, evidence: Evidence, *, now: float, unused_s: float, ended_by: str) -> Report:
        """Close the books."""
        after_flip = None
        if evidence.state is Routability.GONE and self.last_late is not None:
            after_flip = max(0.0, self.last_late - evidence.since)
        order = [*self.entered.items()]
        ends = [at for _, at in order[1:]] + [now]
        return Report(
            cause=self.cause,
            phases_s={
                phase: end - at
                for (phase, at), end in zip(order, ends, strict=True)
                if phase is not Phase.DRAINED
            },
            propagation_ended=self.propagation_ended,
            last_late_after_flip_s=after_flip,
            in_flight_at_start=self.in_flight_at_start,
            requests=_requests(self.metrics).minus(self.requests_before),
            tunnels={
                kind: tally.minus(self.tunnels_before[kind]) for kind, tally in _tunnels(self.metrics).items()
            },
            unused_s=unused_s,
            ended_by=ended_by,
        )


def _requests(metrics: Metrics) -> Tally:
    outcomes = {outcome: int(metrics.drain_requests.value(outcome)) for outcome in OUTCOMES}
    return Tally(**outcomes, late=int(metrics.late_requests.value()))


def _tunnels(metrics: Metrics) -> dict[str, Tally]:
    counts = metrics.drain_tunnels.by_kind
    return {
        kind: Tally(**{outcome: int(counts.get((kind, outcome), 0)) for outcome in OUTCOMES})
        for kind in TUNNELS
    }


def begun_by(*, sigterm: bool, prestop: bool) -> str:
    """Say what began a drain."""
    if sigterm:
        return "SIGTERM"
    return "the pod's preStop hook" if prestop else "drain was asked for"
