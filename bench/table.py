"""The table: on the terminal with rich, and as Markdown with everything needed to judge and repeat it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table

from bench.bars import BARS, BARS_COMPILED
from bench.measure import cpu_model
from bench.proxies import COMPILED, OURS
from bench.results import Column, Figure

if TYPE_CHECKING:
    from collections.abc import Iterable


def terminal_table(columns: list[Column]) -> Table:
    """Rows are figures, columns are contenders; what could not be measured is in `notes`."""
    table = Table(title="What a proxy costs", title_justify="left")
    table.add_column("figure", no_wrap=True)
    for column in columns:
        style = "bold" if column.name in {OURS, COMPILED} else ""
        table.add_column(column.name, justify="right", style=style)
    table.add_column("bar", style="dim")
    for cells in _rows(columns):
        table.add_row(*cells)
    return table


def notes(columns: list[Column]) -> list[str]:
    """A sentence for everything that is missing in the table."""
    found = []
    for column in columns:
        if column.version is None:
            found.append(f"{column.name} is not installed ({column.install}).")
        elif column.failure is not None:
            found.append(f"{column.name} has no figures: {column.failure}")
        found += [f"{column.name}, {sentence}" for sentence in column.sentences]
    return found


def markdown(columns: list[Column], command: str) -> str:
    """The table as it is committed."""
    head = ["figure", *(column.name for column in columns), "bar"]
    lines = [
        "# What a proxy costs",
        "",
        *machine(command, _versions(columns)),
        "",
        _line(head),
        _line(["---", *("---:" for _ in columns), "---"]),
        *(_line(cells) for cells in _rows(columns)),
        "",
        *notes(columns),
        "Times are the machine's own; only the ratios travel. How it is measured: README.md.",
    ]
    return "\n".join(lines) + "\n"


def machine(command: str, versions: str = "") -> list[str]:
    """Say when, where and how a table was made."""
    programs = [versions, f"Python {platform.python_version()}"]
    return [
        f"- Date: {datetime.now(UTC):%Y-%m-%d}",
        f"- Machine: {cpu_model()}, {os.cpu_count()} cores, Linux {platform.release()}",
        f"- Versions: {', '.join(filter(None, programs))}",
        f"- Command: `{command}`",
    ]


def page(title: str, module: str, lines: list[str], *said: str) -> str:
    """Return a table of another bench as a page of its own; `said`: more of how it was made."""
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    return "\n".join([f"# {title}", "", *machine(command), *said, "", *lines, ""])


def _rows(columns: list[Column]) -> Iterable[list[str]]:
    bars = {bar.figure: bar.text for bar in BARS}
    for bar in BARS_COMPILED:
        bars[bar.figure] = ", ".join(filter(None, (bars.get(bar.figure), f"compiled {bar.text}")))
    for figure in Figure:
        cells = [_cell(column, figure) for column in columns]
        if any(cells):
            yield [figure.value.title, *cells, bars.get(figure, "")]


def _cell(column: Column, figure: Figure) -> str:
    if column.version is None:
        return "not installed" if figure is Figure.CPU else ""
    if column.failure is not None:
        return "error" if figure is Figure.CPU else ""
    return column.cell(figure)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _versions(columns: list[Column]) -> str:
    return ", ".join(f"{column.name} {column.version}" for column in columns if column.version)
