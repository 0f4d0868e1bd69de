"""`make soak`: mixed load with 1 % of every fault, for SOAK_MINUTES (20); what must not grow does not.

Exits 1 and says what does not hold. A soak of 20 minutes that holds goes into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import TYPE_CHECKING

from tests.chaos import table
from tests.chaos.ground import Ground
from tests.soak.run import FREE_BYTES, JUDGED_SHARE, Result, soaked

if TYPE_CHECKING:
    from collections.abc import Callable

FULL_MINUTES = 20.0
MAX_GROWTH_BYTES = 20 * 1024
"""A minute, at the interval's lower end: 28 MiB a day. Beyond, it is a leak and no noise."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=FULL_MINUTES)
    parser.add_argument("--rate", type=float, default=1.0, help="of the usual load")
    parser.add_argument("--loop", default="uvloop", choices=("uvloop", "asyncio"))
    options = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    result = asyncio.run(_soak(options.loop, options.minutes, options.rate, say))
    text = report(result)
    print(f"\n{text}\n")
    found = faults(result)
    print("\n".join([*result.callers.failures, *found]) or "it holds")
    if not found and options.minutes >= FULL_MINUTES:
        table.write("soak", f"{table.where('make soak')}\n\n{text}")
    return 1 if found else 0


async def _soak(loop: str, minutes: float, rate: float, say: Callable[[str], None]) -> Result:
    async with Ground(loop, short=False) as ground:
        return await soaked(ground, minutes * 60, rate=rate, say=say)


def faults(result: Result) -> list[str]:
    """Return a sentence for everything that does not hold."""
    found = []
    if result.lost:
        found.append(f"{result.lost} requests are lost, doubled or told an untruth")
    if result.excess:
        found.append(f"there is more than before: {result.excess}")
    if result.trend.low > MAX_GROWTH_BYTES:
        found.append(f"memory in use grows by {result.trend.low / 1024:.0f} KiB a minute or more")
    if result.dirty[1] > result.dirty[0] + FREE_BYTES:
        found.append(f"of private and dirty memory there is more than {FREE_BYTES >> 20} MiB more")
    return found


def report(result: Result) -> str:
    """Return what was sent and what came of it, and what is left, as two tables."""
    kinds = [
        (
            kind,
            f"{tally.sent:,}",
            f"{sum(tally.faults.values()):,} of {len(tally.faults)} kinds",
            str(tally.lost),
        )
        for kind, tally in result.callers.kinds.items()
    ]
    sums = list(result.callers.kinds.values())
    total = f"{sum(tally.sent for tally in sums):,}"
    faulty = f"{sum(sum(tally.faults.values()) for tally in sums):,}"
    rows = [*kinds, ("all", total, faulty, str(result.lost))]
    load = table.markdown([("load", "requests", "with a fault", "lost, doubled, wrong"), *rows])
    return f"{load}\n\n{_stock(result)}"


def _stock(result: Result) -> str:
    before, after, trend = result.before, result.after, result.trend
    megabytes = [value / 2**20 for _, value in result.samples]
    minutes = JUDGED_SHARE * result.for_s / 60
    rows = [
        ("tasks", str(before.tasks), str(after.tasks)),
        ("descriptors", str(before.descriptors), str(after.descriptors)),
        ("drainproxy's own objects", f"{before.ours:,}", f"{after.ours:,}"),
        ("all objects", f"{before.lives['objects']:,}", f"{after.lives['objects']:,}"),
        ("memory in use, MiB", f"{megabytes[0]:.2f}", f"{megabytes[-1]:.2f}"),
        ("private and dirty memory, MiB", *(f"{size / 2**20:.1f}" for size in result.dirty)),
    ]
    stock = table.markdown([("what there is", "before", "after"), *rows])
    return (
        f"{stock}\n\nMemory in use changes by {trend.per_minute / 1024:+.1f} KiB a minute"
        f" over the last {minutes:.0f} minutes;"
        f" the 95 % interval is {trend.low / 1024:+.1f} to {trend.high / 1024:+.1f}.\n"
        f"All was as before {result.quiet_after_s:.1f} s after the last caller had left."
    )


if __name__ == "__main__":
    sys.exit(main())
