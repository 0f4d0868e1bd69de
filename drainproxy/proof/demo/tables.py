"""Tables: the demo's results as text that fits 80 lanes, with colour where the console has any."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from drainproxy.proof.demo.results import (
    GOING_AWAY,
    DemoResult,
    IdleResult,
    KilledResult,
    LaneResult,
    LossResult,
    RunResult,
)
from drainproxy.proof.demo.timeline import AFTER_S, legend, ruler, timeline
from drainproxy.proof.durations import shown
from drainproxy.proof.outcomes import Kind

_KINDS = {
    "refused": (Kind.REFUSED,),
    "reset": (Kind.RESET,),
    "cut": (Kind.TRUNCATED,),
    "5xx": (Kind.SERVER_ERROR,),
    "timeout": (Kind.TIMEOUT,),
}
_OTHERS = (Kind.INVALID, Kind.UNREACHABLE)  # shown only when there are any
_MAX_LOSSES_SHOWN = 10
_WORDS = "cut: began and never ended   twice: orders processed twice   gone: after SIGTERM"

KILL_HEADLINE = Text.assemble(
    ("\nkill -9", "bold"), "  drainproxy dies under load in the only pod (not in the verdict)"
)


def run_report(run: RunResult, *, ascii_only: bool) -> Group:
    headline = Text.assemble(
        (f"\nrouter lag {run.lag_s:g} s", "bold"), "  the router chose the old pod that long after the signal"
    )
    clock, counts = _clock(run, ascii_only=ascii_only), _counts(run)
    parts: list[Text | Table] = [headline, clock, Text(), counts, Text(_WORDS, style="dim")]
    parts += [Text(), _long_lived(run)]
    for lane in run.lanes:
        if lane.judged:
            parts += _evidence(lane.load.losses)
    return Group(*parts)


def _clock(run: RunResult, *, ascii_only: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column(ruler(), no_wrap=True)
    for lane in run.lanes:
        line = timeline(
            until_s=min(AFTER_S, max(other.gone.after_s for other in run.lanes)),
            gone_s=lane.gone.after_s,
            lost_s=[loss.after_s for loss in lane.load.losses],
            ascii_only=ascii_only,
        )
        table.add_row(_name(lane), line)
    table.add_row("", legend(ascii_only=ascii_only))
    return table


def _counts(run: RunResult) -> Table:
    others = any(lane.load.lost_as(*_OTHERS) for lane in run.lanes)
    kinds = {**_KINDS, "other": _OTHERS} if others else _KINDS
    # One column more and a space less between them: it is 80 characters either way.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0 if others else 1, 0, 0))
    table.add_column("", no_wrap=True)
    for title in ("sent", *kinds, "lost", "twice", "gone"):
        table.add_column(title, justify="right", no_wrap=True)
    for lane in run.lanes:
        load = lane.load
        table.add_row(
            _name(lane),
            f"{load.requests:,}",
            *(_count(load.lost_as(*group)) for group in kinds.values()),
            _count(load.lost, bold=True),
            _count(load.orders.duplicated, bold=True),
            f"{lane.gone.after_s:.1f} s" + ("!" if lane.gone.killed else ""),
        )
    return table


def _long_lived(run: RunResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for title in ("WebSockets ended with", "event streams ended", "cut in mid event"):
        table.add_column(title, justify="right", no_wrap=True)
    for lane in run.lanes:
        long_lived = lane.long_lived
        codes = ", ".join(f"{count} x {code}" for code, count in sorted(long_lived.close_codes.items()))
        good = set(long_lived.close_codes) <= {GOING_AWAY}
        table.add_row(
            _name(lane),
            Text(codes or "none", style="green" if good else "red"),
            f"{long_lived.streams_whole + long_lived.streams_cut}",
            _count(long_lived.streams_cut, bold=True),
        )
    return table


def _name(lane: LaneResult) -> Text:
    return Text(lane.name, style="bold" if lane.judged else "")


def _count(number: int, *, bold: bool = False) -> Text:
    if number:
        return Text(f"{number:,}", style="bold red")
    return Text("0", style="bold green" if bold else "dim")


def _evidence(losses: Sequence[LossResult]) -> list[Text]:
    lines = [_loss_line(loss) for loss in losses[:_MAX_LOSSES_SHOWN]]
    left = len(losses) - len(lines)
    return [*lines, Text(f"  and {left:,} more", style="red")] if left else lines


def _loss_line(loss: LossResult) -> Text:
    return Text(
        f"  lost {loss.after_s:+.2f} s  {loss.role}: {loss.kind}, {loss.error} ({loss.pod})", style="red"
    )


def idle_report(idle: IdleResult) -> Group:
    headline = Text.assemble(
        ("\nidle", "bold"),
        f"  nothing ends; {idle.pairs:,} requests each way, in turn, ",
        _count(idle.errors, bold=True),
        " errors",
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for title in ("direct", "through drainproxy", "added"):
        table.add_column(title, justify="right")
    for name, direct_s, proxied_s in (
        ("p50", idle.direct_p50_s, idle.proxied_p50_s),
        ("p99", idle.direct_p99_s, idle.proxied_p99_s),
    ):
        table.add_row(name, shown(direct_s), shown(proxied_s), _added(proxied_s - direct_s))
    return Group(headline, table)


def _added(seconds: float) -> str:
    return f"+{shown(seconds)}" if seconds >= 0 else f"-{shown(-seconds)}"


def killed_report(killed: KilledResult) -> Group:
    load = killed.load
    kinds = ", ".join(f"{load.lost_as(kind):,} {kind}" for kind in Kind if load.lost_as(kind))
    lines = [Text(f"lost {load.lost:,} of {load.requests:,} requests{f': {kinds}' if kinds else ''}")]
    if load.losses:
        lines.append(Text(f"sent from {_span(load.losses)} around the kill"))
    twice = load.orders.duplicated
    lines.append(
        Text(
            f"answering again after {shown(killed.back_after_s)};"
            f" {twice:,} orders processed twice, {load.retried:,} GETs retried"
        )
    )
    return Group(*lines)


def _span(losses: Iterable[LossResult]) -> str:
    times = [loss.after_s for loss in losses]
    return f"{min(times):+.2f} s to {max(times):+.2f} s"


def verdict(result: DemoResult, *, faults: Sequence[str], gaps: Sequence[str]) -> Text:
    if gaps:
        text = Text("\nNot everything could be measured:", style="bold yellow")
        for gap in gaps:
            text.append(f"\n  {gap}")
        return text
    if faults:
        text = Text("\ndrainproxy failed its own proof:", style="bold red")
        for fault in faults:
            text.append(f"\n  {fault}")
        return text
    judged = [lane for run in result.runs for lane in run.lanes if lane.judged]
    requests = sum(lane.load.requests for lane in judged)
    orders = sum(lane.load.orders.processed for lane in judged)
    lags = " and ".join(f"{run.lag_s:g} s" for run in result.runs)
    return Text(
        f"\ndrainproxy lost none of {requests:,} requests and processed none of {orders:,} orders"
        f" twice,\nwith one setting at lag {lags}.",
        style="bold green",
    )
