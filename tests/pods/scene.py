"""Words that the pods' tests share."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

from drainproxy.proof.client import Client, Request
from tests.support.kubelet import wirings
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from drainproxy.proof.outcomes import Outcome
    from tests.support.kubelet.cluster import Cluster
    from tests.support.kubelet.container import Container
    from tests.support.kubelet.kubelet import Pod

SHORT = {
    "propagation_min": "1s",
    "propagation_margin": "300ms",
    "propagation_quiet": "400ms",
    "sparse_min": "1s",
    "settle": "100ms",
    "final_scrape_wait": "0s",
}
"""Settings that let a drain end soon and change nothing a test looks at."""


async def get(pod: Pod, path: str, port: int = wirings.TRAFFIC_PORT) -> Outcome:
    """Ask once, on a connection of its own."""
    client = Client(choose=lambda: (pod.ip, port), keep_alive=False, timeout_s=PATIENCE_S)
    return await client.send(Request(method="GET", path=path, host="shop.example"))


async def held(pod: Pod, name: str = "one") -> asyncio.Task[Outcome]:
    """Return a request that is in the application, and stays there until `released`."""
    asking = asyncio.ensure_future(get(pod, f"/gate/{name}"))
    assert not (await get(pod, f"/gate/{name}/entered", wirings.APP_PORT)).lost
    return asking


async def released(pod: Pod, asking: asyncio.Task[Outcome], name: str = "one") -> Outcome:
    """Let the held request go; return what became of it."""
    assert not (await get(pod, f"/gate/{name}/open", wirings.APP_PORT)).lost
    return await asking


def sidecar(pod: Pod) -> Container:
    """Return drainproxy's container."""
    return pod.container("drainproxy")


async def report(pod: Pod) -> dict[str, Any]:
    """Return the drain's report."""
    return await sidecar(pod).line("drain_report")


def only_report(pod: Pod) -> dict[str, Any]:
    """Return the report of a drain that is over, which must be the pod's only one."""
    (line,) = sidecar(pod).of("drain_report")
    return line


class Traffic:
    """New and kept connections to one pod, until told that the cluster has forgotten it."""

    def __init__(self, pod: Pod) -> None:
        self.outcomes: list[Outcome] = []
        self._pod = pod
        self._over = asyncio.Event()

    @property
    def lost(self) -> list[Outcome]:
        """Return the requests without a good answer."""
        return [each for each in self.outcomes if each.lost]

    def stop(self) -> None:
        """Send nothing more."""
        self._over.set()

    async def run(self) -> None:
        """Send until stopped."""
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(self._call(keep_alive=number % 2 == 0))

    async def _call(self, *, keep_alive: bool) -> None:
        address = (self._pod.ip, wirings.TRAFFIC_PORT)
        client = Client(choose=lambda: address, keep_alive=keep_alive, timeout_s=PATIENCE_S)
        while not self._over.is_set():
            self.outcomes.append(
                await client.send(Request(method="GET", path="/slow?seconds=0.02", host="shop.example"))
            )
        client.close()


@contextlib.asynccontextmanager
async def traffic(pod: Pod, enough: int = 30) -> AsyncIterator[Traffic]:
    """Call the pod for the length of the block, which begins when some have been answered."""
    calls = Traffic(pod)
    running = asyncio.ensure_future(calls.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while len(calls.outcomes) < enough:
                await asyncio.sleep(0.02)
        yield calls
    finally:
        calls.stop()
        await running


@contextlib.asynccontextmanager
async def ending_under_traffic(
    town: Cluster, pod: Pod, *, called_for_s: float = 0.5, **how: Any
) -> AsyncIterator[Traffic]:
    """Delete a pod that is called until `called_for_s` after the block: nothing is lost, nobody killed."""
    async with traffic(pod) as calls:
        ending = town.kubelet.delete(pod, **how)
        yield calls
        await asyncio.sleep(called_for_s)
        calls.stop()
        await ending
    assert not calls.lost
    assert not pod.killed


@contextlib.asynccontextmanager
async def frozen(container: Container) -> AsyncIterator[None]:
    """Keep a container from running at all for the length of the block, as a CPU limit does."""
    container.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        container.signal(signal.SIGCONT)
