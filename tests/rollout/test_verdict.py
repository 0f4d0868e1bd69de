"""The verdict of a rollout: each thing that must not be is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drainproxy.proof.demo.ledger import Orders
from drainproxy.proof.outcomes import Kind, Outcome
from tests.rollout import rows, table, verdict
from tests.rollout.callers import Called
from tests.rollout.play import Ended, RowResult
from tests.rollout.streams import StreamTally

LOSS = Outcome(
    sent_at=0.0, took_s=1.5, status=None, kind=Kind.REFUSED, error="refused", retried=False, peer="p:1"
)


def ended(
    gone_s: float = 6.0, drained_s: float = 5.0, killed: tuple[str, ...] = (), by: str = "slices_quiet"
) -> Ended:
    report = {"propagation_ended": by, "phases_s": {"propagating": drained_s - 0.5, "draining": 0.5}}
    return Ended(gone_s=gone_s, killed=list(killed), report=report)


def result(row: rows.Row, **fields) -> RowResult:
    return RowResult(row, 2.0, **{"called": Called(1000), "ended": [ended()], **fields})


def good() -> dict[str, RowResult]:
    found = {row.name: result(row) for row in rows.ROWS}
    found["bare"].called.losses = [LOSS]
    found["sleep 15"].ended = [ended(15.2)]
    return found


def test_a_good_rollout_has_no_faults():
    """Nothing lost behind drainproxy, something without, every pod in time."""
    assert verdict.faults(list(good().values()), min_requests=1000) == []


FAULTS = {
    "drainproxy: 1 lost requests": {"called": Called(1000, [LOSS])},
    "drainproxy: 2 duplicated orders": {"orders": Orders(9, 2, 0)},
    "drainproxy: 3 orders confirmed and never processed": {"orders": Orders(9, 0, 3)},
    "drainproxy: 1 killed containers": {"ended": [ended(killed=("app",))]},
    "drainproxy: 4 lost event ids": {"called": Called(1000, streams=StreamTally(ids_lost=4))},
    "drainproxy: 5 torn events": {"called": Called(1000, streams=StreamTally(torn=5))},
    "drainproxy: only 999 requests": {"called": Called(999)},
    "drainproxy: a pod took 15.2 s, not less than 15.2 s": {"ended": [ended(15.2)]},
    "drainproxy: 1 pods without a report": {"ended": [Ended(6.0, [], {})]},
    "drainproxy: 1 pods that never had the cluster's word": {"ended": [ended(by="quiet"), ended()]},
    "drainproxy: no pod was ended": {"ended": []},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_said(fault):
    """One thing is wrong with one row, and the verdict names both."""
    found = good()
    found["drainproxy"] = replace(found["drainproxy"], **FAULTS[fault])
    if fault.endswith("no pod was ended"):
        del found["sleep 15"]
    assert verdict.faults(list(found.values()), min_requests=1000) == [f"lag 2 s: {fault}"]


def test_slow_streams_idle_pods_and_a_bare_application_without_losses_are_said():
    """Bounds in seconds, and the comparison without which nothing is proved."""
    found = good()
    found["streams"].ended = [ended(14.1)]
    found["streams"].called.streams.codes.update({1001: 3, 1006: 2})
    found["idle"].ended = [ended(drained_s=9.5)]
    found["bare"].called.losses = []
    assert verdict.faults(list(found.values()), min_requests=1000) == [
        "lag 2 s: streams: 2 bad WebSocket codes",
        "lag 2 s: bare: 0 lost requests, so nothing was proved",
        "lag 2 s: streams: a pod took 14.1 s, not less than 14.0 s",
        "lag 2 s: idle: a pod had drained after 9.5 s",
    ]


def test_the_table_has_a_line_for_each_row():
    """Cells are in columns, and each loss can be read in words."""
    found = good()
    found["drainproxy"].called.losses = [LOSS]
    lines = table.table(list(found.values())).splitlines()
    assert lines[0] == "### Lag 2 s"
    assert len(lines) == 4 + len(rows.ROWS)
    assert len({len(line) for line in lines[2:]}) == 1
    assert table.losses(found.values()) == ["lag 2 s, drainproxy: refused after 1.50 s, refused (p:1)"]
