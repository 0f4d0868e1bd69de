"""One frame of `drainproxy status`: the document of /status, for eyes and 80 columns.

Pure: a dict in, something rich can print out. Called by view.py. Strings of the document become plain Text,
never markup and never control characters: a path may hold what a terminal would obey.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from drainproxy.admin.recent import STEPS
from drainproxy.lifecycle.machine import Phase
from drainproxy.log import plain

BAR_WIDTH = 36
WORK_BAR_WIDTH = 12

_COLORS = {
    Phase.STARTING: "yellow",
    Phase.READY: "green",
    Phase.PROPAGATING: "cyan",
    Phase.DRAINING: "magenta",
    Phase.DRAINED: "green",
}
_OWN = frozenset(("kind", "age_s", "deadline_in_s"))
_LABEL_WIDTH = 14
SPARK_WIDTH = 40
_BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_RATES = {"requests": "requests /s", "arrivals": "new callers /s", "errors": "errors /s"}
"""A series of /status -> its label."""


def render(status: Mapping[str, Any], *, gone: bool = False, max_works: int = 12) -> RenderableType:
    """Return one frame. `gone`: the proxy has ended and this was its last word."""
    whose = Text(place(status), style="dim")
    parts: list[RenderableType] = [_headline(status, gone=gone), whose, _phases(status, gone=gone), Text()]
    parts.append(_facts(status, gone=gone))
    if status["in_flight"]["oldest"] and not gone:
        parts += [Text(), _works(status["in_flight"], max_works)]
    if status["report"]:
        parts += [Text(), _report(status["report"], status.get("verdict"))]
    return Group(*parts)


def ending(status: Mapping[str, Any]) -> tuple[str, str]:
    """Say of a proxy that is gone how it ended, as far as was seen, and in which colour; as the page does."""
    if status["phase"] == Phase.DRAINED and (verdict := status.get("verdict")):
        if verdict["served"]:
            return "drained, everybody was served", "bold green"
        return "drained, but not everybody was served", "bold red"
    if status["drain"]:
        return f"gone while {plain(status['phase'])}: its log has how it ended", "bold yellow"
    return "gone, and nobody saw it drain: its log has why", "bold red"


def place(status: Mapping[str, Any]) -> str:
    """Say whose proxy it is, as far as it knows."""
    where = {name: plain(text) for name, text in (status.get("place") or {}).items()}
    pod = "/".join(where[name] for name in ("namespace", "pod") if name in where)
    said = [pod, f"of {where['workload']}" if "workload" in where else ""]
    return " ".join(each for each in (*said, f"on {where['node']}" if "node" in where else "") if each)


def _headline(status: Mapping[str, Any], *, gone: bool) -> Table:
    where = " ".join(plain(address) for address in status.get("listeners") or ())
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(no_wrap=True)
    row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    row.add_column(no_wrap=True, justify="right")
    state = Text(f"up {_duration(status['uptime_s'])}", style="dim")
    if gone:
        state = Text("gone", style=ending(status)[1])
    name = Text.assemble(("drainproxy", "bold"), f" {plain(status.get('version', ''))}")
    row.add_row(name, Text(where, style="dim"), state)
    return row


def _phases(status: Mapping[str, Any], *, gone: bool) -> Table:
    """Five cells on one line: green where it has been, bright where it is."""
    strip = Table.grid(expand=True, padding=(0, 1))
    cells = []
    for phase in Phase:
        strip.add_column(ratio=1, no_wrap=True)
        spent_s = status["phases_s"].get(phase)
        present = phase == status["phase"]
        style = "green" if spent_s else "bright_black"
        if present:
            style = ending(status)[1] if gone else f"bold {_COLORS[phase]}"
        cells.append(_Cell(phase, style, "" if spent_s is None else _duration(spent_s), present=present))
    strip.add_row(*cells)
    return strip


class _Cell:
    """One phase: a rule as wide as its cell, its name, and the time spent in it."""

    def __init__(self, name: str, style: str, spent: str, *, present: bool) -> None:
        self._name = name
        self._style = style
        self._spent = spent
        self._present = present

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        rule, pointer = ("-", "> ") if options.ascii_only else ("━", "▶ ")
        yield Text(rule * options.max_width, style=self._style, no_wrap=True)
        yield Text((pointer if self._present else "") + self._name, style=self._style)
        yield Text(self._spent, style="dim")


def _facts(status: Mapping[str, Any], *, gone: bool) -> Table:
    facts = _rows()
    drain, flight = status["drain"], status["in_flight"]
    if not gone:
        facts.add_row("waits for", _waits_for(status))
        _add_clocks(facts, status.get("waits") or ())
    if drain and not gone and status["phase"] != Phase.DRAINED and status["deadline_in_s"] is not None:
        left_s, length_s = status["deadline_in_s"], drain["length_s"] or status["deadline_in_s"]
        words = f"{_duration(left_s)} of {_duration(length_s)}"
        facts.add_row("time left", _bar(left_s, length_s, "red" if left_s < length_s / 4 else "cyan", words))
    if not gone:
        facts.add_row("in flight", _flight(flight, drain))
    if drain:
        facts.add_row("drain", Text(_drain(drain)))
        facts.add_row("since then", Text(_counts(drain["outcomes"])))
        if tunnels := _tunnels(drain["tunnels"]):
            facts.add_row("tunnels", Text(tunnels))
    if gone:
        facts.add_row("its end", Text(*ending(status)))
    else:
        _add_surroundings(facts, status)
    for problem in status["config_problems"]:
        # While a drain runs its rows matter more than how to do better next time.
        said = Text(plain(problem), style="yellow", no_wrap=bool(drain), overflow="ellipsis")
        facts.add_row(Text("settings", style="yellow"), said)
    return facts


def _waits_for(status: Mapping[str, Any]) -> Text:
    if status["phase"] == Phase.READY and status["upstream_up"]:
        return Text("nothing: it serves", style="green")
    hooks = status.get("hooks_waiting") or 0
    also = f"  ({hooks} preStop hook{'s' if hooks > 1 else ''} waiting on it)" if hooks else ""
    return Text.assemble((plain(status["waiting_for"]), "bold"), (also, "dim"))


def _add_surroundings(facts: Table, status: Mapping[str, Any]) -> None:
    """Who calls, what the cluster says, and how the application is."""
    for name, rate in (status.get("recent") or {}).items():
        if name in _RATES:
            facts.add_row(_RATES[name], _Rate(rate, alarming=name == "errors"))
    if status.get("cluster"):
        facts.add_row("cluster", Text(_cluster(status["cluster"])))
    facts.add_row("application", _application(status))


def _add_clocks(facts: Table, waits: Sequence[Mapping[str, Any]]) -> None:
    """Add a row for each wait that has a clock: what decides, and what is not over yet."""
    for index, wait in enumerate(waits):
        passed_s, of_s = wait["passed_s"], wait["of_s"]
        if of_s is None or (index and passed_s >= of_s):
            continue
        label = Text(plain(wait["rule"]).replace("_", " "), style="" if index else "bold not dim")
        words = f"{_duration(passed_s)} of {_duration(of_s)}{'' if index else ', decides now'}"
        facts.add_row(label, _bar(passed_s, of_s, "bright_black" if index else "cyan", words))


def _cluster(cluster: Mapping[str, Any]) -> str:
    others, near = cluster["other_ready"], cluster["other_ready_on_node"]
    ready = f"{others} other{'' if others == 1 else 's'} ready, {near} of them on this node"
    if not cluster["rows"]:
        said = "no row of this pod" if cluster["api_up"] else "its API has not answered"
        return f"{said}; {ready}" if others else said
    return f"{cluster['rows_flipped']} of {cluster['rows']} rows flipped; {ready}"


class _Rate:
    """One rate: how much a second now, and a line of the last two minutes, the newest on the right."""

    def __init__(self, rate: Mapping[str, Any], *, alarming: bool) -> None:
        self._rate = rate
        self._alarming = alarming

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        series = self._rate["series"]
        style = "red" if self._alarming and any(series) else "cyan"
        row = Text(f"{self._rate['per_s']:>7.1f}  ", style="red" if style == "red" else "")
        if not options.ascii_only and options.max_width > len(row) + SPARK_WIDTH:
            row.append(sparkline(series, SPARK_WIDTH), style=style)
        yield row


def sparkline(series: Sequence[float], width: int) -> str:
    """Draw the last STEPS of a series in `width` columns, each the highest of its time; none are blank."""
    shown = [None] * max(0, STEPS - len(series)) + list(series[-STEPS:])
    top = max(series, default=0.0)
    columns = ""
    for column in range(width):
        part = shown[column * STEPS // width : (column + 1) * STEPS // width]
        known = [each for each in part if each is not None]
        level = 0 if not known or not top else math.ceil(max(known) / top * (len(_BLOCKS) - 1))
        columns += _BLOCKS[level] if known else " "
    return columns


def _flight(flight: Mapping[str, Any], drain: Mapping[str, Any] | None) -> RenderableType:
    count = flight["count"]
    words = f"{count}" if len(flight["kinds"]) < 2 else f"{count}: {_counts(flight['kinds'])}"
    if count and (common := _common_deadline(flight["oldest"])) is not None:
        words += f", to be done in {_duration(common)}"
    if drain is None:
        return Text(words)
    return _bar(count, max(count, drain["in_flight_at_start"], 1), "magenta", words)


def _drain(drain: Mapping[str, Any]) -> str:
    began = f"began {_duration(drain['for_s'])} ago, cause {plain(drain['cause'])}"
    late, ago_s = drain["late_requests"], drain["last_late_ago_s"]
    if not late:
        return f"{began}; nobody came late"
    last = "" if ago_s is None else f", the last {_duration(ago_s)} ago"
    return f"{began}; {late} came late{last}"


def _application(status: Mapping[str, Any]) -> Text:
    if held := status.get("held"):
        return Text(f"does not accept connections: {held} wait for it", style="yellow")
    if status["upstream_up"]:
        ready = "" if status["ready"] else "; the pod is not ready"
        return Text.assemble(("accepts connections", "green"), (ready, "dim"))
    return Text("does not accept connections", style="red")


def _common_deadline(works: Sequence[Mapping[str, Any]]) -> float | None:
    """Return in how many seconds all of them end, if that is one moment."""
    moments = {work["deadline_in_s"] for work in works}
    return moments.pop() if len(moments) == 1 else None


def _works(flight: Mapping[str, Any], max_works: int) -> Table:
    """The oldest work, each with how much of its time has gone; its deadline where they differ."""
    rows = flight["oldest"][:max_works]
    differ = len({work["deadline_in_s"] for work in flight["oldest"]}) > 1
    hidden = flight["count"] - len(rows)
    works = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    works.add_column("kind", no_wrap=True)
    works.add_column("what", ratio=1, no_wrap=True, overflow="ellipsis")
    works.add_column("age", justify="right", no_wrap=True)
    works.add_column("", width=WORK_BAR_WIDTH)
    if differ:
        works.add_column("ends by", justify="right", no_wrap=True)
    for work in rows:
        age_s, left_s = work["age_s"], work["deadline_in_s"]
        what = " ".join(plain(value) for name, value in work.items() if name not in _OWN)
        ends = "no deadline" if left_s is None else f"in {_duration(left_s)}"
        works.add_row(
            Text(plain(work["kind"])),
            Text(what),
            _duration(age_s),
            "" if left_s is None else _progress(age_s, age_s + left_s, "blue"),
            *([ends] if differ else []),
        )
    if hidden > 0:
        works.add_row("", Text(f"and {hidden} younger", style="dim"))
    return works


def _report(report: Mapping[str, Any], verdict: Mapping[str, Any] | None) -> Table:
    said = _rows()
    if verdict:
        style = "bold green" if verdict["served"] else "bold red"
        said.add_row("last drain", Text(plain(verdict["words"]), style=style))
    said.add_row("its requests", Text(_counts(report["requests"])))
    if tunnels := _tunnels(report["tunnels"]):
        said.add_row("tunnels", Text(tunnels))
    phases = ", ".join(f"{plain(phase)} {_duration(spent)}" for phase, spent in report["phases_s"].items())
    said.add_row("took", Text(f"{phases}; {_duration(report['unused_s'])} unused"))
    said.add_row("ended by", Text(plain(report["ended_by"])))
    return said


def _rows() -> Table:
    rows = Table.grid(padding=(0, 1))
    rows.add_column(width=_LABEL_WIDTH, style="dim", no_wrap=True)
    rows.add_column()
    return rows


def _bar(value: float, total: float, color: str, words: str) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=BAR_WIDTH)
    row.add_column(no_wrap=True)
    row.add_row(_progress(value, total, color), Text(words))
    return row


def _progress(value: float, total: float, color: str) -> ProgressBar:
    return ProgressBar(total=total or 1.0, completed=value, complete_style=color, finished_style=color)


def _counts(tally: Mapping[str, int]) -> str:
    parts = [f"{count} {plain(name).replace('_', ' ')}" for name, count in tally.items() if count]
    return ", ".join(parts) or "none"


def _tunnels(tallies: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(f"{plain(kind)} {_counts(of)}" for kind, of in tallies.items() if any(of.values()))


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
