"""A row of the suite: a sentence, the most that may be measured, and what the process must say and count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.chaos.ground import Ground

BOTH = ("uvloop", "asyncio")
ONE = ("uvloop",)
PATIENCE = 10
_DOUBTFUL = 1e-9
"""Sums of floats."""


class Measured(NamedTuple):
    """What a row found."""

    value: float
    of: str
    """What it was found of: `of 12,000 requests`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How an operator sees it. None: it is no condition that a line or a series would stand for."""

    line: str | None = None
    """A log line's event, and a reason behind a colon: `request: upstream-gone`."""
    series: str | None = None
    """A part of a series' name; one such series must be above 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row."""

    name: str
    sentence: str
    most: float
    unit: str
    timed: bool
    """The number is one of time, which a busy machine stretches."""
    loops: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    play: Callable[[Ground], Awaitable[Measured]]

    def holds(self, measured: Measured, *, patient: bool = False) -> bool:
        """Tell whether the bar is kept; `patient`: ten times as long is soon enough."""
        most = self.most * (PATIENCE if patient and self.timed else 1)
        return measured.value <= most + _DOUBTFUL


ROWS: list[Row] = []
"""In the order of the table."""


def row(
    name: str, *evidence: Evidence, most: float, unit: str, timed: bool = False, loops: tuple[str, ...] = BOTH
) -> Callable[[Callable[[Ground], Awaitable[Measured]]], Callable[[Ground], Awaitable[Measured]]]:
    """Enter an async function as a row; its docstring is the sentence."""

    def enter(play: Callable[[Ground], Awaitable[Measured]]) -> Callable[[Ground], Awaitable[Measured]]:
        assert play.__doc__
        sentence = " ".join(play.__doc__.split()).removesuffix(".")
        about = {"name": name, "sentence": sentence, "most": most, "unit": unit, "timed": timed}
        ROWS.append(Row(**about, loops=loops, evidence=evidence, play=play))
        return play

    return enter


def pods_row(
    name: str, *, line: str, series: str
) -> Callable[[Callable[[Ground], Awaitable[Measured]]], Callable[[Ground], Awaitable[Measured]]]:
    """Enter a row in which pods end, and no request may be lost: one loop is enough."""
    return row(name, Evidence(line=line, series=series), most=0, unit="lost", loops=ONE)
