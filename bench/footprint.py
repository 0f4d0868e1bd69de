"""What a sidecar holds and how often it wakes while nobody asks it, with everything on that a cluster brings.

One real process as a pod starts it, beside the tests' API server over TLS: it has looked at its slices and
its pod, and has been scraped and probed once. Its waking is counted by the kernel, as the voluntary context
switches of all its threads.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import dirty_mb, private_mb, ran_s, rss_mb, switches
from bench.results import Column, Figure
from drainproxy.proxy.upstream.probe import QUIET_S
from tests.kube.cluster import pod

if TYPE_CHECKING:
    from bench.proxies import Contender
    from tests.kube.cluster import Pod

IDLE_S = 60.0
SETTLE_S = 2.0


def footprint(contender: Contender, column: Column) -> None:
    """Add the figures of an idle sidecar in a pod."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        asyncio.run(_in_a_pod(contender, column, Path(directory)))


async def _in_a_pod(contender: Contender, column: Column, directory: Path) -> None:
    flavour = dict(contender.env)
    async with pod(directory, rbac="slices+pod+events", bare=True, variables=flavour) as it:
        await it.looked()
        for path in ("/readyz", "/metrics"):
            await it.proxy.get(path)
        await asyncio.sleep(QUIET_S + SETTLE_S)
        pid = it.proxy.pid
        column.add(Figure.RSS_POD, rss_mb(pid))
        column.add(Figure.PRIVATE_POD, private_mb(pid))
        column.add(Figure.DIRTY_POD, dirty_mb(pid))
        await _idle(column, it)


async def _idle(column: Column, it: Pod) -> None:
    pid = it.proxy.pid
    began, woken, used_s = time.monotonic(), switches(pid), ran_s(pid)
    await asyncio.sleep(IDLE_S)
    passed_s = time.monotonic() - began
    column.add(Figure.WAKES, (switches(pid) - woken) / passed_s)
    column.add(Figure.IDLE_CPU, 100 * (ran_s(pid) - used_s) / passed_s)
