"""The results as a table: line by line while they come, and in Markdown with when and where."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.row import Measured, Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
TITLES = ("row", "what happens", "bar", *("uvloop", "asyncio"), "log line", "metric")


def figure(row: Row, measured: Measured) -> str:
    """Return a number with its unit."""
    return f"{number(measured.value)} {row.unit} {measured.of}"


def number(value: float) -> str:
    """Return a number as short as it may be said."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def table(results: Sequence[tuple[Row, dict[str, Measured]]]) -> str:
    """Return a line a row; two loops are two columns."""
    return markdown([TITLES, *(_cells(row, measured) for row, measured in results)])


def _cells(row: Row, measured: dict[str, Measured]) -> tuple[str, ...]:
    return (
        row.name,
        row.sentence,
        f"{number(row.most)} {row.unit}",
        *(_cell(measured.get(loop)) for loop in ("uvloop", "asyncio")),
        _codes([each.line for each in row.evidence]),
        _codes([each.series for each in row.evidence]),
    )


def _cell(measured: Measured | None) -> str:
    return f"{number(measured.value)} {measured.of}" if measured else "-"


def _codes(names: Sequence[str | None]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names) if name) or "-"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row is its head."""
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    lines.insert(1, f"|{' --- |' * len(rows[0])}")
    return "\n".join(lines)


def where(command: str) -> str:
    """Say when, on what and how."""
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    load = os.getloadavg()[2]
    return (
        f"{when}, {os.cpu_count()} cores of {_processor()}, {memory_gb:.0f} GB, Linux {platform.release()},"
        f" Python {platform.python_version()}, {_flavour()}, `{command}`,"
        f" load over the last 15 minutes {load:.1f}."
    )


def _flavour() -> str:
    """Return `pure` or `compiled`, as the program says that is under test."""
    program = Path(sys.executable).with_name("drainproxy")
    told = subprocess.run([program, "version"], check=True, capture_output=True, text=True, timeout=30.0)
    return told.stdout.split(", ")[1]


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def write(section: str, text: str, page: Path = PAGE) -> None:
    """Put `text` between the marks of a section of docs/reliability.md."""
    marks = re.compile(rf"(<!-- measured: {section} -->\n).*?(<!-- end -->\n)", re.DOTALL)
    old = page.read_text("utf-8")
    assert marks.search(old), f"{page.name} has no section {section}"
    page.write_text(marks.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", old), "utf-8")
