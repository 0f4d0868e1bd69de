"""What is measured, in which unit, and each contender's samples. A figure is the median of its samples."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class Row:
    """How a figure is shown."""

    title: str
    unit: str
    digits: int = 0


class Figure(Enum):
    """Every row of the table, in its order."""

    CPU = Row("CPU per request", "µs", 1)
    CPU_RATIO = Row("CPU per request / nginx", "", 2)
    CPU_OF_ENVOY = Row("CPU per request / envoy", "", 2)
    CPU_OF_PURE = Row("CPU per request / pure", "", 2)
    BYTES = Row("CPU per MiB, 1 MiB bodies", "µs")
    BYTES_RATIO = Row("CPU per MiB / nginx", "", 2)
    RATE = Row("requests a second", "")
    P50 = Row("added latency, p50", "µs")
    P99 = Row("added latency, p99", "µs")
    P50_OF_ENVOY = Row("added latency, p50 / envoy", "", 2)
    P99_OF_ENVOY = Row("added latency, p99 / envoy", "", 2)
    RSS_IDLE = Row("memory, ready and idle", "MB", 1)
    PRIVATE_IDLE = Row("memory of it that nobody shares", "MB", 1)
    RSS_POD = Row("memory, idle in a pod", "MB", 1)
    PRIVATE_POD = Row("memory of it that nobody shares, in a pod", "MB", 1)
    DIRTY_POD = Row("memory of it private and dirty, in a pod", "MB", 1)
    WAKES = Row("wake-ups a second, idle in a pod", "", 2)
    IDLE_CPU = Row("CPU, idle in a pod", "% of a core", 3)
    RSS_PEAK = Row("memory, peak under load", "MB", 1)
    RSS_CONNECTIONS = Row("memory, 10,000 idle", "MB", 1)
    START = Row("start to ready", "ms")
    EXIT = Row("last answer to exit", "ms")
    PRESTOP_CPU = Row("preStop helper, CPU", "ms", 1)
    PRESTOP_RSS = Row("preStop helper, memory", "MB", 1)


@dataclass(slots=True)
class Column:
    """What one contender gave. Its single writer is the run (`run.py`)."""

    name: str
    version: str | None
    install: str
    samples: dict[Figure, list[float]] = field(default_factory=dict)
    words: dict[Figure, str] = field(default_factory=dict)
    """A cell that is no number: what happened in its place."""
    failure: str | None = None
    """The sentence that takes the place of every figure."""
    sentences: list[str] = field(default_factory=list)
    """What went wrong with single figures."""
    open_connections: int = 0
    """How many of the idle connections it really held while their memory was read."""

    @property
    def measured(self) -> bool:
        """It is installed, and nothing went wrong with the whole of it."""
        return self.version is not None and self.failure is None

    def add(self, figure: Figure, value: float) -> None:
        """One more sample."""
        self.samples.setdefault(figure, []).append(value)

    def figure(self, figure: Figure) -> float | None:
        """The median; None when it was not measured."""
        samples = self.samples.get(figure)
        return statistics.median(samples) if samples and self.failure is None else None

    def cell(self, figure: Figure) -> str:
        """The figure with its unit, as the table shows it."""
        if figure in self.words:
            return self.words[figure]
        value = self.figure(figure)
        if value is None:
            return ""
        return f"{value:,.{figure.value.digits}f} {figure.value.unit}".strip()


IN_A_POD = (Figure.RSS_POD, Figure.PRIVATE_POD, Figure.DIRTY_POD, Figure.WAKES, Figure.IDLE_CPU)
OF_NGINX = {Figure.CPU: Figure.CPU_RATIO, Figure.BYTES: Figure.BYTES_RATIO}
OF_ENVOY = {Figure.CPU: Figure.CPU_OF_ENVOY, Figure.P50: Figure.P50_OF_ENVOY, Figure.P99: Figure.P99_OF_ENVOY}
OF_PURE = {Figure.CPU: Figure.CPU_OF_PURE}
"""What is divided by the same figure of another, and what the ratio is called."""


def add_ratios(columns: list[Column], measure: Column, named: dict[Figure, Figure]) -> None:
    """Divide round by round by the same round of `measure`, so that a noisy round cancels itself out."""
    for column in columns:
        if column.measured and measure.measured:
            for figure, ratio in named.items():
                column.samples[ratio] = _shares(column, measure, figure)


def _shares(column: Column, of: Column, figure: Figure) -> list[float]:
    pairs = zip(column.samples.get(figure, []), of.samples.get(figure, []), strict=True)
    return [ours / theirs for ours, theirs in pairs]
