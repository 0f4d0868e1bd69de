"""`make chaos`: does to drainproxy what clients, applications, nodes and API servers do; prints numbers.

Exits 1 naming the rows that do not hold. Where all of them do, the table goes into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import time
import traceback

from tests.chaos import table
from tests.chaos.row import BOTH, Measured, Row
from tests.chaos.run import played, plays, rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--row", action="append", help="only rows whose name has this in it, repeatable")
    parser.add_argument("--loop", action="append", choices=BOTH, help="only on this event loop")
    parser.add_argument("--short", action="store_true", help="less of everything, as in the tests")
    parser.add_argument("--into", help="write the table of what was played into this section, not `chaos`")
    options = parser.parse_args()
    chosen = [row for row in rows() if not options.row or any(part in row.name for part in options.row)]
    results: dict[str, tuple[Row, dict[str, Measured]]] = {row.name: (row, {}) for row in chosen}
    failed = []
    began = time.monotonic()
    for row, loop in plays(chosen, options.loop or BOTH):
        at = time.monotonic()
        try:
            measured = asyncio.run(played(row, loop, short=options.short))
        except Exception:
            failed.append(f"{row.name} ({loop})")
            print(traceback.format_exc(), flush=True)
            said = "does not hold"
        else:
            results[row.name][1][loop] = measured
            said = f"{table.figure(row, measured)}, at most {table.number(row.most)}"
        now = time.monotonic()
        print(f"{now - began:6.1f} s  {row.name:24} {loop:8} {now - at:5.1f} s  {said}", flush=True)
    print("\n" + table.table(list(results.values())))
    print(f"\n{'does not hold: ' + ', '.join(failed) if failed else 'every row holds'}")
    whole = not (options.row or options.loop)
    if not failed and not options.short and (whole or options.into):
        took = f"The run took {(now - began) / 60:.1f} minutes."
        words = ["make chaos"] if whole else ["python -m tests.chaos", *map(shlex.quote, sys.argv[1:])]
        ran = f"{table.where(' '.join(words))}\n{took}"
        table.write(options.into or "chaos", f"{ran}\n\n{table.table(list(results.values()))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
