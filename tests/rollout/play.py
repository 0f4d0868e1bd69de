"""One row at play: a Service's pods, its callers, and rollouts under their eyes."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drainproxy.proof.demo.crowd import Crowd
from drainproxy.proof.demo.ledger import Orders, read_orders
from tests.rollout import mesh
from tests.rollout.streams import Audience, StreamTally
from tests.support.kubelet import probes
from tests.support.kubelet.cluster import Cluster, cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from drainproxy.proof.outcomes import Outcome
    from tests.rollout.dataplane import DataPlane
    from tests.rollout.rows import Row
    from tests.support.kubelet.kubelet import Pod

_PATIENCE_S = 10.0
_PROBE_EVERY_S = 5.0
_PROBERS = ("ELB-HealthChecker/2.0", "GoogleHC/1.0", "some-balancer/1.0")
_TAIL_S = 0.5


@dataclass(slots=True)
class Ended:
    """One pod that was ended."""

    gone_s: float
    """From its deletion."""
    killed: list[str]
    report: dict[str, Any]

    @property
    def drained_s(self) -> float:
        """From the drain's start until it had drained, by its own report."""
        return sum(self.report["phases_s"].values())


@dataclass(slots=True)
class RowResult:
    """What one row was like at one lag."""

    row: Row
    lag_s: float
    requests: int = 0
    losses: list[Outcome] = field(default_factory=list)
    orders: Orders = field(default_factory=lambda: Orders(0, 0, 0))
    streams: StreamTally = field(default_factory=StreamTally)
    ended: list[Ended] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Requests without a good answer, attempts at streams and WebSockets among them."""
        return len(self.losses) + len(self.streams.failures)


class Play:
    """One row's Service. Made by `played`."""

    def __init__(self, row: Row, town: Cluster, plane: DataPlane) -> None:
        self.row = row
        self._town = town
        self._plane = plane
        self._pods: list[Pod] = []
        self._crowd: Crowd | None = None
        self._probing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Run the first pods, and let the data plane know them."""
        self._pods = list(await asyncio.gather(*(self._run() for _ in range(self.row.replicas))))
        await asyncio.sleep(self._plane.lag_s + _TAIL_S)

    async def stage(self, lag_s: float, *, warm_s: Sequence[float], enough: Awaitable[Any]) -> RowResult:
        """Roll out under load, after so many seconds of it each time; the load goes on until `enough`."""
        row, stop = self.row, asyncio.Event()
        crowd = self._crowd = Crowd(
            f"{row.service}-{lag_s:g}", self._choose, row.cast, patience_s=_PATIENCE_S
        )
        audience = Audience(self._choose, streams=row.streams, sockets=row.sockets)
        result = RowResult(row, lag_s)
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.run(stop))
            group.create_task(audience.run(stop))
            for seconds in warm_s:
                await asyncio.sleep(seconds)
                result.ended += await self._roll_out()
            await enough
            stop.set()
        self._crowd = None
        result.requests = crowd.total.requests + audience.tally.streams + sum(audience.tally.codes.values())
        result.losses = crowd.total.losses
        result.orders = read_orders(self._town.ledger, crowd=crowd.name, acknowledged=crowd.acknowledged)
        result.streams = audience.tally
        return result

    @property
    def sent(self) -> int:
        """Requests at this lag so far."""
        return self._crowd.total.requests if self._crowd else 0

    def _choose(self) -> tuple[str, int]:
        return self._plane.choose(self.row.service)

    async def _roll_out(self) -> list[Ended]:
        """Replace every pod as a Deployment does: without waiting for the end of those that leave."""
        old, endings = self._pods, []
        self._pods = []
        for pod in old:
            if self.row.new_first:
                self._pods.append(await self._run())
            endings.append(asyncio.ensure_future(self._end(pod)))
            if not self.row.new_first:
                self._pods.append(await self._run())
        return list(await asyncio.gather(*endings))

    async def _run(self) -> Pod:
        pod = await self._town.run(self.row.manifest)
        for number in range(self.row.probers):
            probing = asyncio.ensure_future(self._probe(pod, _PROBERS[number]))
            self._probing.add(probing)
            probing.add_done_callback(self._probing.discard)
        return pod

    async def _end(self, pod: Pod) -> Ended:
        await self._town.kubelet.delete(pod)
        reports = [line for each in pod.containers for line in each.of("drain_report")]
        return Ended(gone_s=pod.took_s, killed=pod.killed, report=reports[0] if reports else {})

    async def _probe(self, pod: Pod, agent: str) -> None:
        """Ask for health on the traffic port as a balancer does, until the pod is gone."""
        action = {"path": "/healthz", "port": self.row.port}
        while not pod.gone.is_set():
            with contextlib.suppress(OSError, ValueError, IndexError):
                await probes.http_get(pod.ip, action, agent=agent)
            await asyncio.sleep(_PROBE_EVERY_S)


@contextlib.asynccontextmanager
async def played(row: Row, plane: DataPlane) -> AsyncIterator[Play]:
    """Make a row's cluster, with its Service known to the data plane."""
    async with cluster(rbac=row.rbac, port=row.port, images={"mesh": mesh.image}) as town:
        following = asyncio.ensure_future(
            plane.follow(row.service, town.api.store, "default", "web-abcde", row.port)
        )
        try:
            yield Play(row, town, plane)
        finally:
            following.cancel()
