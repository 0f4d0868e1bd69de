"""One row at play: a Service's pods, its callers, and rollouts under their eyes."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from drainproxy.proof.demo.ledger import Orders, read_orders
from drainproxy.tasks import Connections
from tests.rollout.callers import Called, Callers, calling
from tests.support.kubelet import probes
from tests.support.kubelet.cluster import Cluster, cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.rollout.dataplane import DataPlane
    from tests.rollout.rows import Row
    from tests.support.kubelet.kubelet import Image, Pod

P = TypeVar("P", bound="Play")

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
    called: Called = field(default_factory=Called)
    orders: Orders = field(default_factory=lambda: Orders(0, 0, 0))
    ended: list[Ended] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Requests without a good answer, attempts at streams and WebSockets among them."""
        return len(self.called.losses) + len(self.called.streams.failures)


class Play:
    """One row's Service. Made by `played`; `background` holds what goes on beside it until it is over."""

    def __init__(self, row: Row, town: Cluster, plane: DataPlane, background: Connections) -> None:
        self.row = row
        self._town = town
        self._plane = plane
        self._background = background
        self._pods: list[Pod] = []
        self._callers: Callers | None = None

    async def start(self) -> None:
        """Run the first pods, and let the data plane know them."""
        self._pods = [await self._run() for _ in range(self.row.replicas)]
        await asyncio.sleep(self._plane.lag_s + _TAIL_S)

    async def stage(self, lag_s: float, *, warm_s: Sequence[float], enough: asyncio.Event) -> RowResult:
        """Roll out under load, after so many seconds of it each time.

        The load of a row that is judged goes on until `enough`; the others give their share of the machine
        to it when they have rolled out.
        """
        row, result = self.row, RowResult(self.row, lag_s)
        name = f"{row.service}-{lag_s:g}"
        async with calling(row, name, self._plane.doors(row.service)) as self._callers:
            for seconds in warm_s:
                await asyncio.sleep(seconds)
                result.ended += await self._roll_out()
            if row.judged:
                await enough.wait()
            result.called = await self._callers.stop()
        self._callers = None
        result.orders = read_orders(self._town.ledger, crowd=name, acknowledged=result.called.acknowledged)
        return result

    @property
    def sent(self) -> int:
        """Requests at this lag so far."""
        return self._callers.sent if self._callers else 0

    async def _roll_out(self) -> list[Ended]:
        """Replace every pod as a Deployment does: without waiting for the end of those that leave."""
        old, self._pods, endings = self._pods, [], []
        async with asyncio.TaskGroup() as group:
            for pod in old:
                if self.row.new_first:
                    self._pods.append(await self._run())
                endings.append(group.create_task(self._end(pod)))
                if not self.row.new_first:
                    self._pods.append(await self._run())
        return [ending.result() for ending in endings]

    async def _run(self) -> Pod:
        pod = await self._town.run(self.row.manifest)
        for agent in _PROBERS[: self.row.probers]:
            self._background.spawn(self._probe(pod, agent), agent)
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
async def played(row: Row, plane: DataPlane, kind: type[P], images: Mapping[str, Image]) -> AsyncIterator[P]:
    """Make a row's cluster, with its Service known to the data plane."""
    failures: list[str] = []
    background = Connections(lambda name, failure: failures.append(f"{name}: {failure!r}"))
    async with cluster(rbac=row.rbac, port=row.port, images=images) as town:
        store = town.api.store
        background.spawn(plane.follow(row.service, store, "default", "web-abcde", row.port), "endpoints")
        try:
            yield kind(row, town, plane, background)
        finally:
            await background.cancel()
    assert not failures, failures
