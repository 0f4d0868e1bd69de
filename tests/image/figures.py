"""What a container costs under small limits: start, memory, hook, end. `make image-figures` writes a table.

Run as a script it makes its own network namespace and prints the rows for docs/operations.md.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

from tests.image.containers import answers, container
from tests.image.engine import podman
from tests.support.network import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

MEASURED = ("start_s", "rss", "uss", "connections", "hook_s", "hook_bytes", "end_s")
HOOK = (
    "import resource, subprocess, sys\n"
    "code = subprocess.run(['drainproxy', 'drain', '--prestop']).returncode\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)\n"
    "sys.exit(code)\n"
)
LIMITS = (("64m", "0.1"), ("128m", "0.1"), ("64m", "0.5"), ("128m", "0.5"))


async def measure(network: Namespace, *, memory: str, cpus: str) -> dict[str, float]:
    """Start one in a namespace, drain it by its hook and end it; return what MEASURED names."""
    limits = ("--memory", memory, "--memory-swap", memory, "--cpus", cpus)
    began = time.monotonic()
    with container(network=network, options=limits, propagation="none", rbac="none") as drainproxy:
        await answers(network)
        seen: dict[str, float] = {"start_s": time.monotonic() - began, **drainproxy.smaps()}
        seen.pop("pss")
        began = time.monotonic()
        hook = podman("exec", drainproxy.name, "drainproxy", "drain", "--prestop", timeout=120)
        seen["hook_s"] = time.monotonic() - began
        assert hook
        seen["hook_bytes"] = float(podman("exec", drainproxy.name, "python3", "-c", HOOK).splitlines()[-1])
        seen["end_s"] = drainproxy.stop()
        seen["connections"] = drainproxy.event("limits")["max_connections"]
    return seen


def rows(seen: dict[tuple[str, str], dict[str, float]]) -> Iterator[str]:
    """Yield the table's lines."""
    yield "| memory limit | CPU limit | starts in | RSS | USS | connections | hook | its memory | ends in |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for (memory, cpus), of in seen.items():
        sizes = {name: f"{of[name] / 2**20:.1f}Mi" for name in ("rss", "uss", "hook_bytes")}
        times = {name: f"{of[name]:.1f} s" for name in ("start_s", "hook_s", "end_s")}
        milli = f"{float(cpus) * 1000:.0f}m"
        yield (
            f"| {memory[:-1]}Mi | {milli} | {times['start_s']} | {sizes['rss']} | {sizes['uss']} | "
            f"{of['connections']:,.0f} | {times['hook_s']} | {sizes['hook_bytes']} | {times['end_s']} |"
        )


async def main() -> None:
    """Measure each of LIMITS, and print the table."""
    network = Namespace()
    try:
        await network.entered()
        await network.run("ip", "link", "set", "lo", "up")
        seen = {limits: await measure(network, memory=limits[0], cpus=limits[1]) for limits in LIMITS}
    finally:
        network.close()
    print(*rows(seen), sep="\n")


if __name__ == "__main__":
    assert re.fullmatch(r"[\d.]+m", LIMITS[0][0])
    asyncio.run(main())
