"""Rows about a cluster that is slower than the cap, and an application that starts cold."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any

from drainproxy.proof.client import Client, Request
from tests.chaos.row import ONE, Evidence, Measured, row
from tests.integration.application import Application
from tests.integration.scene import get
from tests.pods.scene import SHORT, only_report, sidecar
from tests.support.client import Client as Caller
from tests.support.cluster.plane import plane
from tests.support.kubelet import wirings
from tests.support.kubelet.cluster import cluster
from tests.support.upstream import OK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from drainproxy.proof.outcomes import Outcome
    from tests.chaos.ground import Ground
    from tests.support.cluster.plane import Plane
    from tests.support.upstream import Connection

CALLERS, EVERY_S = 40, 0.04
PATIENCE_S = 20.0
_HELLO = Request(method="GET", path="/", host="shop.example")


@contextlib.asynccontextmanager
async def called(choices: Plane, callers: int) -> AsyncIterator[list[Outcome]]:
    """Call for the length of the block, half on kept connections."""
    over = asyncio.Event()
    outcomes: list[Outcome] = []

    async def call(number: int) -> None:
        client = Client(choose=choices.choose, keep_alive=number % 2 == 0, timeout_s=PATIENCE_S)
        while not over.is_set():
            outcomes.append(await client.send(_HELLO))
            await asyncio.sleep(EVERY_S)
        client.close()

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(call(number))
        yield outcomes
        over.set()


async def _lag(ground: Ground, lag_s: float, *, cap: str, grace_s: int) -> Measured:
    """Delete one of three pods whose callers the data plane goes on sending there for `lag_s`."""

    async def play(**settings: str) -> list[Outcome]:
        times = {"propagation_max": cap, "grace_period": f"{grace_s}s"}
        manifest = wirings.plain(propagation="cluster", **times, **settings)
        manifest["spec"]["terminationGracePeriodSeconds"] = grace_s
        async with cluster() as town:
            leaving, *_ = [await town.run(manifest) for _ in range(3)]
            callers = ground.pick(CALLERS, CALLERS // 4)
            async with (
                plane(town.api.store, wirings.TRAFFIC_PORT, lag_s) as choices,
                called(choices, callers) as outcomes,
            ):
                await asyncio.sleep(1.0)
                ending = town.kubelet.delete(leaving)
                # Until shortly before the data plane has heard of it.
                await asyncio.sleep(lag_s - 0.2)
                if settings.get("handoff"):
                    await ground.books((leaving.ip, wirings.ADMIN_PORT))
                await asyncio.sleep(4.0)
            await ending
            said = sidecar(leaving).lines
            ground.said += said
            assert not leaving.killed
            assert only_report(leaving)["propagation_ended"] == "max"
            assert not [line for line in said if line["event"] in {"defect", "library", "text"}]
            return outcomes

    short = ground.pick({}, {**SHORT, "app_stop": "4s", "reserve": "1s"})
    outcomes = await play(handoff="on", **short)
    said = f"of {len(outcomes):,} requests"
    if not ground.short:
        without = await play()
        said += f"; without: {sum(each.lost for each in without)} of {len(without):,}"
    return Measured(sum(each.lost for each in outcomes), said)


LATE = Evidence(line="drain_report", series="late_requests_total")
HANDED = Evidence(line="siblings", series='handoff_total{outcome="answered"}')


@row("lag beyond the cap", LATE, most=0, unit="lost", loops=ONE)
async def lag(ground: Ground) -> Measured:
    """A data plane goes on choosing one of three pods for 20 s, with a cap of 15 s and a grace of 30 s."""
    return await _lag(ground, *ground.pick((20.0,), (4.0,)), **_times(ground))


@row("lag beyond the deadline", HANDED, most=0, unit="lost", loops=ONE)
async def long_lag(ground: Ground) -> Measured:
    """The same for 26 s, when the application has long been let go: hand-off."""
    return await _lag(ground, *ground.pick((26.0,), (8.2,)), **_times(ground))


def _times(ground: Ground) -> dict[str, Any]:
    return {"cap": ground.pick("15s", "2s"), "grace_s": ground.pick(30, 10)}


SLOW_S, QUICK_S = 0.05, 0.001
RATE = 25
"""A second: more than it can answer while it is cold."""


class Cold:
    """Compiles as it goes, like a JVM: one request at a time, and 50 times as slow at first."""

    def __init__(self, slow: int) -> None:
        self._slow = slow
        self._turn = asyncio.Lock()

    async def handle(self, connection: Connection) -> None:
        """Answer."""
        while (await connection.read_request()).start:
            async with self._turn:
                self._slow -= 1
                await asyncio.sleep(SLOW_S if self._slow >= 0 else QUICK_S)
            await connection.send(OK)


@row(
    "cold application",
    Evidence(line="warmup", series='warmup_requests_total{result="answered"}'),
    most=20,
    unit="% of the 99th percentile without a warm-up",
    loops=ONE,
)
async def cold(ground: Ground) -> Measured:
    """An application is 50 times slower in its first 200 requests; its callers' first minute, 25 a second."""
    seconds, slow = ground.pick((60.0, 200), (8.0, 60))

    async def play(**settings: str) -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        async with Application(Cold(slow).handle) as application:
            began = loop.time()
            proxy = await ground.start(application.address, **settings)
            ready_s = loop.time() - began
            took: list[float] = []

            async def ask(at: float) -> None:
                await asyncio.sleep(at)
                sent_at = loop.time()
                async with await Caller.connect(proxy.addresses[0]) as caller:
                    assert (await caller.ask(get())).raw.startswith(b"HTTP/1.1 200")
                took.append(loop.time() - sent_at)

            async with asyncio.TaskGroup() as group:
                for number in range(int(RATE * seconds)):
                    group.create_task(ask(number / RATE))
            await ground.books(proxy)
            took.sort()
            return took[math.ceil(0.99 * len(took)) - 1], ready_s

    bound_s = 60.0
    how = {"warmup": "/", "warmup_count": str(slow), "warmup_timeout": f"{bound_s:g}s"}
    with_s, ready_s = await play(**how)
    assert ready_s < bound_s + 20.0, f"readiness was held for {ready_s:.1f} s"
    without_s, _ = await play()
    said = f"({with_s * 1000:.1f} ms instead of {without_s * 1000:.1f} ms, ready after {ready_s:.1f} s)"
    return Measured(100 * with_s / without_s, said)
