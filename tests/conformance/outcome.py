"""One case's outcome, the table over a file, and the list of failures: what a run prints."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conformance.cases import Case


class Mark(enum.Enum):
    """Where a case is counted."""

    PASS = "pass"
    EXCEPTION = "exception"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case came to; problems by the way it was run (whole, bytewise)."""

    case: Case
    mark: Mark
    problems: dict[str, list[str]] = field(default_factory=dict)
    shown: str = ""  # what the client and the application saw
    note: str = ""  # why it is an exception


@dataclass(slots=True)
class Tally:
    """All outcomes of a run, file by file; written by the run alone."""

    files: dict[str, list[Outcome]] = field(default_factory=dict)
    upkeep: dict[str, list[str]] = field(default_factory=dict)  # resources and the proxy's end
    skipped: int = 0  # cases that are not for this proxy

    @property
    def passed(self) -> int:
        """Cases that hold, by their label or by the RFC's exception."""
        return self._count(Mark.PASS) + self._count(Mark.EXCEPTION)

    @property
    def failed(self) -> int:
        """Cases that fail, and what a file left behind."""
        return self._count(Mark.FAIL) + sum(map(len, self.upkeep.values()))

    def _count(self, mark: Mark) -> int:
        return sum(one.mark is mark for file in self.files.values() for one in file)


def not_run(case: Case, error: Exception) -> Outcome:
    """Give the outcome of a case whose file could not be run: a failure, never a silence."""
    return Outcome(case, Mark.FAIL, {"not run": [str(error)]}, shown="nothing")


def table(name: str, outcomes: list[Outcome]) -> str:
    """Give one file's table: class by mark."""
    counts = Counter((one.case.klass, one.mark) for one in outcomes)
    lines = [f"{name:<26}" + "".join(f"{mark.value:>10}" for mark in Mark)]
    for klass in sorted({one.case.klass for one in outcomes}):
        cells = "".join(f"{counts[klass, mark]:>10}" for mark in Mark)
        lines.append(f"  {klass:<24}{cells}")
    return "\n".join(lines)


def details(tally: Tally) -> str:
    """Give the exceptions used, then every failure with what was seen."""
    lines: list[str] = []
    for file, outcomes in tally.files.items():
        lines += [f"{one.mark.value}: {file}: {one.case.name}: {one.note}" for one in outcomes if one.note]
    for file, outcomes in tally.files.items():
        for one in (one for one in outcomes if one.mark is Mark.FAIL):
            lines.append(f"FAIL {file}: {one.case.name} ({one.case.klass})")
            lines += [f"     {one.case.rule}"] if one.case.rule else []
            lines += [f"     {way}: {problem}" for way, found in one.problems.items() for problem in found]
            lines.append(f"     seen: {one.shown}")
    for file, problems in tally.upkeep.items():
        lines += [f"FAIL {file}: afterwards: {problem}" for problem in problems]
    return "\n".join(lines)


def last_line(tally: Tally) -> str:
    """Give the line that other programs read."""
    return f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped"
