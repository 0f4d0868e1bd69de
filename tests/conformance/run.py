"""`python -m tests.conformance.run [DIR]`: the project's own cases, and a directory's, against a real proxy.

Prints one table a file, every exception and failure, and `N passed, N failed, N skipped`.
Exit code 1 on any failure, 2 where there is nothing to run.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance import cases, corpus, exceptions, outcome, requests
from tests.conformance.cases import RequestCase, Suite
from tests.conformance.group import Group
from tests.conformance.outcome import Tally
from tests.conformance.proxies import KINDS
from tests.conformance.requests import End

if TYPE_CHECKING:
    from tests.conformance.exceptions import Override


def main(argv: list[str] | None = None) -> int:
    """Run and print; give the exit code."""
    args = _arguments(argv)
    try:
        files = corpus.load() if args.own or not args.directory else {}
        files |= cases.load(args.directory) if args.directory else {}
        asked = selected(files, args.only, all_settings=True)
        files = selected(asked, None, all_settings=args.proxy == "drainproxy")
        overrides = exceptions.load()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if not files:
        print(f"no cases in {args.directory or corpus.OWN}", file=sys.stderr)
        return 2
    if args.list_differences:
        print("\n".join(_differences(files, overrides)))
        return 0
    started = time.monotonic()
    tally = asyncio.run(run(files, overrides, kind=args.proxy, splits=args.splits))
    tally.skipped = _count(asked) - _count(files)
    print(f"{details}\n" if (details := outcome.details(tally)) else "", end="")
    print(f"in {time.monotonic() - started:.0f} s")
    print(outcome.last_line(tally))
    return 1 if tally.failed else 0


async def run(files: dict[str, Suite], overrides: dict[str, Override], *, kind: str, splits: bool) -> Tally:
    """Run file after file, a fresh proxy for each, and print their tables."""
    tally = Tally()
    for name, suite in files.items():
        make = partial(KINDS[kind], suite.arguments) if suite.arguments else KINDS[kind]
        group = Group(make, overrides, splits, exact=kind == "drainproxy")
        try:
            tally.files[name] = await group.run(suite.cases)
        except Exception as error:  # the last line must come whatever happens, with these failed
            traceback.print_exc()
            tally.files[name] = [outcome.not_run(case, error) for case in suite.cases]
        tally.upkeep[name] = group.problems
        print(outcome.table(name, tally.files[name]), flush=True)
    return tally


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.run", description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?", help="where *.jsonl files are (default: own)")
    parser.add_argument("--own", action="store_true", help="the project's own cases besides a directory")
    parser.add_argument("--proxy", choices=sorted(KINDS), default="drainproxy")
    parser.add_argument("--only", metavar="NAME", help="only cases with this in file or name")
    parser.add_argument(
        "--splits",
        action=argparse.BooleanOptionalAction,
        help="run each case byte by byte and with something behind it too (default: for drainproxy)",
    )
    parser.add_argument(
        "--list-differences",
        action="store_true",
        help="run nothing; list where labels differ from the strict reader and from the RFC",
    )
    args = parser.parse_args(argv)
    if args.splits is None:
        args.splits = args.proxy == "drainproxy"
    return args


def selected(files: dict[str, Suite], only: str | None, *, all_settings: bool) -> dict[str, Suite]:
    """Leave out what was not asked for and, for other proxies, what is drainproxy's own."""
    kept = {}
    for file, suite in files.items():
        if suite.arguments and not all_settings:
            continue
        listed = [
            case
            for case in suite.cases
            if (not only or only in case.name or only in file) and (all_settings or not case.policy)
        ]
        if listed:
            kept[file] = replace(suite, cases=listed)
    return kept


def _count(files: dict[str, Suite]) -> int:
    return sum(len(suite.cases) for suite in files.values())


def _differences(files: dict[str, Suite], overrides: dict[str, Override]) -> list[str]:
    """Tell each label that the strict reader would not give, and each exception."""
    lines = []
    for file, suite in files.items():
        for case in suite.cases:
            if override := overrides.get(case.name):
                lines.append(f"{file}: {case.name}: exception, {override.rfc}: {override.why}")
            if not isinstance(case, RequestCase):
                continue
            reading = requests.read(case.sent)
            if case.klass == "must-reject" and reading.end is End.CLEAN:
                lines.append(f"{file}: {case.name}: must-reject, but valid by the grammar alone")
            elif case.klass == "must-accept" and reading.end is not End.CLEAN:
                lines.append(f"{file}: {case.name}: must-accept, but {reading.why or reading.end}")
            elif case.incomplete and reading.end not in {End.IN_HEAD, End.IN_BODY}:
                lines.append(f"{file}: {case.name}: incomplete, but {reading.end.value}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
