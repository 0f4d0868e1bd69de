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

FEW_WORDS = 60
"""What is left of them beside names of the greatest length that Kubernetes knows."""


FAILURES = ("timed_out", "cut", "refused", "lost")
"""What a caller was not served by."""


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
class Place:
    """Whose drain it was, in the cluster's words; empty where that was not told."""

    pod: str = ""
    namespace: str = ""
    node: str = ""
    workload: str = ""

    def fields(self) -> dict[str, str]:
        """Return what is known of it."""
        return {name: text for name, text in asdict(self).items() if text}


NOWHERE = Place()


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
    flipped_after_s: float | None = None
    """When the slices had flipped, from the drain's start."""
    last_late_s: float | None = None
    """When the last late connection came, from the drain's start."""
    longest_silence_s: float | None = None
    """Of those who came late, until the last of them: what `quiet` would have had to outlast."""
    arrivals_per_s: float = 0.0
    """Before it began."""
    held: int = 0
    """Requests that waited for the application in it, however that ended."""
    handed_off: int = 0
    """Requests in it that a sibling has answered."""
    longest_request_s: float = 0.0
    """Of the requests that ended in it, from head to end."""
    place: Place = NOWHERE

    @property
    def incomplete(self) -> bool:
        """Somebody was not served to the end."""
        each = (self.requests, *self.tunnels.values())
        return any(getattr(one, outcome) for one in each for outcome in FAILURES)

    def verdict(self) -> str:
        """Say in a few words whether everybody was served."""
        if not self.incomplete:
            return "everybody was served"
        each = [("", self.requests), *((f"{kind} ", tally) for kind, tally in self.tunnels.items())]
        told = [
            f"{count} {what}{outcome.replace('_', ' ')}"
            for what, tally in each
            for outcome in FAILURES
            if (count := getattr(tally, outcome))
        ]
        return f"not everybody was served: {', '.join(told)}"

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
        said = asdict(self)
        del said["place"]
        return (
            self.place.fields()
            | {name: round(each, 3) if isinstance(each, float) else each for name, each in said.items()}
            | {
                "ended_by": self.ended_by[:MAX_WORDS],
                "phases_s": {phase: round(seconds, 3) for phase, seconds in self.phases_s.items()},
            }
        )

    def message(self) -> str:
        """Return the termination message: one JSON line within MAX_MESSAGE_BYTES."""
        fields = self.fields()
        if len(line := _line(fields)) > MAX_MESSAGE_BYTES:
            # Every name is as long as one may be, and the words are written in letters of twelve bytes each.
            line = _line(fields | {"ended_by": self.ended_by[:FEW_WORDS]})
        return line


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))
