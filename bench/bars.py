"""The bars drainproxy has to clear, and the sentence for each one it does not."""

from __future__ import annotations

from dataclasses import dataclass

from bench.measure import cpu_model
from bench.proxies import COMPILED
from bench.results import IN_A_POD, Column, Figure


@dataclass(frozen=True, slots=True)
class Bar:
    """drainproxy's figure must not be above `limit`."""

    figure: Figure
    limit: float
    per_connection: float = 0.0
    """Added to the limit for every connection held open."""

    def for_column(self, column: Column) -> float:
        """The limit that holds for this run."""
        return self.limit + self.per_connection * column.open_connections

    @property
    def text(self) -> str:
        """The bar as the table shows it."""
        row = self.figure.value
        text = f"≤ {self.limit:g} {row.unit}".strip()
        return f"{text} + {self.per_connection * 1000:g} KB each" if self.per_connection else text


BARS = (
    Bar(Figure.CPU_RATIO, 2.5),
    Bar(Figure.BYTES_RATIO, 1.3),
    Bar(Figure.RSS_IDLE, 38),
    Bar(Figure.RSS_POD, 38),
    Bar(Figure.DIRTY_POD, 24),
    Bar(Figure.WAKES, 2),
    Bar(Figure.IDLE_CPU, 0.1),
    Bar(Figure.RSS_CONNECTIONS, 38, per_connection=0.010),
    Bar(Figure.START, 300),
    Bar(Figure.EXIT, 400),
    Bar(Figure.PRESTOP_CPU, 20),
    Bar(Figure.PRESTOP_RSS, 15),
)
BARS_COMPILED = (
    Bar(Figure.CPU_RATIO, 1.5 if "AMD" in cpu_model() else 1.9),
    Bar(Figure.CPU_OF_ENVOY, 0.52),
    Bar(Figure.CPU_OF_PURE, 0.68),
    Bar(Figure.P50_OF_ENVOY, 0.8),
    Bar(Figure.P99_OF_ENVOY, 0.8),
)
"""What compiling has to be worth. A ratio to nginx that is 1.5 on AMD is 1.9 on Intel."""
BARS_OF_BOTH = [bar for bar in BARS if bar.figure in IN_A_POD]
DEARER_THAN_OURS = ("envoy", "caddy", "aiohttp")
"""Those whose CPU per request must be above drainproxy's in the same run."""


def missed(ours: Column, others: list[Column]) -> list[str]:
    """One sentence for each bar that is missed. A bar without a figure is missed as well."""
    if ours.failure is not None:
        return [f"{ours.name} could not be measured: {ours.failure}"]
    sentences = [sentence for bar in BARS if (sentence := _above(bar, ours))]
    compiled = next((other for other in others if other.name == COMPILED), None)
    if compiled is not None and compiled.version is not None:
        sentences += [
            sentence for bar in (*BARS_COMPILED, *BARS_OF_BOTH) if (sentence := _above(bar, compiled))
        ]
    cost = ours.figure(Figure.CPU)
    for other in others:
        theirs = other.figure(Figure.CPU)
        if other.name in DEARER_THAN_OURS and cost and theirs and cost >= theirs:
            sentences.append(
                f"A request costs {ours.cell(Figure.CPU)} of CPU,"
                f" and {other.name} needs only {other.cell(Figure.CPU)}."
            )
    return sentences


def _above(bar: Bar, ours: Column) -> str | None:
    title = bar.figure.value.title
    value = ours.figure(bar.figure)
    if value is None:
        return f"{ours.name}, {title}: {ours.words.get(bar.figure, 'not measured')}; the bar is {bar.text}."
    if value > bar.for_column(ours):
        return f"{ours.name}, {title}: {ours.cell(bar.figure)} misses the bar, which is {bar.text}."
    return None
