"""What a CPU limit does to a sidecar: `make sizing` fills the second table of docs/operations.md with it.

A real process in a group with a quota (cgroups(7)), as the kubelet makes one of a limit: how long it starts,
and a drain of 50 requests in flight while a probe asks twice a second.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bench.measure import ran_s
from bench.sizing import PAGE
from tests.chaos.table import markdown, where, write
from tests.integration.test_cpu_limit import ASK, IN_FLIGHT, Application
from tests.support.cgroup import cpu_group
from tests.support.process import Proxy

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = (1000, 100, 50)
EVERY_S = 0.5
HELD_S = 5.0
"""How long the requests go on after SIGTERM."""
HEAD = (
    "CPU limit",
    "start to ready",
    "CPU until then",
    "slowest probe in a drain of 50 requests",
    "answered",
)


async def probes(proxy: Proxy, over: asyncio.Event) -> float:
    """Ask until the drain is over; return the longest that an answer took, in seconds."""
    loop, slowest = asyncio.get_running_loop(), 0.0
    while not over.is_set():
        began = loop.time()
        assert (await proxy.get("/livez")).status == 200
        slowest = max(slowest, loop.time() - began)
        await asyncio.sleep(EVERY_S)
    return slowest


async def throttled(millicores: int, group: Path) -> tuple[str, ...]:
    """Return a row."""
    loop = asyncio.get_running_loop()
    application = Application()
    server = await asyncio.start_server(application, "127.0.0.1", 0, backlog=IN_FLIGHT)
    host, port = server.sockets[0].getsockname()
    began = loop.time()
    async with server, Proxy(upstreams=[f"http://{host}:{port}"], cgroup=group, propagation="none") as proxy:
        await proxy.ready()
        start_s, used_s = loop.time() - began, ran_s(proxy.pid)
        wires = [await asyncio.open_connection(*proxy.addresses[0]) for _ in range(IN_FLIGHT)]
        for _, writer in wires:
            writer.write(ASK)
        for _ in wires:
            await application.held.acquire()
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(probes(proxy, over))
            proxy.signal()
            await asyncio.sleep(HELD_S)
            over.set()
        application.may_answer.set()
        answers = [await reader.read() for reader, _ in wires]
        for _, writer in wires:
            writer.close()
        whole = sum(answer.endswith(b"\r\n\r\ndone") for answer in answers)
        assert await proxy.exit_code() == 0
    slowest = f"{asking.result() * 1000:.0f} ms"
    return f"{millicores}m", f"{start_s:.1f} s", f"{used_s:.2f} s", slowest, f"{whole} of {IN_FLIGHT}"


async def main() -> None:
    """Measure, and write the table where people read it."""
    rows: list[tuple[str, ...]] = [HEAD]
    for millicores in LIMITS:
        with cpu_group(millicores) as group:
            if group is None:
                raise SystemExit("this machine lets nobody limit a group's CPU")
            rows.append(await throttled(millicores, group))
            print(*rows[-1], sep=" | ", flush=True)
    write("throttled", f"{where('make sizing')}\n\n{markdown(rows)}", PAGE)


if __name__ == "__main__":
    asyncio.run(main())
