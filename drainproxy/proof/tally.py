"""Tally: adds outcomes up. Every number the two verbs show comes out of here.

One writer, the loop that runs the clients. Memory is bounded: a latency is eight bytes, and of the
losses the first `MAX_KEPT_LOSSES` are kept whole while all are counted.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable

from drainproxy.proof.outcomes import Kind, Outcome

MAX_KEPT_LOSSES = 10_000


class Tally:
    """Counts of one stretch of requests that began at `began_at` (loop time)."""

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self.requests = 0
        self.retried = 0
        self.by_kind: Counter[Kind] = Counter()
        self.by_status: Counter[int] = Counter()
        self.losses: list[Outcome] = []
        self._latencies_s = array("d")
        self._good_at = began_at
        self._longest_gap_s = 0.0

    @property
    def lost(self) -> int:
        return self.by_kind.total()

    def add(self, outcome: Outcome) -> None:
        self.requests += 1
        self.retried += outcome.retried
        if outcome.status is not None:
            self.by_status[outcome.status] += 1
        if outcome.kind is not None:
            self.by_kind[outcome.kind] += 1
            if len(self.losses) < MAX_KEPT_LOSSES:
                self.losses.append(outcome)
            return
        self._latencies_s.append(outcome.took_s)
        ended_at = outcome.sent_at + outcome.took_s
        self._longest_gap_s = max(self._longest_gap_s, ended_at - self._good_at)
        self._good_at = max(self._good_at, ended_at)

    def longest_gap_s(self, until: float) -> float:
        """The longest time in which no good answer came, the time up to `until` included."""
        return max(self._longest_gap_s, until - self._good_at)

    def quantile_s(self, q: float) -> float | None:
        return quantile(self._latencies_s, q)


def quantile(values: Iterable[float], q: float) -> float | None:
    """The smallest value that at least a share `q` of the values does not exceed; None without any."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
