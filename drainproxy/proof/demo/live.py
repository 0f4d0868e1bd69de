"""Live: the four columns while they run. On a terminal they are redrawn; elsewhere phases are printed."""

import asyncio

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from drainproxy.proof.demo.column import Column
from drainproxy.proof.demo.stage import WARM_S, Stage
from drainproxy.proof.demo.strip import legend, ruler, strip

_FRAME_S = 0.25
_IDLE_FRAME_S = 1.0  # drawing takes the clients' processor: while latencies are compared, little of it


class LiveStage:
    """Reads the stage, never writes it."""

    def __init__(self, console: Console, stage: Stage) -> None:
        self._console = console
        self._stage = stage
        self._said: dict[str, str] = {}

    async def show(self) -> None:
        """Redraw until cancelled. A screen is redrawn by the clock: there is no event to wait for."""
        if not self._console.is_terminal:
            while True:
                self._say_changes()
                await asyncio.sleep(_FRAME_S)
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self._frame(), refresh=True)
                await asyncio.sleep(_IDLE_FRAME_S if self._stage.t0 is None else _FRAME_S)

    def _now_s(self) -> float:
        """Seconds from the signal; before there is a time for it, the beginning of the strip."""
        if self._stage.t0 is None:
            return -WARM_S
        return asyncio.get_running_loop().time() - self._stage.t0

    def _say_changes(self) -> None:
        for column in self._stage.columns:
            if self._said.get(column.way.name) != column.phase:
                self._said[column.way.name] = column.phase
                when = f"{self._now_s():+6.1f} s" if self._stage.t0 is not None else "        "
                self._console.print(f"{when}  {column.way.name:<10}  {column.phase}")

    def _frame(self) -> Group:
        now_s = self._now_s()
        ascii_only = not self._console.encoding.startswith("utf")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True)
        table.add_column(ruler(), no_wrap=True)
        table.add_column("lost", justify="right", no_wrap=True, min_width=4)
        table.add_column("", no_wrap=True, min_width=17)
        for column in self._stage.columns:
            lost = column.crowd.total.lost
            table.add_row(
                Text(column.way.name, style="bold" if column.way.sidecar else ""),
                self._strip(column, now_s, ascii_only=ascii_only),
                Text(f"{lost:,}", style="bold red" if lost else "green"),
                Text(column.phase, style="dim"),
            )
        return Group(_headline(self._stage.lag_s, now_s), table, legend(ascii_only=ascii_only))

    def _strip(self, column: Column, now_s: float, *, ascii_only: bool) -> Text:
        t0 = self._stage.t0 or 0.0
        return strip(
            until_s=now_s,
            gone_s=column.gone.after_s if column.gone else None,
            lost_s=[loss.sent_at - t0 for loss in column.crowd.total.losses],
            ascii_only=ascii_only,
        )


def _headline(lag_s: float, now_s: float) -> Text:
    return Text.assemble(
        (f"\nrouter lag {lag_s:g} s", "bold"),
        "  the old pod is still chosen that long after the signal",
        (f"  {now_s:+5.1f} s", "bold cyan"),
    )
