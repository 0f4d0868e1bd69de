"""What the rows must show: nothing lost behind drainproxy, something without it, and pods that leave in time.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.rollout.rows import BARE, IDLE, PROBERS, SLEEP_15, STREAMS, WITH_API

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.rollout.play import Ended, RowResult

MARGIN_S, QUIET_S, LEAVE_S, SPARSE_MIN_S = 2.0, 2.0, 8.0, 8.0
QUICK_LAG_S = 2.0
"""Up to here the cluster's word must beat a guess of 15 s."""

GOOD_CODES = {1000, 1001}


def faults(results: Sequence[RowResult], *, min_requests: int) -> list[str]:
    """Return a sentence for everything that is not as it must be."""
    found = []
    for lag_s in sorted({result.lag_s for result in results}):
        at_lag = {result.row.name: result for result in results if result.lag_s == lag_s}
        sentences = [*_losses(at_lag, min_requests), *_seconds(at_lag, lag_s)]
        found += [f"lag {lag_s:g} s: {sentence}" for sentence in sentences]
    return found


def _losses(at_lag: dict[str, RowResult], min_requests: int) -> Iterator[str]:
    for name, result in at_lag.items():
        if not result.row.judged:
            continue
        streams = result.called.streams
        counts = {
            "lost requests": result.lost,
            "duplicated orders": result.orders.duplicated,
            "orders confirmed and never processed": result.orders.missing,
            "killed containers": sum(len(each.killed) for each in result.ended),
            "pods without a report": sum(not each.report for each in result.ended),
            "pods that never had the cluster's word": sum(_by_quiet(result, each) for each in result.ended),
            "lost event ids": streams.ids_lost,
            "torn events": streams.torn,
            "bad WebSocket codes": sum(n for code, n in streams.codes.items() if code not in GOOD_CODES),
        }
        yield from (f"{name}: {count} {what}" for what, count in counts.items() if count)
        if result.row.counted and result.called.requests < min_requests:
            yield f"{name}: only {result.called.requests} requests"
        if not result.ended:
            yield f"{name}: no pod was ended"
    bare = at_lag.get(BARE.name)
    if bare and not bare.lost:
        yield f"{BARE.name}: 0 lost requests, so nothing was proved"


def _by_quiet(result: RowResult, ended: Ended) -> bool:
    """Tell whether a pod that may ask the API server has left without having heard of it."""
    return result.row.rbac != "none" and ended.report.get("propagation_ended") == "quiet"


def _seconds(at_lag: dict[str, RowResult], lag_s: float) -> Iterator[str]:
    bounds_s = {STREAMS.name: lag_s + MARGIN_S + QUIET_S + LEAVE_S}
    if lag_s <= QUICK_LAG_S and SLEEP_15.name in at_lag:
        # Both have the cluster's word, and requests shorter than a second.
        bounds_s |= dict.fromkeys((WITH_API.name, PROBERS.name), quickest(at_lag[SLEEP_15.name]))
    for name, bound_s in bounds_s.items():
        if name in at_lag and slowest(at_lag[name]) >= bound_s:
            yield f"{name}: a pod took {slowest(at_lag[name]):.1f} s, not less than {bound_s:.1f} s"
    idle = at_lag.get(IDLE.name)
    drained_s = max((each.drained_s for each in idle.ended if each.report), default=0.0) if idle else 0.0
    if drained_s > SPARSE_MIN_S + 1.0:
        yield f"{IDLE.name}: a pod had drained after {drained_s:.1f} s"


def slowest(result: RowResult) -> float:
    """Return the longest that a pod took to be gone, in seconds."""
    return max((each.gone_s for each in result.ended), default=0.0)


def quickest(result: RowResult) -> float:
    """Return the shortest."""
    return min((each.gone_s for each in result.ended), default=0.0)
