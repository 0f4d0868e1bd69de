"""`python -m bench`, from the root of the repository: measure, print the table, hold drainproxy to its bars.

Options and exit codes; `run.py` has the order of the measurements.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from bench.bars import missed
from bench.processes import BenchError
from bench.proxies import CONTENDERS, MEASURE, OURS
from bench.results import Column
from bench.run import measure_all
from bench.table import markdown, notes, terminal_table

ROUNDS, SECONDS = 5, 2
"""With these, all contenders together take less than six minutes."""
MAX_ROUNDS, MAX_SECONDS = 100, 60
NEEDED_IN_MARKDOWN = (MEASURE, "envoy")
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 64, 130
WIDTH = 132
"""Of a terminal that is none: a log keeps the table whole."""


def main() -> int:
    """Return 1 when a bar is missed or drainproxy or nginx could not be measured."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, _leave)
    if problem := _problem(options):
        return _fail(problem, EXIT_USAGE)
    columns = [
        Column(contender.name, contender.version(), contender.install)
        for contender in CONTENDERS
        if contender.name == MEASURE or contender.name in options.only
    ]
    installed = {column.name for column in columns if column.version is not None}
    if options.markdown and not installed.issuperset(NEEDED_IN_MARKDOWN):
        return _fail("A table for others to read needs nginx and Envoy in it.", EXIT_USAGE)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    try:
        with console.status("the application starts") as status:
            measure_all(columns, rounds=options.rounds, seconds=options.seconds, tell=status.update)
    except BenchError as error:
        return _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return _report(console, columns, options)


def _report(console: Console, columns: list[Column], options: argparse.Namespace) -> int:
    console.print(terminal_table(columns))
    for sentence in notes(columns):
        console.print(sentence, style="yellow", markup=False)
    if options.markdown:
        command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
        options.markdown.write_text(markdown(columns, command), encoding="utf-8")
    ours = next((column for column in columns if column.name == OURS), None)
    if not options.bars or ours is None:
        return 0
    sentences = missed(ours, [column for column in columns if column is not ours])
    for sentence in sentences:
        console.print(sentence, style="bold red", markup=False)
    return EXIT_FAILED if sentences else 0


def _parser() -> argparse.ArgumentParser:
    names = [contender.name for contender in CONTENDERS]
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a proxy costs.")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=names,
        metavar="NAMES",
        help=f"some of {','.join(names)}; nginx is always with them, being the measure",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument(
        "--seconds", type=int, default=SECONDS, help=f"length of each load, default {SECONDS}"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--no-bars", dest="bars", action="store_false", help="print only, judge nothing")
    return parser


def _problem(options: argparse.Namespace) -> str | None:
    unknown = set(options.only) - {contender.name for contender in CONTENDERS}
    if unknown:
        return f"Nobody here is called {', '.join(sorted(unknown))}."
    if not 1 <= options.rounds <= MAX_ROUNDS:
        return f"--rounds goes from 1 to {MAX_ROUNDS}."
    if not 1 <= options.seconds <= MAX_SECONDS:
        return f"--seconds goes from 1 to {MAX_SECONDS}."
    return None


def _fail(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status


def _leave(*_: object) -> NoReturn:
    """SIGTERM unwinds the blocks that end what was started, as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
