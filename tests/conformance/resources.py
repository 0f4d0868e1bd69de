"""Memory, descriptors and work of the proxy's process: back to where they were, or not.

Read from /proc, so Linux only; elsewhere the check says nothing.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conformance.proxies import Proxy

BACK_S = 5.0
LOOK_S = 0.05  # another process's descriptors give no event: look this often
GROWTH_BYTES = 32 << 20  # allocators keep what they had: more than this is kept per case


@dataclass(frozen=True, slots=True)
class Use:
    """What a process holds."""

    descriptors: int
    rss_bytes: int
    in_flight: int | None
    silent: str = ""  # why it did not say what is in flight


async def measure(proxy: Proxy) -> Use | None:
    """Measure the proxy now; None without /proc or without a process of its own."""
    held = _held(proxy.pid)
    if held is None:
        return None
    try:
        return Use(*held, await proxy.in_flight())
    except OSError as error:  # also when it takes too long
        return Use(*held, None, silent=str(error) or "no answer in time")


def _held(pid: int | None) -> tuple[int, int] | None:
    """Give descriptors and resident bytes."""
    home = Path(f"/proc/{pid}")
    if pid is None or not home.exists():
        return None
    pages = int((home / "statm").read_text().split()[1])
    return len(list((home / "fd").iterdir())), pages * os.sysconf("SC_PAGE_SIZE")


async def back_to(baseline: Use | None, proxy: Proxy) -> list[str]:
    """Wait up to five seconds for the baseline; give what did not return."""
    if baseline is None:
        return []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + BACK_S
    while True:
        now = await measure(proxy)
        problems = _above(baseline, now)
        if not problems or loop.time() > deadline:
            return problems
        await asyncio.sleep(LOOK_S)


def _above(baseline: Use, now: Use | None) -> list[str]:
    if now is None:
        return ["the process is gone"]
    problems = []
    if now.descriptors > baseline.descriptors:
        problems.append(f"{now.descriptors} descriptors, {baseline.descriptors} before")
    if now.rss_bytes > baseline.rss_bytes + GROWTH_BYTES:
        grown = (now.rss_bytes - baseline.rss_bytes) >> 20
        problems.append(f"memory grew by {grown} MiB")
    if now.silent:
        problems.append(f"it does not tell its work in flight: {now.silent}")
    if now.in_flight:
        problems.append(f"{now.in_flight} requests still in flight")
    return problems
