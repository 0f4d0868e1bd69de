"""What the sidecar's own crash costs: killed in a real container under load, and started again.

Run as a script it prints a row for each way: podman restarts the container, or a parent the server.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from tests.image.callers import calling
from tests.image.containers import Container, answers, container
from tests.support.network import POD, TRAFFIC, joined

HERE = Path(__file__).parent
CRASHES = 3
SETTINGS = {"rbac": "none", "propagation": "none", "listen": f":{TRAFFIC}"}
WAYS = ("container", "small", "forking")


def server(sidecar: Container) -> int:
    """Return the process that serves: the first one, or a parent's child."""
    first = sidecar.pid
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return int(children[0]) if children else first


def private(pid: int) -> int:
    """Return the bytes that a process has for itself."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def group(pid: int) -> int:
    """Return the bytes that its processes have together, shared ones counted once."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    texts = [Path(f"/proc/{each}/smaps_rollup").read_text().splitlines() for each in pids]
    return sum(int(line.split()[1]) * 1024 for text in texts for line in text if line.startswith("Pss:"))


async def crash(way: str) -> dict[str, Any]:
    """Kill the server CRASHES times under load; return what callers saw and what it takes in memory."""
    async with joined() as (pod, neighbour):
        script = ("--volume", f"{HERE}:/app:ro", "--entrypoint", "python3")
        options, words = ("--restart", "always"), ("run",)
        if way != "container":
            options, words = script, ("/app/parent.py", way)
        with (
            container("/app/application.py", "shop", "127.0.0.1", network=pod, options=script),
            container(*words, network=pod, options=(*options, "--memory", "128m"), **SETTINGS) as sidecar,
        ):
            await answers(neighbour, "/", host=POD, port=TRAFFIC)
            async with calling(neighbour, f"{POD}:{TRAFFIC}") as callers:
                for _ in range(CRASHES):
                    before = server(sidecar)
                    memory = {"together": group(sidecar.pid)}
                    if way != "container":
                        memory["parent"] = private(sidecar.pid)
                    os.kill(before, signal.SIGKILL)
                    async with asyncio.timeout(60):
                        while Path(f"/proc/{before}").exists():
                            await asyncio.sleep(0.01)
                    await answers(neighbour, "/", host=POD, port=TRAFFIC)
                    await asyncio.sleep(1)
                called = await callers.stop()
            return {**called, **memory}


async def main() -> None:
    """Print a row for each way."""
    for way in WAYS:
        print(way, await crash(way), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
