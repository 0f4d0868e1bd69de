"""`make field`: real servers at 60 % of their capacity, bare and behind drainproxy in turn; prints a table.

Exits 1 where a request or a probe is lost behind drainproxy that is not lost without. Servers that are not
installed are named in one line. The table goes into docs/reliability.md where nothing was left out by option.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from tests.chaos import table
from tests.field.servers import servers
from tests.field.trial import SHORT, Size, tried

if TYPE_CHECKING:
    from tests.field.trial import Endpoint, Result

TITLES = (
    *("server", "requests a second", "bare p50", "p99", "failed", "behind p50", "p99", "failed"),
    *(
        "bursts of 12, slowest: bare",
        "behind",
        "own probes lost: bare",
        "behind",
        "connects for 100 requests",
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.field", description=__doc__)
    parser.add_argument("--server", action="append", help="only those whose name has this in it, repeatable")
    parser.add_argument("--short", action="store_true", help="less of everything, as in the tests")
    options = parser.parse_args()
    wanted = [
        one for one in servers() if not options.server or any(part in one.name for part in options.server)
    ]
    missing = {one.name: one.missing() for one in wanted if one.missing()}
    results, broken = [], []
    for server in wanted:
        if server.name in missing:
            continue
        try:
            result = asyncio.run(tried(server, SHORT if options.short else Size()))
        except (OSError, RuntimeError, TimeoutError) as failure:
            broken.append(f"{server.name}: {failure!r}")
            continue
        results.append(result)
        print(" | ".join(cells(result)), flush=True)
        if worse(result):
            broken.append(f"{server.name}: worse than bare")
    text = table.markdown([TITLES, *(cells(result) for result in results)])
    print(f"\n{text}")
    if missing:
        print("\nnot here: " + "; ".join(f"{name} ({what})" for name, what in missing.items()))
    print(f"\n{'does not hold: ' + '; '.join(broken) if broken else 'every row holds'}")
    if not broken and not (options.server or options.short):
        table.write("field", f"{table.where('make field')}\n\n{text}")
    return 1 if broken else 0


def cells(result: Result) -> tuple[str, ...]:
    """Return a result's row."""
    steady = [cell for side in (result.bare, result.behind) for cell in _steady(side)]
    bursts = [f"{side.bursts.quantile_ms(1):,.0f} ms" for side in (result.bare, result.behind)]
    probes = [f"{side.probes.failed} of {side.probes.count}" for side in (result.bare, result.behind)]
    return (result.server.name, f"{result.rate:.0f}", *steady, *bursts, *probes, f"{result.connects:.0f}")


def _steady(side: Endpoint) -> tuple[str, ...]:
    felt = side.steady
    median, slow = (f"{felt.quantile_ms(share):,.0f} ms" for share in (0.5, 0.99))
    return median, slow, f"{felt.failed + side.bursts.failed} of {felt.count + side.bursts.count}"


def worse(result: Result) -> bool:
    """Tell whether somebody is lost behind drainproxy who is not lost without."""
    sides = [
        side.steady.failed + side.bursts.failed + side.probes.failed for side in (result.bare, result.behind)
    ]
    return sides[1] > sides[0]


if __name__ == "__main__":
    sys.exit(main())
