"""Tables: the demo's results as text that fits 80 columns, with colour where the console has any."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from drainproxy.proof.demo.results import (
    GOING_AWAY,
    ColumnResult,
    DemoResult,
    IdleResult,
    KilledResult,
    LossResult,
    StageResult,
)
from drainproxy.proof.demo.strip import AFTER_S, legend, ruler, strip
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


def stage_report(stage: StageResult, *, ascii_only: bool) -> Group:
    headline = Text.assemble(
        (f"\nrouter lag {stage.lag_s:g} s", "bold"),
        "  the router chose the old pod that long after the signal",
    )
    clock, counts = _clock(stage, ascii_only=ascii_only), _counts(stage)
    parts: list[Text | Table] = [headline, clock, Text(), counts, Text(_WORDS, style="dim")]
    parts += [Text(), _sitters(stage)]
    for column in stage.columns:
        if column.judged:
            parts += _evidence(column.load.losses)
    return Group(*parts)


def _clock(stage: StageResult, *, ascii_only: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column(ruler(), no_wrap=True)
    for column in stage.columns:
        line = strip(
            until_s=min(AFTER_S, max(other.gone.after_s for other in stage.columns)),
            gone_s=column.gone.after_s,
            lost_s=[loss.after_s for loss in column.load.losses],
            ascii_only=ascii_only,
        )
        table.add_row(_name(column), line)
    table.add_row("", legend(ascii_only=ascii_only))
    return table


def _counts(stage: StageResult) -> Table:
    others = any(column.load.lost_as(*_OTHERS) for column in stage.columns)
    kinds = {**_KINDS, "other": _OTHERS} if others else _KINDS
    # One column more and a space less between them: it is 80 characters either way.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0 if others else 1, 0, 0))
    table.add_column("", no_wrap=True)
    for title in ("sent", *kinds, "lost", "twice", "gone"):
        table.add_column(title, justify="right", no_wrap=True)
    for column in stage.columns:
        load = column.load
        table.add_row(
            _name(column),
            f"{load.requests:,}",
            *(_count(load.lost_as(*group)) for group in kinds.values()),
            _count(load.lost, bold=True),
            _count(load.orders.duplicated, bold=True),
            f"{column.gone.after_s:.1f} s" + ("!" if column.gone.killed else ""),
        )
    return table


def _sitters(stage: StageResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for title in ("WebSockets ended with", "event streams ended", "cut in mid event"):
        table.add_column(title, justify="right", no_wrap=True)
    for column in stage.columns:
        sitters = column.sitters
        codes = ", ".join(f"{count} x {code}" for code, count in sorted(sitters.close_codes.items()))
        good = set(sitters.close_codes) <= {GOING_AWAY}
        table.add_row(
            _name(column),
            Text(codes or "none", style="green" if good else "red"),
            f"{sitters.streams_whole + sitters.streams_cut}",
            _count(sitters.streams_cut, bold=True),
        )
    return table


def _name(column: ColumnResult) -> Text:
    return Text(column.name, style="bold" if column.judged else "")


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
    judged = [column for stage in result.stages for column in stage.columns if column.judged]
    requests = sum(column.load.requests for column in judged)
    orders = sum(column.load.orders.processed for column in judged)
    lags = " and ".join(f"{stage.lag_s:g} s" for stage in result.stages)
    return Text(
        f"\ndrainproxy lost none of {requests:,} requests and processed none of {orders:,} orders"
        f" twice,\nwith one setting at lag {lags}.",
        style="bold green",
    )
