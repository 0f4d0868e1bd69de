"""The rows about who takes over: a pod that alone serves, and a cluster that goes on saying "ready"."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from drainproxy.proof.client import Client, Request
from tests.chaos.row import Measured, pods_row
from tests.pods.scene import SHORT, only_report, sidecar
from tests.support.cluster.plane import plane
from tests.support.kubelet import wirings
from tests.support.kubelet.cluster import Cluster, cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from drainproxy.proof.outcomes import Outcome
    from tests.chaos.ground import Ground
    from tests.support.cluster.plane import Plane
    from tests.support.kubelet.kubelet import Pod

LAG_S = 1.0
CALLERS, EVERY_S = 3, 3.0
"""One connection a second in all: two seconds of silence happen by chance."""
PATIENCE_S = 10.0
_HELLO = Request(method="GET", path="/", host="shop.example")


class Crowd:
    """Callers of a Service, each on a new connection at its own pace."""

    def __init__(self, town: Plane) -> None:
        self._plane = town
        self._over = asyncio.Event()
        self.outcomes: list[Outcome] = []

    @property
    def lost(self) -> int:
        """How many had no good answer."""
        return sum(each.lost for each in self.outcomes)

    async def call(self, first_s: float) -> None:
        """Be one of them until it is over."""
        client = Client(choose=self._plane.choose, keep_alive=False, timeout_s=PATIENCE_S)
        pause_s = first_s
        while not await self._ends_within(pause_s):
            self.outcomes.append(await client.send(_HELLO))
            pause_s = EVERY_S

    async def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
        return self._over.is_set()

    def stop(self) -> None:
        """Nobody calls any more."""
        self._over.set()


@contextlib.asynccontextmanager
async def crowd(town: Cluster, port: int) -> AsyncIterator[Crowd]:
    """Call for the length of the block, and until the data plane has settled."""
    async with plane(town.api.store, port, LAG_S) as choices, asyncio.TaskGroup() as group:
        it = Crowd(choices)
        for number in range(CALLERS):
            group.create_task(it.call(EVERY_S * number / CALLERS))
        yield it
        await asyncio.sleep(LAG_S + EVERY_S)
        it.stop()


async def _beside(
    play: Callable[[dict[str, Any], int], Awaitable[Crowd]], settings: dict[str, str]
) -> tuple[Crowd, Crowd]:
    """Play the same with drainproxy and with the application alone."""
    behind = play(wirings.native(propagation="cluster", **settings), wirings.TRAFFIC_PORT)
    bare = play(wirings.bare(), wirings.APP_PORT)
    return tuple(await asyncio.gather(behind, bare))  # type: ignore[return-value]


def _measured(behind: Crowd, bare: Crowd) -> Measured:
    alone = f"{bare.lost} of {len(bare.outcomes)} without drainproxy"
    return Measured(behind.lost, f"of {len(behind.outcomes)} requests; {alone}")


def _proxied(pod: Pod) -> bool:
    return any(each.name == "drainproxy" for each in pod.containers)


async def _look(ground: Ground, pod: Pod) -> None:
    """Read the books of a pod that drains, as evidence."""
    if _proxied(pod):
        await ground.books((pod.ip, wirings.ADMIN_PORT))


def _ended(ground: Ground, pod: Pod, *reasons: str) -> None:
    """See that a pod has ended well, and why propagation did."""
    assert not pod.killed
    if not _proxied(pod):
        return
    said = sidecar(pod).lines
    ground.said += said
    assert only_report(pod)["propagation_ended"] in reasons
    assert not [line for line in said if line["event"] in {"defect", "library", "text"}]


@pods_row("lone sparse pod", line="drain_report", series="late_requests_total")
async def lone(ground: Ground) -> Measured:
    """The only pod is deleted, one call a second comes, and the successor takes its time to be ready"""
    return await _replaced(ground, 1)


@pods_row("two deleted together", line="drain_report", series="late_requests_total")
async def together(ground: Ground) -> Measured:
    """Both replicas are deleted at once, and neither is the other's successor; the rest as above"""
    return await _replaced(ground, 2)


async def _replaced(ground: Ground, replicas: int) -> Measured:
    starts_s = ground.pick(10.0, 4.0)

    async def play(manifest: dict[str, Any], port: int) -> Crowd:
        async with cluster(port=port) as town:
            pods = [await town.run(manifest) for _ in range(replicas)]
            async with crowd(town, port) as calls:
                await asyncio.sleep(EVERY_S)
                endings = [town.kubelet.delete(pod) for pod in pods]
                await asyncio.sleep(starts_s)
                for pod in pods:
                    await _look(ground, pod)
                await town.run(manifest)
                await asyncio.gather(*endings)
            for pod in pods:
                _ended(ground, pod, "slices_quiet", "max")
            return calls

    return _measured(*await _beside(play, ground.pick({}, SHORT)))


@pods_row("stalled controller", line="drain_report", series="late_requests_total")
async def stalled(ground: Ground) -> Measured:
    """One of two pods is deleted, and its row reads ready for 25 s; one call a second comes, grace 45 s"""
    stalled_s = ground.pick(25.0, 4.0)

    async def play(manifest: dict[str, Any], port: int) -> Crowd:
        manifest["spec"]["terminationGracePeriodSeconds"] = 45
        async with cluster(port=port) as town:
            pod = await town.run(manifest)
            await town.run(manifest)
            async with crowd(town, port) as calls:
                await asyncio.sleep(EVERY_S)
                town.endpoints.runs.clear()
                ending = town.kubelet.delete(pod)
                await asyncio.sleep(stalled_s)
                await _look(ground, pod)
                town.endpoints.runs.set()
                await ending
            _ended(ground, pod, "slices_quiet", "max")
            return calls

    return _measured(*await _beside(play, {"grace_period": "45s"} | ground.pick({}, SHORT)))
