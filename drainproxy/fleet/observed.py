"""What drains of a workload have seen: one record a drain, from reports or from metrics.

Pure. What a source does not know is None, and whoever judges by it assumes the worse.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from drainproxy.fleet import reports
from drainproxy.fleet.reports import Report
from drainproxy.lifecycle.propagation import Reason

CUT_SHORT = frozenset((Reason.MAX, Reason.DEADLINE, Reason.UPSTREAM_GONE, Reason.INTERRUPTED, Reason.ALONE))
"""Ends of propagation after which callers may have come to a pod that was gone."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Times in seconds, from the drain's start where nothing else is said."""

    workload: str
    """With its namespace, where that is known."""
    ended: str
    propagating_s: float
    draining_s: float
    unused_s: float
    flipped_after_s: float | None
    last_late_s: float | None
    longest_silence_s: float | None
    arrivals_per_s: float | None
    longest_request_s: float
    lost: int

    @property
    def late_after_flip_s(self) -> float | None:
        """How long after the flip somebody still came."""
        if self.flipped_after_s is None or self.last_late_s is None:
            return None
        return max(0.0, self.last_late_s - self.flipped_after_s)

    @property
    def cut_short(self) -> bool:
        """Tell whether callers were still coming when nobody was left to hear them."""
        if self.ended not in CUT_SHORT or self.last_late_s is None:
            return False
        stayed_s = self.propagating_s + self.draining_s
        return stayed_s - self.last_late_s <= max(1.0, self.longest_silence_s or 0.0)


def of_report(report: Report) -> Observed | None:
    """Return what a report tells; None for a drain that was nobody's end, such as one by hand."""
    if report["propagation_ended"] is None:
        return None
    phases: Mapping[str, float] = report["phases_s"]
    namespace, workload = report.get("namespace"), report.get("workload")
    return Observed(
        workload="/".join(str(each) for each in (namespace, workload) if each) or "-",
        ended=str(report["propagation_ended"]),
        propagating_s=float(phases.get("propagating", 0.0)),
        draining_s=float(phases.get("draining", 0.0)),
        unused_s=float(report.get("unused_s") or 0.0),
        flipped_after_s=report.get("flipped_after_s"),
        last_late_s=report.get("last_late_s"),
        longest_silence_s=report.get("longest_silence_s"),
        arrivals_per_s=report.get("arrivals_per_s"),
        longest_request_s=float(report.get("longest_request_s") or 0.0),
        lost=reports.lost(report),
    )


def by_workload(drains: Iterable[Observed]) -> dict[str, list[Observed]]:
    """Return them workload by workload, by name."""
    found: dict[str, list[Observed]] = {}
    for each in drains:
        found.setdefault(each.workload, []).append(each)
    return dict(sorted(found.items()))
