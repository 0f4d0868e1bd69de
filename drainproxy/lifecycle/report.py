"""What happened? One drain, one report, the same everywhere: log, termination message, /status.

Pure. The numbers are the drain metrics at its end less those at its start, so that report and metrics
cannot disagree.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

MAX_MESSAGE_BYTES = 4096
"""What the kubelet keeps of a termination message (Kubernetes: Determine the Reason for Pod Failure)."""

MAX_WORDS = 200
"""Characters of free text in a report, which has to fit into a termination message."""


class Cause(StrEnum):
    """Why the pod, the container or only this drain ends."""

    DELETION = "deletion"
    RESTART = "restart"
    NODE_SHUTDOWN = "node-shutdown"
    MANUAL = "manual"
    UNKNOWN = "unknown"


PLANS = {
    Cause.DELETION: "leave when the slices have flipped, another endpoint is ready and callers are quiet",
    Cause.RESTART: "leave when failing readiness probes have told the cluster, or by time and quiet",
    Cause.NODE_SHUTDOWN: "leave by time and quiet within node_shutdown_grace: nobody tells the cluster",
    Cause.MANUAL: "leave as for a deletion, and stay; undrain takes it back, but not in draining",
    Cause.UNKNOWN: "leave by what the slices say, or by time and quiet",
}
"""What each cause means for a drain, in the words of docs/kubernetes.md."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one drain, by outcome and arrival."""

    finished: int = 0
    timed_out: int = 0
    cut: int = 0
    refused: int = 0
    lost: int = 0
    late: int = 0

    def minus(self, earlier: Self) -> Self:
        """Return what has been counted since `earlier`."""
        mine, theirs = asdict(self), asdict(earlier)
        return type(self)(**{key: mine[key] - theirs[key] for key in mine})


@dataclass(frozen=True, slots=True)
class TunnelTally(Tally):
    """The same of tunnels and event streams, some of which were told to leave and have."""

    told_to_leave: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """One drain, start to end. Durations in seconds."""

    cause: str
    ended_by: str
    phases_s: dict[str, float]
    propagation_ended: str | None
    last_late_after_flip_s: float | None
    in_flight_at_start: int
    requests: Tally
    tunnels: Mapping[str, TunnelTally]
    """By kind; event streams are among them."""
    unused_s: float

    @property
    def incomplete(self) -> bool:
        """Somebody was not served to the end."""
        each = (self.requests, *self.tunnels.values())
        return any(one.timed_out or one.cut or one.refused or one.lost for one in each)

    def sentence(self) -> str:
        """Say it to a person, in well under a kilobyte."""
        tunnels = [(f"{kind} tunnels", tally) for kind, tally in self.tunnels.items()]
        counts = [
            f"{count} {what} {outcome.replace('_', ' ')}"
            for what, tally in (("requests", self.requests), *tunnels)
            for outcome, count in asdict(tally).items()
            if count
        ]
        took = sum(self.phases_s.values())
        what = ", ".join(counts) or "nothing to finish"
        return f"{what}; {took:.1f} s, cause {self.cause}: {self.ended_by[:MAX_WORDS]}"

    def fields(self) -> dict[str, Any]:
        """Return the report as JSON-ready fields."""
        return asdict(self) | {
            "ended_by": self.ended_by[:MAX_WORDS],
            "phases_s": {phase: round(seconds, 3) for phase, seconds in self.phases_s.items()},
            "last_late_after_flip_s": _rounded(self.last_late_after_flip_s),
            "unused_s": round(self.unused_s, 3),
        }

    def message(self) -> str:
        """Return the termination message: one JSON line, well within MAX_MESSAGE_BYTES: all is bounded."""
        return json.dumps(self.fields(), separators=(",", ":"))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
