"""Callers of a Service, a process of their own in a namespace of the test's.

Run as a script it calls the addresses of its arguments until standard input ends; a line `-HOST:PORT` there
is what a cluster says once a pod is chosen no more. It writes what became of its requests, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from drainproxy.proof.client import Client, Request
from drainproxy.proof.tally import Tally
from tests.image.engine import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.network import Namespace

CALLERS = 20
PAUSE_S = 0.05
PATIENCE_S = 10.0


class Callers:
    """Made by `calling`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def forget(self, address: str) -> None:
        """Let nobody choose it any more for a new connection."""
        self._process.stdin.write(f"-{address}\n".encode())

    async def stop(self) -> dict[str, Any]:
        """Let each finish what it is at; return what they have seen."""
        said, _ = await self._process.communicate(b"")
        assert self._process.returncode == 0
        return json.loads(said.splitlines()[-1])


@contextlib.asynccontextmanager
async def calling(network: Namespace, *addresses: str) -> AsyncIterator[Callers]:
    """Call addresses from a namespace, and yield once the first hundred requests are answered."""
    words = (sys.executable, "-m", "tests.image.callers", *addresses)
    process = await asyncio.create_subprocess_exec(
        *("nsenter", f"--net=/proc/{network.pid}/ns/net", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"calling\n"
        yield Callers(process)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def call(addresses: list[str]) -> dict[str, Any]:
    """Call until standard input ends."""
    loop = asyncio.get_running_loop()
    doors = [(host.strip("[]"), int(port)) for host, _, port in (each.rpartition(":") for each in addresses)]
    tally, stop, warm = Tally(loop.time()), asyncio.Event(), asyncio.Event()

    def hear() -> None:
        for line in os.read(0, 65536).decode().splitlines() or [""]:
            if not line:
                loop.remove_reader(0)
                stop.set()
            else:
                host, _, port = line[1:].rpartition(":")
                doors.remove((host.strip("[]"), int(port)))

    loop.add_reader(0, hear)

    async def one(number: int) -> None:
        client = Client(lambda: random.choice(doors), keep_alive=number % 2 == 0, timeout_s=PATIENCE_S)
        request = Request("POST" if number % 4 < 2 else "GET", "/", "shop")
        while not stop.is_set():
            tally.add(await client.send(request))
            if tally.requests == 5 * CALLERS:
                warm.set()
            await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))

    async def tell() -> None:
        await warm.wait()
        print("calling", flush=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(tell())
        for number in range(CALLERS):
            group.create_task(one(number))
    kinds = Counter(str(loss.kind.value) for loss in tally.losses)
    at = [round(loss.sent_at - tally.began_at, 3) for loss in tally.losses]
    return {
        "requests": tally.requests,
        "lost": tally.lost,
        "kinds": dict(kinds),
        "statuses": {str(status): count for status, count in tally.by_status.items()},
        "lost_over_s": round(max(at) - min(at), 3) if at else 0.0,
        "longest_gap_s": round(tally.longest_gap_s(loop.time()), 3),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(call(sys.argv[1:]))), flush=True)
