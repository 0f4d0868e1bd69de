"""`make rollout`: ends pods in eleven ways, under load, behind a data plane that lags; prints a table."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rollout import rows, table, verdict
from tests.rollout.run import MIN_REQUESTS, play_all

if TYPE_CHECKING:
    from tests.rollout.play import RowResult

LAGS_S = (0.2, 2.0, 7.0)
"""A quick kube-proxy, one at its P90, and one beyond its P99 in a 100-node run (kubernetes #124272)."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rollout", description=__doc__)
    parser.add_argument("--lag", type=float, action="append", help="seconds, repeatable (0.2, 2 and 7)")
    parser.add_argument("--row", action="append", help="only this row, repeatable")
    parser.add_argument(
        "--rollouts", type=int, default=2, help="how often each row is rolled out at each lag"
    )
    parser.add_argument("--warm", type=float, default=20.0, help="seconds of load before each rollout")
    parser.add_argument(
        "--requests", type=int, default=MIN_REQUESTS, help="of each row at each lag, at least"
    )
    parser.add_argument("--markdown", type=Path, help="write the table here")
    options = parser.parse_args()
    chosen = [row for row in rows.ROWS if options.row is None or row.name in options.row]
    began = time.monotonic()

    async def play() -> list[RowResult]:
        task = asyncio.current_task()
        assert task is not None
        # However it ends, no pod outlives it.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await play_all(
            chosen,
            options.lag or LAGS_S,
            rollouts=options.rollouts,
            warm_s=options.warm,
            min_requests=options.requests,
            say=lambda text: print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True),
        )

    results = asyncio.run(play())
    text = table.table(results)
    print(f"{time.monotonic() - began:6.1f} s  over\n\n{text}\n")
    if options.markdown:
        options.markdown.write_text(f"{text}\n")
    found = verdict.faults(results, min_requests=options.requests)
    print("\n".join([*table.losses(results), *found]) or "every row is as it must be")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
