"""The small parts of the demo: router, ledger, timelines, verdicts."""

import dataclasses

import pytest
from rich.console import Console

from drainproxy.proof.demo import tables
from drainproxy.proof.demo.kubelet import Gone
from drainproxy.proof.demo.lane import Router
from drainproxy.proof.demo.ledger import Orders, read_orders
from drainproxy.proof.demo.results import (
    DemoResult,
    IdleResult,
    KilledResult,
    LaneResult,
    LoadResult,
    LongLivedResult,
    LossResult,
    RunResult,
)
from drainproxy.proof.demo.timeline import CELLS, ruler, timeline
from drainproxy.proof.outcomes import Kind

OLD, NEW = ("127.0.0.1", 1), ("127.0.0.1", 2)
LOSS = LossResult(
    after_s=0.25, took_s=0.1, role="GET, new connection", kind=Kind.REFUSED, error="refused", pod="p:1"
)


def test_a_router_chooses_both_until_it_forgets_one():
    """Each connection gets a pod by chance; a forgotten pod gets none any more."""
    router = Router(OLD, NEW)
    assert {router.choose() for _ in range(50)} == {OLD, NEW}
    router.pods.remove(OLD)
    assert {router.choose() for _ in range(50)} == {NEW}


def test_a_ledger_tells_doubled_and_missing_orders(tmp_path):
    """What the callers were told is compared with what was processed; other crowds do not count."""
    ledger = tmp_path / "ledger"
    ledger.write_text("a/1\na/2\na/2\nb/1\nb/1\n")
    assert read_orders(ledger, crowd="a", acknowledged={"a/1", "a/2", "a/3"}) == Orders(2, 1, 1)
    assert read_orders(tmp_path / "none", crowd="a", acknowledged=set()) == Orders(0, 0, 0)


def test_a_strip_shows_pods_losses_and_now():
    """Cells of half a second; a loss is shown wherever it was, nothing after now."""
    text = timeline(until_s=3.0, gone_s=1.0, lost_s=[0.1, 2.0], ascii_only=True).plain
    assert text == "====x==-x--".ljust(CELLS)
    assert len(ruler().plain) == CELLS


def test_times_beyond_the_strip_stay_on_it():
    """An early or late event is drawn at the edge rather than lost."""
    text = timeline(until_s=99.0, gone_s=None, lost_s=[-99.0, 99.0], ascii_only=True).plain
    assert (text[0], text[-1], len(text)) == ("x", "x", CELLS)


def load(*losses: LossResult, orders: Orders = Orders(10, 0, 0)) -> LoadResult:  # noqa: B008 - frozen
    return LoadResult(requests=100, retried=1, losses=losses, orders=orders, requests_by_role={"GET": 90})


def lane(name: str, work: LoadResult, *, judged: bool = True, killed: bool = False) -> LaneResult:
    return LaneResult(
        name=name,
        judged=judged,
        load=work,
        before_signal=(20, 0),
        gone=Gone(after_s=8.1, killed=killed),
        long_lived=LongLivedResult({1001: 4}, 4, 0),
    )


def demo(*lanes: LaneResult, idle_errors: int = 0) -> DemoResult:
    return DemoResult(
        runs=(RunResult(lag_s=0.5, lanes=lanes),),
        idle=IdleResult(100, idle_errors, 0.001, 0.002, 0.0012, 0.0019),
        killed=KilledResult(load=load(LOSS), back_after_s=0.5),
    )


def test_a_clean_drainproxy_has_no_faults():
    """Losses of the other lanes are what the demo is about, not faults of it."""
    result = demo(lane("bare", load(LOSS), judged=False), lane("drainproxy", load()))
    assert (result.faults(), result.gaps()) == ([], [])


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (lane("drainproxy", load(LOSS)), "lost 1 of 100 requests"),
        (lane("drainproxy", load(orders=Orders(10, 2, 0))), "duplicated 2 orders"),
        (lane("drainproxy", load(orders=Orders(10, 0, 3))), "confirmed 3 orders nobody processed"),
        (lane("drainproxy", load(), killed=True), "had to be killed"),
    ],
)
def test_each_fault_of_drainproxy_is_named(bad, fault):
    """Lost, duplicated, invented, killed: any one of them fails the demo."""
    (found,) = demo(bad).faults()
    assert fault in found
    assert "lag 0.5 s" in found


def test_errors_while_idle_are_a_fault():
    """A proxy that loses requests while nothing happens need not be drained."""
    assert demo(lane("drainproxy", load()), idle_errors=2).faults() == ["idle: 2 errors"]


def test_what_was_not_measured_is_a_gap():
    """A zero is only worth something when the clients really ran."""
    lazy = dataclasses.replace(load(orders=Orders(0, 0, 0)), requests_by_role={"GET": 1})
    gaps = demo(lane("drainproxy", lazy)).gaps()
    assert gaps == [
        "lag 0.5 s: drainproxy: only 1 requests of 'GET'",
        "lag 0.5 s: drainproxy: the ledger is empty",
    ]


@pytest.mark.parametrize("long_lived", [LongLivedResult({}, 4, 0), LongLivedResult({1001: 4}, 0, 0)])
def test_nobody_seen_to_leave_is_a_gap(long_lived):
    """That none was cut says nothing when none was there."""
    found = demo(dataclasses.replace(lane("drainproxy", load()), long_lived=long_lived)).gaps()
    assert found == ["lag 0.5 s: drainproxy: no WebSocket or no event stream was seen to end"]


@pytest.mark.parametrize("kind", [Kind.REFUSED, Kind.INVALID])
def test_every_table_fits_80_columns_without_losing_a_word(kind):
    """With the widest numbers, and with the lane that is there only when it is needed."""
    many = tuple(dataclasses.replace(LOSS, kind=kind) for _ in range(999))
    wide = dataclasses.replace(load(*many, orders=Orders(9999, 999, 0)), requests=12_345)
    result = demo(lane("sleep 15", wide, judged=False), lane("drainproxy", wide, killed=True))
    console = Console(width=80, record=True, force_terminal=False, highlight=False)
    console.print(tables.run_report(result.runs[0], ascii_only=True))
    console.print(tables.idle_report(result.idle))
    console.print(tables.killed_report(result.killed))
    console.print(tables.verdict(result, faults=result.faults(), gaps=[]))
    text = console.export_text()
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "12,345" in text
    assert "and 989 more" in text
    assert "8.1 s!" in text
