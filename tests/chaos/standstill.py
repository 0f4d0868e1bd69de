"""`make states`: thousands of clients stop in every state that there is, under small memory limits.

For each state a process of its own in a group with the limit (tests/support/cgroup.py): it lives, turns away
honestly whom it has no room for, serves others meanwhile, and has its memory back soon after they have gone.
Writes the table of docs/reliability.md when every state holds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy.proxy.limits.capacity import raise_descriptors
from tests.chaos.holding import application
from tests.chaos.others import HEADER, Asked, Others
from tests.chaos.states import BY_NAME, STATES, Crowd, State
from tests.chaos.table import markdown, where, write
from tests.support.authority import Authority
from tests.support.cgroup import memory_group
from tests.support.process import Proxy

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Callable, Iterator

MIB = 1 << 20
LIMITS_MIB = (64, 128)
LOOPS = ("uvloop", "asyncio")
IMAGE = Path(__file__).resolve().parents[2] / "Dockerfile"
BACK_S = 5.0
BACK_BYTES = 12 * MIB
"""How much more than before may be left: pools of small objects are not given back to the last page."""
WAIT_S = 0.1
"""Nobody who behaves waits longer while they stand there, and leave."""
STAND_S = 1.5
TOLD_SHARE, TOLD_BYTES = 0.2, 4 * MIB
"""How far `buffered_bytes` may be from what the process grew by; so few bytes are an allocator's steps, and
tables that have grown once."""
GIVEN_BACK_S = 4.0
"""What those who were refused had is free by then, and given back: garbage.py looks every 3 s at
least, at a beat of 0.6 s."""
FIRST_CLIENTS = 32
"""Come before stock is taken: a process that has served has loaded what it needs, and set up its pools. What
they leave free is used again without growing, and so is few clients'."""
HONEST = {"held", "closed", "reset", "400", "408", "413", "431", "503"}
"""Held, or told: nobody gets another's answer, or none where one could be given."""


@dataclass
class Stood:
    """What was seen of one state."""

    outcomes: Counter[str]
    resident: int
    """Growth of resident memory while they stood there."""
    told: float
    """Growth of buffered_bytes."""
    peak: int
    back_s: float
    left: int
    """Resident bytes more than before, then."""


@contextlib.asynccontextmanager
async def doors(directory: Path, door: str) -> AsyncIterator[tuple[dict[str, object], Authority | None, int]]:
    """Serve an application; yield how a process is started whose first listener is such a door, and the
    application's process."""
    async with application() as (upstream, pid):
        how: dict[str, object] = {"upstreams": [upstream], "linger": "2s", "access_log": "errors"}
        authority = None
        if door == "tls":
            authority = Authority(directory)
            certificate, key = authority.issue()
            how |= {"tls_certificate": str(certificate), "tls_key": str(key), "upstreams": [upstream] * 2}
            how["listen"] = ["https://127.0.0.1:0", "127.0.0.1:0"]
        elif door == "proxy":
            how |= {"proxy_protocol": "true", "trusted_proxies": "127.0.0.1/32"}
        yield how, authority, pid


async def stand(
    proxy: Proxy,
    state: State,
    count: int,
    authority: Authority | None,
    all_here: Callable[[], None] = lambda: None,
    spare_bytes: int = TOLD_BYTES,
) -> Stood:
    """Have `count` clients come, stop and leave again. `all_here`: told between the two. `spare_bytes`: how
    far the account may be off, however little there is."""
    crowd = Crowd(state, proxy.addresses[0], None if authority is None else authority.trusted())
    none = (await proxy.metrics())["buffered_bytes"]
    await crowd.come(min(count, FIRST_CLIENTS))
    crowd.leave()
    await _let_go(proxy, none)
    before, told = proxy.rss_bytes(), (await proxy.metrics())["buffered_bytes"]
    await crowd.come(count)
    all_here()
    await asyncio.sleep(STAND_S)
    held, grown = await _grown(proxy, told, before, spare_bytes)
    outcomes = crowd.look()
    crowd.leave()
    back_s = await _let_go(proxy, told, before + BACK_BYTES)
    return Stood(outcomes, grown, held, peak(proxy), back_s, proxy.rss_bytes() - before)


async def _grown(proxy: Proxy, told: float, resident: int, spare_bytes: int) -> tuple[float, int]:
    """Return what buffered_bytes and the process have grown by: as soon as the two agree, and after
    GIVEN_BACK_S, once what refused clients had has been given back."""
    began = time.monotonic()
    while True:
        held = (await proxy.metrics())["buffered_bytes"] - told
        grown = proxy.rss_bytes() - resident
        if truthful(held, grown, spare_bytes) or time.monotonic() - began > GIVEN_BACK_S:
            return held, grown
        await asyncio.sleep(0.5)


def truthful(told: float, resident: int, spare_bytes: int = TOLD_BYTES) -> bool:
    """Tell whether what was told is what it grew by."""
    return abs(told - resident) <= max(TOLD_SHARE * resident, spare_bytes)


async def _let_go(proxy: Proxy, told: float, resident: float = math.inf) -> float:
    """Wait until no more is held and resident than before, or for long enough; return the seconds."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(0.1)
        took_s, left = time.monotonic() - began, proxy.rss_bytes()
        let_go = (await proxy.metrics())["buffered_bytes"] <= told + MIB / 4
        if (left < resident and let_go) or took_s > 2 * BACK_S:
            return took_s


def peak(proxy: Proxy) -> int:
    """Return the most that was resident."""
    text = Path(f"/proc/{proxy.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", text)
    assert found is not None
    return int(found[1]) * 1024


async def play(state: State, loop: str, limit_mib: int, count: int) -> tuple[Stood, Asked, Asked, list[str]]:
    """Return what was seen, by others while they came and since, and what does not hold.

    Raises AssertionError and OSError where it died.
    """
    with tempfile.TemporaryDirectory() as place, memory_group(limit_mib * MIB) as group:
        async with (
            doors(Path(place), state.door) as (how, authority, application_pid),
            Proxy(
                loop=loop, cgroup=group, env=dict(re.findall(r"(MALLOC_\w+)=(\d+)", IMAGE.read_text())), **how
            ) as proxy,
        ):
            await proxy.ready()
            pids = proxy.pid, application_pid
            others = Others(proxy.addresses[-1], pids, HEADER if state.door == "proxy" else b"")
            await others.start()
            try:
                stood = await stand(proxy, state, count, authority, others.go_on)
            finally:
                came, asked = await others.end()
            lines = [line for line in proxy.lines if line["event"] == "defect"]
    faults = []
    if odd := set(stood.outcomes) - HONEST:
        faults.append(f"odd answers: {odd}")
    if stood.back_s > BACK_S:
        faults.append(f"{stood.left / MIB:.1f} MiB are left after {stood.back_s:.1f} s")
    if not truthful(stood.told, stood.resident):
        faults.append(f"told of {stood.told / stood.resident:.0%} of what it grew by")
    if asked.worst_s > WAIT_S:
        faults.append(f"others waited {1000 * asked.worst_s:.0f} ms")
    if lines:
        faults.append(f"a defect: {lines[0]}")
    # Who keeps a connection idles between two requests, and may have to make way.
    if any(told.startswith("check") and told != "check 200" for told in came.told + asked.told):
        faults.append(f"others were told: {dict(came.told + asked.told)}")
    return stood, came, asked, faults


async def row(state: State, loop: str, limit_mib: int, count: int) -> tuple[list[str], list[str]]:
    """Return a row of the table, and what does not hold."""
    try:
        stood, came, asked, faults = await play(state, loop, limit_mib, count)
    except (AssertionError, OSError) as death:
        cells = [state.name, loop, f"{limit_mib} MiB", "died", *("-" for _ in TITLES[4:])]
        return cells, [f"{state.name} ({loop}, {limit_mib} MiB): died: {death}"[:300]]
    refused = sum(stood.outcomes.values()) - stood.outcomes["held"]
    cells = [
        state.name, loop, f"{limit_mib} MiB", f"{refused:,} of {count:,}", f"{stood.peak / MIB:.0f} MiB",
        f"{stood.told / MIB:.1f} of {stood.resident / MIB:.1f} MiB",
        *(f"{1000 * span.worst_s:.0f} ms" for span in (came, asked)),
        f"{stood.back_s:.1f} s", f"{stood.left / MIB:.1f} MiB",
    ]  # fmt: skip
    return cells, [f"{state.name} ({loop}, {limit_mib} MiB): {fault}" for fault in faults]


TITLES = (
    "where they stop", "loop", "limit", "turned away", "resident at most", "told of what it grew by",
    "others waited, as they came", "then", "memory back", "with",
)  # fmt: skip


def plays(chosen: list[State], loops: list[str], limits: list[int]) -> Iterator[tuple[State, str, int]]:
    """Each state, on each loop, under each limit."""
    for state in chosen:
        for loop in loops:
            yield from ((state, loop, limit) for limit in limits)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.standstill", description=__doc__)
    parser.add_argument("--state", action="append", choices=sorted(BY_NAME), help="only these, repeatable")
    parser.add_argument("--loop", action="append", choices=LOOPS, help="only on this event loop")
    parser.add_argument("--limit", action="append", type=int, help="only under this limit, in MiB")
    parser.add_argument("--count", type=int, default=5_000, help="clients of each")
    options = parser.parse_args()
    raise_descriptors()
    chosen = [BY_NAME[name] for name in options.state] if options.state else list(STATES)
    rows, faults = [list(TITLES)], []
    for state, loop, limit in plays(chosen, options.loop or list(LOOPS), options.limit or list(LIMITS_MIB)):
        cells, wrong = asyncio.run(row(state, loop, limit, options.count))
        print(" | ".join(cells), *wrong, sep="\n  " if wrong else "", flush=True)
        rows.append(cells)
        faults += wrong
    if faults:
        print("\ndoes not hold:", *faults, sep="\n")
    if not (options.state or options.loop or options.limit):
        write("states", f"{where('make states')}\n\n{summary(faults, len(rows) - 1)}\n\n{markdown(rows)}")
    return 1 if faults else 0


def summary(faults: list[str], count: int) -> str:
    """Say what does not hold of `count` plays, a line each."""
    if not faults:
        return f"All {count} plays hold in every point."
    holds = count - len({fault.partition("): ")[0] for fault in faults})
    return f"{holds} of {count} plays hold in every point; of the others:\n\n" + "\n".join(
        f"- {each}" for each in faults
    )


if __name__ == "__main__":
    sys.exit(main())
