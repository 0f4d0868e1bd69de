"""One soak: warm up, take stock, call with faults for minutes, wait until it is quiet, take stock again."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak.application import Soaked, speak_http2
from tests.soak.callers import Callers
from tests.soak.trend import Slope, slope
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.ground import Baseline, Ground, Watched

SAMPLE_EVERY_S = 2.0
JUDGED_SHARE = 0.75
"""Of a soak's time, the last: what a process takes as it gets going is no trend."""
QUIET_S = 30.0
"""For everything to be as before, once nobody calls."""
FREE_BYTES = 4 << 20
"""So much more than before may be free and not given back (garbage.py looks for 2 MiB)."""
TIMEOUT_S = 5
ROUTES = f"routes:\n  - path: /\n    response_head: {TIMEOUT_S}s\n    idle: {TIMEOUT_S}s\n"
OPEN = ("client_connections{", "upstream_connections{", "requests_in_flight{")
USUAL = {"request", "turned_away"}
"""Lines that faults cause by the thousand; they are counted, not kept."""


@dataclass(slots=True)
class Result:
    """What a soak found."""

    for_s: float
    callers: Callers
    before: Baseline
    after: Baseline
    quiet_after_s: float
    doubled: int
    missing: int
    samples: list[tuple[float, float]] = field(default_factory=list)
    """Seconds and bytes of memory in use."""
    dirty: tuple[int, int] = (0, 0)
    """Bytes of private and dirty memory, before and after."""

    @property
    def trend(self) -> Slope:
        """Of that memory over the judged time."""
        began = self.samples[-1][0] - JUDGED_SHARE * self.for_s
        judged = [sample for sample in self.samples if sample[0] >= began]
        return slope(judged, block_s=min(30.0, JUDGED_SHARE * self.for_s / 8))

    @property
    def lost(self) -> int:
        """Requests without their right answer, and orders that were not done once."""
        return sum(tally.lost for tally in self.callers.kinds.values()) + self.doubled + self.missing

    @property
    def excess(self) -> dict[str, int]:
        """Objects, tasks and descriptors of which there are more than before."""
        return self.after.excess(self.before)


async def soaked(ground: Ground, for_s: float, *, rate: float, say: Callable[[str], None]) -> Result:
    """Soak a process for so long."""
    application = Soaked()
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        routes = Path(directory) / "routes.yaml"
        routes.write_text(ROUTES)
        address = await stack.enter_async_context(application.serving())
        http2 = await stack.enter_async_context(Upstream(speak_http2))
        proxy = await ground.start(address, http2.address, routes=str(routes))
        callers = Callers(proxy.addresses[0], proxy.addresses[1], seed=1, rate=rate)
        await callers.run(min(20.0, for_s / 4))
        before = await _quiet(proxy, None)
        dirty = proxy.dirty_bytes()
        say(f"{before.tasks} tasks, {before.descriptors} descriptors before")
        samples: list[tuple[float, float]] = []
        watching = asyncio.ensure_future(_watch(proxy, callers, samples, say))
        await callers.run(for_s)
        watching.cancel()
        loop = asyncio.get_running_loop()
        began = loop.time()
        after = await _quiet(proxy, before)
        quiet_after_s = loop.time() - began
        left = await _given_back(proxy, dirty)
        await ground.end(())
    return Result(
        for_s=for_s,
        callers=callers,
        before=before,
        after=after,
        quiet_after_s=quiet_after_s,
        doubled=sum(count > 1 for count in application.orders.values()),
        missing=len(callers.confirmed - application.orders.keys()),
        samples=samples,
        dirty=(dirty, left),
    )


async def _quiet(proxy: Watched, before: Baseline | None) -> Baseline:
    """Wait until nobody is connected and, if it is known, all is as before; return what there is."""
    loop = asyncio.get_running_loop()
    until = loop.time() + QUIET_S
    while True:
        books, now = await proxy.metrics(), await proxy.baseline()
        still = sum(n for name, n in books.items() if name.startswith(OPEN))
        if loop.time() > until or (not still and (before is None or not now.excess(before))):
            return now
        await asyncio.sleep(0.5)


async def _given_back(proxy: Watched, before: int) -> int:
    """Wait until what was needed for a moment is given back; return the private and dirty bytes."""
    loop = asyncio.get_running_loop()
    until = loop.time() + QUIET_S
    while (left := proxy.dirty_bytes()) > before + FREE_BYTES and loop.time() < until:
        await asyncio.sleep(0.5)
    return left


async def _watch(
    proxy: Watched, callers: Callers, samples: list[tuple[float, float]], say: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    began = told = loop.time()
    while True:
        now = loop.time()
        samples.append((now - began, float(await proxy.in_use_bytes())))
        proxy.lines[:] = [line for line in proxy.lines if line["event"] not in USUAL]
        if now - told >= 60.0:
            told = now
            sent = sum(tally.sent for tally in callers.kinds.values())
            lost = sum(tally.lost for tally in callers.kinds.values())
            say(f"{sent:,} requests, {lost} lost, {samples[-1][1] / 2**20:.1f} MiB in use")
        await asyncio.sleep(SAMPLE_EVERY_S)
