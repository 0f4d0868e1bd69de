"""One drain while it runs: when it began, why, what it has seen. The report is made from it.

Written by the controller only.
"""

from dataclasses import dataclass, field

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Evidence, Reason, Routability, Rule
from drainproxy.lifecycle.report import NOWHERE, Cause, Place, Report, Tally, TunnelTally
from drainproxy.metrics import OUTCOMES, TUNNEL_OUTCOMES, TUNNELS, Metrics


@dataclass(slots=True)
class Drain:
    """Times are loop times in seconds. Its books are open from the beginning."""

    cause: Cause
    started: float
    t0: float
    """From when the kubelet counts the grace period: a hook may have come before the signal."""
    in_flight_at_start: int
    arrivals_per_s: float
    """Before it began."""
    metrics: Metrics
    requests_before: Tally = field(init=False)
    tunnels_before: dict[str, TunnelTally] = field(init=False)
    held_before: int = field(init=False)
    handed_off_before: int = field(init=False)
    intent: str = ""
    """What it waits for as a whole, in the words of the plan."""
    final: bool = False
    """The pod is ending for certain: `undrain` is refused in every phase."""
    sigterm_at: float | None = None
    """When SIGTERM came."""
    own_hook: bool = False
    """The sidecar's own preStop hook has run, which only a native one has: SIGTERM comes to it last."""
    early: bool = False
    """It leaves as soon as those are served who were there: no successor can start before it is gone."""
    refusing: bool = False
    """They are, and whoever comes now would only hold the successor up."""
    held: bool = False
    """The application was kept for a last scrape."""
    let_go: bool = False
    """The application may stop: its hooks are answered."""
    let_go_late: bool = False
    """That was at the drain's deadline."""
    outlived: bool = False
    """SIGTERM came last, when all was over: every other container of the pod is gone."""
    last_late: float | None = None
    longest_silence_s: float | None = None
    """Before one of those who came late."""
    place: Place = NOWHERE
    young: bool = False
    """The process was too young to have heard its callers: sparse for that, and not for want of traffic."""
    decided_by: set[Rule] = field(default_factory=set)
    """What has decided in it so far, as the log has it."""
    followed: float | None = None
    """When another endpoint became ready, where there was none."""
    propagation_ended: Reason | None = None
    entered: dict[Phase, float] = field(default_factory=dict)
    last_late_after_flip_s: float | None = None
    flipped_after_s: float | None = None
    unused_s: float = 0.0
    ended_by: str = ""
    report: Report | None = None

    def __post_init__(self) -> None:
        self.requests_before, self.tunnels_before = _requests(self.metrics), _tunnels(self.metrics)
        self.held_before, self.handed_off_before = _held(self.metrics), _handed_off(self.metrics)
        self.metrics.last_late_seconds.set(0.0)
        self.metrics.drain_longest_request_seconds.set(0.0)

    def came_late(self, now: float) -> None:
        """Take note of a request that came, at loop time `now`, on a connection made after the start."""
        silence_s = now - (self.started if self.last_late is None else self.last_late)
        self.longest_silence_s = max(silence_s, self.longest_silence_s or 0.0)
        self.last_late = now
        self.metrics.late_connection_age_seconds.observe(now - self.started)
        self.metrics.last_late_seconds.set(now - self.started)

    @property
    def over(self) -> bool:
        """Reported, and the application may stop: nothing is left to decide."""
        return self.let_go and self.report is not None

    def ended(self, evidence: Evidence, *, unused_s: float, by: str) -> None:
        """Take note of how it has ended. What was cut may still say so."""
        if evidence.state is Routability.GONE:
            self.flipped_after_s = max(0.0, evidence.since - self.started)
            if self.last_late is not None:
                self.last_late_after_flip_s = max(0.0, self.last_late - evidence.since)
        self.unused_s, self.ended_by = unused_s, by
        self.metrics.drain_unused_seconds.set(unused_s)

    def tunnels(self) -> dict[str, TunnelTally]:
        """Return what has become of tunnels and event streams so far, by kind."""
        return {
            kind: tally.minus(self.tunnels_before[kind]) for kind, tally in _tunnels(self.metrics).items()
        }

    def close(self) -> Report:
        """Close the books."""
        phases, times = list(self.entered), list(self.entered.values())
        self.report = Report(
            cause=self.cause,
            # The last one is drained, which is not over.
            phases_s={phase: end - at for phase, at, end in zip(phases, times, times[1:], strict=False)},
            propagation_ended=self.propagation_ended,
            last_late_after_flip_s=self.last_late_after_flip_s,
            in_flight_at_start=self.in_flight_at_start,
            requests=_requests(self.metrics).minus(self.requests_before),
            tunnels=self.tunnels(),
            unused_s=self.unused_s,
            ended_by=self.ended_by,
            flipped_after_s=self.flipped_after_s,
            last_late_s=None if self.last_late is None else self.last_late - self.started,
            longest_silence_s=self.longest_silence_s,
            arrivals_per_s=self.arrivals_per_s,
            held=_held(self.metrics) - self.held_before,
            handed_off=_handed_off(self.metrics) - self.handed_off_before,
            longest_request_s=self.metrics.drain_longest_request_seconds.value(),
            place=self.place,
        )
        return self.report


def _requests(metrics: Metrics) -> Tally:
    outcomes = {outcome: int(metrics.drain_requests.value(outcome)) for outcome in OUTCOMES}
    return Tally(**outcomes, late=int(metrics.late_requests.value()))


def _tunnels(metrics: Metrics) -> dict[str, TunnelTally]:
    counts = metrics.drain_tunnels.by_kind
    return {
        kind: TunnelTally(**{outcome: int(counts.get((kind, outcome), 0)) for outcome in TUNNEL_OUTCOMES})
        for kind in TUNNELS
    }


def _held(metrics: Metrics) -> int:
    return int(sum(metrics.held.values.values()))


def _handed_off(metrics: Metrics) -> int:
    return int(metrics.handoff.value("answered"))


def begun_by(*, sigterm: bool, prestop: bool) -> str:
    """Say what began a drain."""
    if sigterm:
        return "SIGTERM"
    return "the pod's preStop hook" if prestop else "drain was asked for"
