"""Lane: one way for a pod to end. An old pod, a new pod, a router, clients, and what they counted.

Each step is a method that `run.py` calls for all lanes at once, so that they share one clock.
"""

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

from drainproxy.proof.client import Address
from drainproxy.proof.demo.crowd import Crowd, Role
from drainproxy.proof.demo.kubelet import Gone, delete_pod
from drainproxy.proof.demo.long_lived_clients import LongLivedClients
from drainproxy.proof.demo.pods import Pod, PodMaker, log_event
from drainproxy.proof.demo.results import LaneResult


class Router:
    """The Service of a lane. It picks a pod for each new connection and leaves it alone after.

    This is how kube-proxy works: the kernel rewrites the destination of a connection's first packet, and
    neither a later change of endpoints nor the proxy itself ever touches an established connection. The
    clients therefore connect to the picked pod themselves, and see its refusals and resets unaltered.
    """

    def __init__(self, *pods: Address) -> None:
        self.pods = list(pods)
        # kube-proxy's choice is random too; the seed makes two runs alike.
        self._random = random.Random(1)  # noqa: S311 - nobody must be kept from guessing it

    def choose(self) -> Address:
        return self._random.choice(self.pods)


@dataclass(frozen=True, slots=True)
class Way:
    """How the pods of a lane are wired."""

    name: str
    pre_stop_s: float = 0.0  # a preStop hook that only sleeps
    sidecar: bool = False


WAYS = (
    Way("bare"),
    Way("sleep 5", pre_stop_s=5.0),
    Way("sleep 15", pre_stop_s=15.0),
    Way("drainproxy", sidecar=True),
)


class Lane:
    """Written by its own tasks; the live view reads `crowd`, `phase` and `gone`."""

    # Set by `start`.
    old: Pod
    new: Pod

    def __init__(self, way: Way, *, ledger: Path, cast: tuple[Role, ...]) -> None:
        self.way = way
        self.ledger = ledger
        self.phase = "starting"
        self.router = Router()
        self.crowd = Crowd(way.name, self.router.choose, cast)
        self.long_lived = LongLivedClients()
        self.gone: Gone | None = None  # set by `end_old_pod`
        self._before_signal = (0, 0)

    async def start(self, maker: PodMaker) -> None:
        way = self.way
        async with asyncio.TaskGroup() as group:
            old, new = (
                group.create_task(maker.start(f"{way.name} {age}", ledger=self.ledger, sidecar=way.sidecar))
                for age in ("old", "new")
            )
        self.old, self.new = old.result(), new.result()
        if self.old.sidecar:
            self.old.sidecar.process.listeners.append(self._on_log)
        self.router.pods += [self.old.address, self.new.address]
        self.phase = "ready"

    async def serve(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.crowd.run(stop))
            group.create_task(self.long_lived.run(self.old.address, stop))

    async def end_old_pod(self, *, t0: float, lag_s: float) -> None:
        """The deletion, and the router's lagging knowledge of it; returns when both are over."""
        total = self.crowd.total
        self._before_signal = (total.requests, total.lost)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forget_old(t0 + lag_s))
            group.create_task(self._delete_old(t0))

    def result(self, *, t0: float) -> LaneResult:
        """Call it when the clients have stopped."""
        assert self.gone is not None
        return LaneResult(
            name=self.way.name,
            judged=self.way.sidecar,
            load=self.crowd.result(self.ledger, t0=t0),
            before_signal=self._before_signal,
            gone=self.gone,
            long_lived=self.long_lived.result(),
        )

    async def _forget_old(self, when: float) -> None:
        await asyncio.sleep(when - asyncio.get_running_loop().time())
        self.router.pods.remove(self.old.address)

    async def _delete_old(self, t0: float) -> None:
        self.gone = await delete_pod(self.old, t0=t0, pre_stop_s=self.way.pre_stop_s, note=self._note)

    def _note(self, phase: str) -> None:
        self.phase = phase

    def _on_log(self, line: str) -> None:
        event = log_event(line)
        if event.get("event") == "phase":
            self.phase = str(event["phase"])
