"""`make rollout`: ends pods in eleven ways, under load, behind a data plane that lags; prints a table."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

from tests.rollout import rows, table, verdict
from tests.rollout.run import MIN_REQUESTS, Run, play_all

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rollout.md"

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
    parser.add_argument("--write", action="store_true", help=f"write the results into {PAGE.name}")
    options = parser.parse_args()
    chosen = [row for row in rows.ROWS if options.row is None or row.name in options.row]
    began = time.monotonic()

    async def play() -> Run:
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

    try:
        run = asyncio.run(play())
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("stopped before its end", file=sys.stderr)
        return 1
    took_s = time.monotonic() - began
    found = verdict.faults(run.results, min_requests=options.requests)
    text = f"{table.surroundings(run, took_s)}\n\n{table.table(run.results)}"
    text += "\n\n" + "\n".join(f"- {fault}" for fault in found) if found else ""
    print(f"{took_s:6.1f} s  over\n\n{text}\n")
    print("\n".join(table.losses(run.results)) or "nothing was lost behind drainproxy")
    print("every row is as it must be" if not found else f"{len(found)} rows or bars are not as they must be")
    if options.write:
        PAGE.write_text(table.filled(PAGE.read_text(), text))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
