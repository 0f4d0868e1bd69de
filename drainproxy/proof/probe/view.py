"""View: what a person sees of a probe. A live line, each loss as it happens, and a summary.

The summary is made to be pasted into a change request: it names what was done, when, and the loss.
"""

import asyncio
from collections.abc import Iterable

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from drainproxy.proof.durations import shown
from drainproxy.proof.outcomes import Outcome
from drainproxy.proof.probe.aftermath import Aftermath
from drainproxy.proof.probe.measurement import AFTER_COMMAND_S, Measurement

_FRAMES_PER_S = 4
_MAX_LIVE_LOSSES = 20
_MAX_ROWS = 200


class LiveView:
    """Prints above, refreshes below; on anything but a terminal it only prints."""

    def __init__(self, console: Console, measurement: Measurement) -> None:
        self._console = console
        self._measurement = measurement
        self._shown_losses = 0
        measurement.pace.on_loss = self._on_loss

    def show_line(self, line: str) -> None:
        self._console.print(Text("| ", style="dim").append(line, style="default"))

    async def refresh(self) -> None:
        """Redraw until cancelled."""
        if not self._console.is_terminal:
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self._line(), refresh=True)
                # A screen is redrawn by the clock: there is no event to wait for.
                await asyncio.sleep(1 / _FRAMES_PER_S)

    def _line(self) -> Text:
        measurement = self._measurement
        pace, tally = measurement.pace, measurement.pace.tally
        at = asyncio.get_running_loop().time()
        line = Text.assemble((f"{at - measurement.began_at:6.1f} s ", "bold"))
        line.append(f" {tally.requests:,} requests, {pace.in_flight} in flight ")
        line.append(f" {tally.lost:,} lost", style="bold red" if tally.lost else "bold green")
        line.append(f"  {tally.retried:,} retried")
        line.append(f"  longest gap {shown(tally.longest_gap_s(at))}", style="dim")
        return line

    def _on_loss(self, outcome: Outcome) -> None:
        self._shown_losses += 1
        if self._shown_losses <= _MAX_LIVE_LOSSES:
            self._console.print(_loss_line(self._measurement, outcome))
        elif self._shown_losses == _MAX_LIVE_LOSSES + 1:
            self._console.print("[dim]more are lost; the list is at the end[/]")


def _loss_line(measurement: Measurement, outcome: Outcome) -> Text:
    when = measurement.wall_time(outcome.sent_at)
    after_s = outcome.sent_at - measurement.began_at
    return Text.assemble(
        (f"{when:%H:%M:%S}.{when.microsecond // 1000:03d}Z +{after_s:.2f} s ", "dim"),
        (f"lost {outcome.kind} ", "bold red"),
        outcome.error,
    )


def summary(measurement: Measurement) -> Group:
    """Everything a reader of a change request needs, in 80 columns."""
    pace, tally = measurement.pace, measurement.pace.tally
    lines: list[Text | Table] = [Text(), _what(measurement)]
    if measurement.plan.command:
        lines.append(_command(measurement))
    lines.append(_numbers(measurement))
    if tally.by_status:
        counts = (f"{status} x {count:,}" for status, count in sorted(tally.by_status.items()))
        lines.append(Text("answers by status: " + ", ".join(counts) + "\n", style="dim"))
    if tally.lost:
        lines.append(_loss_table(measurement))
    if pace.held_back:
        text = (
            f"{pace.held_back:,} requests were not sent: too many were in flight or this machine stood still."
        )
        lines.append(Text(text, style="yellow"))
    if not tally.requests:
        lines.append(Text("Nothing was measured.", style="bold yellow"))
    elif tally.lost:
        lines.append(Text(f"{tally.lost:,} of {tally.requests:,} requests were lost.", style="bold red"))
    elif measurement.aftermath is None or measurement.aftermath.complete:
        lines.append(Text(f"None of {tally.requests:,} requests was lost.", style="bold green"))
    else:
        said = f"None of {tally.requests:,} requests was lost in the time that was measured."
        lines.append(Text(said, style="bold green"))
    return Group(*lines)


def _what(measurement: Measurement) -> Text:
    plan = measurement.plan
    habits = {
        "keep-alive": "kept connections",
        "new": "a new connection each",
        "mix": "half on kept, half on new connections",
    }
    return Text.assemble(
        ("drainproxy probe ", "bold"),
        (f"{plan.request.method} {plan.url}\n", "bold"),
        f"{measurement.began:%Y-%m-%d %H:%M:%S}Z, {plan.rate:g} requests/s for ",
        f"{shown(measurement.took_s)}, {habits[plan.connections]}",
    )


def _command(measurement: Measurement) -> Text:
    text = Text("while running: " + " ".join(measurement.plan.command))
    ended = measurement.command
    if ended is None:
        return text.append("\n(interrupted)", style="yellow")
    style = "green" if ended.exit_code == 0 else "bold yellow"
    text.append(f"\nexit code {ended.exit_code} after {shown(ended.took_s)}", style=style)
    return text.append(*_aftermath(measurement.aftermath))


def _aftermath(after: Aftermath | None) -> tuple[str, str]:
    """Say for what was waited behind the command, or that what it set off may have gone on."""
    if after is None:
        return "", ""
    if not after.complete:
        until = f"measured until {AFTER_COMMAND_S:g} s after it, and what it set off may have gone on"
        return f"\n{until}: {after.why}", "yellow"
    what = [*after.waited_for, *([f"{after.old_pods} old pods to be gone"] if after.old_pods else [])]
    return f"\nthen waited {shown(after.took_s)} for {', '.join(what)}", "green"


def _numbers(measurement: Measurement) -> Table:
    tally = measurement.pace.tally
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("requests", "lost", "retried", "p50", "p99", "max", "longest gap"):
        table.add_column(title, justify="right")
    quantiles = (tally.quantile_s(q) for q in (0.5, 0.99, 1.0))
    table.add_row(
        f"{tally.requests:,}",
        Text(f"{tally.lost:,}", style="bold red" if tally.lost else "bold green"),
        f"{tally.retried:,}",
        *("-" if value is None else shown(value) for value in quantiles),
        shown(tally.longest_gap_s(measurement.ended_at)),
    )
    return table


def loss_runs(losses: Iterable[Outcome], *, apart_s: float) -> list[list[Outcome]]:
    """Put together what is alike, in order of time.

    What lies more than `apart_s` apart is two runs, for answers came in between.
    """
    runs: list[list[Outcome]] = []
    for loss in sorted(losses, key=lambda outcome: outcome.sent_at):
        last = runs[-1][-1] if runs else None
        alike = last and (last.kind, last.error) == (loss.kind, loss.error)
        if last and alike and loss.sent_at - last.sent_at <= apart_s:
            runs[-1].append(loss)
        else:
            runs.append([loss])
    return runs


def _loss_table(measurement: Measurement) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("lost at (UTC)", "seconds", "count", "kind", "error"):
        table.add_column(title, justify="right" if title == "count" else "left")
    # One answer in between does not part them: of a half-dead service the rows would not end.
    apart_s = 2.5 / measurement.plan.rate
    runs = loss_runs(measurement.pace.tally.losses, apart_s=apart_s)[:_MAX_ROWS]
    for run in runs:
        first_s, last_s = (at.sent_at - measurement.began_at for at in (run[0], run[-1]))
        span = f"{first_s:.2f}" if len(run) == 1 else f"{first_s:.2f}-{last_s:.2f}"
        when = f"{measurement.wall_time(run[0].sent_at):%H:%M:%S}"
        table.add_row(when, span, f"{len(run):,}", str(run[0].kind), escape(run[0].error))
    left = measurement.pace.tally.lost - sum(map(len, runs))
    if left:
        table.add_row("", "", f"{left:,}", "", "more")
    return table
