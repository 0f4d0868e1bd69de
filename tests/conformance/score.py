"""`python -m tests.conformance.score [DIR]`: drainproxy, nginx and HAProxy over the same cases, as a table.

Cases that only drainproxy's own policy decides are left out for all, and each case is sent whole.
What a proxy is set to is in proxies.py: to forward what it gets, with nothing added to be stricter.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy import __version__
from tests.conformance import cases, corpus, exceptions, run
from tests.conformance.outcome import Mark, Tally
from tests.conformance.proxies import KINDS

if TYPE_CHECKING:
    from tests.conformance.cases import Suite
    from tests.conformance.outcome import Outcome

OWN_ROW = "the project's own cases"


def main(argv: list[str] | None = None) -> int:
    """Run all proxies and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.score", description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?", help="where *.jsonl files are")
    args = parser.parse_args(argv)
    own = corpus.load()
    recorded = cases.load(args.directory) if args.directory else {}
    files = run.selected(own | recorded, None, all_settings=False)
    tallies = {kind: _tally(kind, files) for kind in KINDS}
    print(table(tallies, set(own)))
    today = date.today().isoformat()  # noqa: DTZ011 - a day, for people
    print(f"\n{today}, {', '.join(_versions())}: `python -m tests.conformance.score DIR`.")
    return 0


def _tally(kind: str, files: dict[str, Suite]) -> Tally:
    with contextlib.redirect_stdout(io.StringIO()):
        return asyncio.run(run.run(files, exceptions.load(), kind=kind, splits=False))


def table(tallies: dict[str, Tally], own: set[str]) -> str:
    """Give the Markdown table: a row a file, the own chapters together, then what matters most."""
    kinds = list(tallies)
    lines = [f"| cases that hold | {' | '.join(kinds)} |", "| --- |" + " ---: |" * len(kinds)]
    names = list(dict.fromkeys(OWN_ROW if name in own else name for name in tallies[kinds[0]].files))
    for row in names:
        cells = [_held(_of(tally, row, own)) for tally in tallies.values()]
        lines.append(f"| {f'`{row}`' if row != OWN_ROW else row} | {' | '.join(cells)} |")
    everything = [_of(tally, "", own) for tally in tallies.values()]
    accepted = [
        _held([one for one in outcomes if one.case.klass == "must-accept"]) for outcomes in everything
    ]
    lines.append(f"| of these, what must be accepted | {' | '.join(accepted)} |")
    leaked = [_leaked(outcomes) for outcomes in everything]
    lines.append(f"| faulty heads of which bytes reached the application | {' | '.join(leaked)} |")
    return "\n".join(lines)


def _of(tally: Tally, row: str, own: set[str]) -> list[Outcome]:
    return [
        one
        for name, outcomes in tally.files.items()
        if not row or row == name or (row == OWN_ROW and name in own)
        for one in outcomes
    ]


def _held(outcomes: list[Outcome]) -> str:
    held = sum(one.mark is not Mark.FAIL for one in outcomes)
    return f"{held} of {len(outcomes)}"


def _leaked(outcomes: list[Outcome]) -> str:
    rejected = [one for one in outcomes if one.case.klass == "must-reject"]
    leaked = sum(
        any("bytes reached the application" in what for found in one.problems.values() for what in found)
        for one in rejected
    )
    return f"{leaked} of {len(rejected)}"


def _versions() -> list[str]:
    found = [f"drainproxy {__version__}"]
    for name in ("nginx", "haproxy"):
        said = subprocess.run([name, "-v"], capture_output=True, text=True, check=False)
        version = re.search(r"[0-9]+\.[0-9.]+", said.stdout + said.stderr)
        found.append(f"{name} {version[0] if version else '?'}")
    return found


if __name__ == "__main__":
    sys.exit(main())
