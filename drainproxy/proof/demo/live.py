"""Live: the four lanes while they run. On a terminal they are redrawn; elsewhere phases are printed."""

import asyncio

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from drainproxy.proof.demo.lane import Lane
from drainproxy.proof.demo.run import WARM_S, Run
from drainproxy.proof.demo.timeline import legend, ruler, timeline

_FRAME_S = 0.25
_IDLE_FRAME_S = 1.0  # drawing takes the clients' processor: while latencies are compared, little of it


class LiveRun:
    """Reads the run, never writes it."""

    def __init__(self, console: Console, run: Run) -> None:
        self._console = console
        self._run = run
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
                await asyncio.sleep(_IDLE_FRAME_S if self._run.t0 is None else _FRAME_S)

    def _now_s(self) -> float:
        """Seconds from the signal; before there is a time for it, the beginning of the timeline."""
        if self._run.t0 is None:
            return -WARM_S
        return asyncio.get_running_loop().time() - self._run.t0

    def _say_changes(self) -> None:
        for lane in self._run.lanes:
            if self._said.get(lane.way.name) != lane.phase:
                self._said[lane.way.name] = lane.phase
                when = f"{self._now_s():+6.1f} s" if self._run.t0 is not None else "        "
                self._console.print(f"{when}  {lane.way.name:<10}  {lane.phase}")

    def _frame(self) -> Group:
        now_s = self._now_s()
        ascii_only = not self._console.encoding.startswith("utf")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True)
        table.add_column(ruler(), no_wrap=True)
        table.add_column("lost", justify="right", no_wrap=True, min_width=4)
        table.add_column("", no_wrap=True, min_width=17)
        for lane in self._run.lanes:
            lost = lane.crowd.total.lost
            table.add_row(
                Text(lane.way.name, style="bold" if lane.way.sidecar else ""),
                self._timeline(lane, now_s, ascii_only=ascii_only),
                Text(f"{lost:,}", style="bold red" if lost else "green"),
                Text(lane.phase, style="dim"),
            )
        return Group(_headline(self._run.lag_s, now_s), table, legend(ascii_only=ascii_only))

    def _timeline(self, lane: Lane, now_s: float, *, ascii_only: bool) -> Text:
        t0 = self._run.t0 or 0.0
        return timeline(
            until_s=now_s,
            gone_s=lane.gone.after_s if lane.gone else None,
            lost_s=[loss.sent_at - t0 for loss in lane.crowd.total.losses],
            ascii_only=ascii_only,
        )


def _headline(lag_s: float, now_s: float) -> Text:
    return Text.assemble(
        (f"\nrouter lag {lag_s:g} s", "bold"),
        "  the old pod is still chosen that long after the signal",
        (f"  {now_s:+5.1f} s", "bold cyan"),
    )
