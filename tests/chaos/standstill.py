"""`make states`: thousands of clients stop in every state that there is, under small memory limits.

For each state a process of its own in a group with the limit (tests/support/cgroup.py): it lives, turns away
honestly whom it has no room for, serves others meanwhile, and has its memory back soon after they have gone.
Writes the table of docs/reliability.md when every state holds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy.proxy.limits.capacity import raise_descriptors
from tests.chaos.states import BY_NAME, STATES, Application, Crowd, State
from tests.chaos.table import markdown, where, write
from tests.support.authority import Authority
from tests.support.cgroup import memory_group
from tests.support.process import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MIB = 1 << 20
LIMITS_MIB = (64, 128)
LOOPS = ("uvloop", "asyncio")
IMAGE = Path(__file__).resolve().parents[2] / "Dockerfile"
BACK_S = 5.0
BACK_BYTES = 12 * MIB
"""How much more than before may be left: pools of small objects are not given back to the last page."""
HONEST = {"held", "closed", "reset", "400", "408", "413", "431", "503"}
"""Held, or told: nobody gets another's answer, or none where one could be given."""
CHECK = b"GET /small HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.36\r\n\r\n"


class Others(threading.Thread):
    """One who keeps a connection, and health checks on new ones: how long each waits, and what it is told."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._over = threading.Event()
        self.worst_s = 0.0
        self.told: Counter[str] = Counter()

    def run(self) -> None:
        """Ask every 20 ms."""
        kept: socket.socket | None = None
        while not self._over.wait(0.02):
            kept = self._ask(kept, CHECK.replace(b"kube-probe", b"person"), "kept")
            if (wire := self._ask(None, CHECK, "check")) is not None:
                wire.close()

    def _ask(self, wire: socket.socket | None, request: bytes, who: str) -> socket.socket | None:
        began = time.monotonic()
        try:
            wire = wire or socket.create_connection(self._address, 10)
            wire.sendall(request)
            said = wire.recv(4096)
        except OSError:
            said = b""
        self.worst_s = max(self.worst_s, time.monotonic() - began)
        self.told[f"{who} {said[9:12].decode() or 'nothing'}"] += 1
        if said[9:12] != b"200" and wire is not None:
            wire.close()
            return None
        return wire

    def end(self) -> None:
        """Stop asking."""
        self._over.set()
        self.join()


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
async def doors(directory: Path, door: str) -> AsyncIterator[tuple[dict[str, object], Authority | None]]:
    """Serve an application; yield how a process is started whose first listener is such a door."""
    server = await asyncio.get_running_loop().create_server(Application, "127.0.0.1", 0, backlog=1024)
    upstream = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    how: dict[str, object] = {"upstreams": [upstream], "linger": "2s", "access_log": "errors"}
    authority = None
    if door == "tls":
        authority = Authority(directory)
        certificate, key = authority.issue()
        how |= {"tls_certificate": str(certificate), "tls_key": str(key), "upstreams": [upstream] * 2}
        how["listen"] = ["https://127.0.0.1:0", "127.0.0.1:0"]
    elif door == "proxy":
        how |= {"proxy_protocol": "true", "trusted_proxies": "127.0.0.1/32"}
    try:
        yield how, authority
    finally:
        server.close()


async def stand(proxy: Proxy, state: State, count: int, authority: Authority | None) -> Stood:
    """Have `count` clients come, stop and leave again."""
    before, told = proxy.rss_bytes(), (await proxy.metrics())["buffered_bytes"]
    crowd = Crowd(state, proxy.addresses[0], None if authority is None else authority.trusted())
    await crowd.come(count)
    await asyncio.sleep(0.6)
    held = (await proxy.metrics())["buffered_bytes"] - told
    grown = proxy.rss_bytes() - before
    outcomes = crowd.look()
    crowd.leave()
    began = time.monotonic()
    while True:
        await asyncio.sleep(0.1)
        took_s, left = time.monotonic() - began, proxy.rss_bytes() - before
        let_go = (await proxy.metrics())["buffered_bytes"] <= told + MIB / 4
        if (left < BACK_BYTES and let_go) or took_s > 2 * BACK_S:
            return Stood(outcomes, grown, held, peak(proxy), took_s, left)


def peak(proxy: Proxy) -> int:
    """Return the most that was resident."""
    text = Path(f"/proc/{proxy.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", text)
    assert found is not None
    return int(found[1]) * 1024


async def play(state: State, loop: str, limit_mib: int, count: int) -> tuple[list[str], list[str]]:
    """Return a row of the table, and what does not hold."""
    with tempfile.TemporaryDirectory() as place, memory_group(limit_mib * MIB) as group:
        async with doors(Path(place), state.door) as (how, authority):
            try:
                async with Proxy(
                    loop=loop,
                    cgroup=group,
                    env=dict(re.findall(r"(MALLOC_\w+)=(\d+)", IMAGE.read_text())),
                    **how,
                ) as proxy:
                    await proxy.ready()
                    others = Others(proxy.addresses[-1])
                    if state.door != "proxy":
                        others.start()
                    stood = await stand(proxy, state, count, authority)
                    if state.door != "proxy":
                        # Not here: the application that answers them is on this loop.
                        await asyncio.to_thread(others.end)
                    lines = [line for line in proxy.lines if line["event"] == "defect"]
            except (AssertionError, OSError) as death:
                return [state.name, loop, str(limit_mib), "died"], [f"{state.name}: died: {death}"[:300]]
    faults = []
    if odd := set(stood.outcomes) - HONEST:
        faults.append(f"odd answers: {odd}")
    if stood.back_s > BACK_S:
        faults.append(f"{stood.left / MIB:.1f} MiB are left after {stood.back_s:.1f} s")
    if lines:
        faults.append(f"a defect: {lines[0]}")
    # Who keeps a connection idles between two requests, and may have to make way.
    if any(told.startswith("check") and told != "check 200" for told in others.told):
        faults.append(f"others were told: {dict(others.told)}")
    refused = sum(stood.outcomes.values()) - stood.outcomes["held"]
    row = [
        state.name, loop, f"{limit_mib} MiB", f"{refused:,} of {count:,}", f"{stood.peak / MIB:.0f} MiB",
        f"{stood.told / MIB:.1f} of {stood.resident / MIB:.1f} MiB", f"{1000 * others.worst_s:.0f} ms",
        f"{stood.back_s:.1f} s",
    ]  # fmt: skip
    return row, [f"{state.name} ({loop}, {limit_mib} MiB): {fault}" for fault in faults]


TITLES = (
    "where they stop", "loop", "limit", "turned away", "resident at most", "told of what it grew by",
    "others waited", "memory back",
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
        row, wrong = asyncio.run(play(state, loop, limit, options.count))
        print(" | ".join(row), *wrong, sep="\n  " if wrong else "", flush=True)
        rows.append(row)
        faults += wrong
    if faults:
        print("\ndoes not hold:", *faults, sep="\n")
        return 1
    if not (options.state or options.loop or options.limit):
        write("states", f"{where('make states')}\n\n{markdown(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
