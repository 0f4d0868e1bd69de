"""A Deployment in a cluster, callers who follow its slices late, and `drainproxy rollout` beside them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drainproxy.proof.client import Client, Request
from tests.support.cluster.access import EVERYTHING
from tests.support.cluster.account import Account
from tests.support.cluster.endpoints import chosen
from tests.support.cluster.resources import SLICES
from tests.support.command import environment
from tests.support.kubelet.cluster import cluster
from tests.support.kubelet.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from drainproxy.proof.outcomes import Outcome
    from tests.support.kubelet.cluster import Cluster

COMMAND_S = 90.0
TELLS_ALL = "slices+pod+events"


@dataclass
class Scene:
    """One Deployment, rolled out."""

    town: Cluster
    deployment: Deployment
    admin: Account
    kubeconfig: Path
    port: int
    lag_s: float = 0.2
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Requests of callers without a good answer."""
        return sum(each.lost for each in self.outcomes)

    async def drainproxy(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command as a person would; return its exit code and what it said."""
        child = await self.started(*arguments)
        return await ended(child)

    async def started(self, *arguments: str) -> asyncio.subprocess.Process:
        """Begin to run it."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drainproxy", *arguments),
            *("-n", "default", "--kubeconfig", str(self.kubeconfig)),
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def watched(self) -> asyncio.Task[tuple[int, str, str]]:
        """Begin to watch the Deployment; return when the API server has been asked for a watch of pods."""
        before = len(self.town.api.journal.of("watch", "pods"))
        child = await self.started("rollout", "deploy/web", "--watch", "--timeout", "60s", "--output", "json")
        watching = asyncio.ensure_future(ended(child))
        await self.town.api.journal.nth("watch", "pods", number=before + 1)
        return watching

    async def afterwards(self, *more: str) -> dict[str, Any]:
        """Return what the command says of a rollout that is over, for machines."""
        code, out, err = await self.drainproxy("rollout", "deploy/web", "--output", "json", *more)
        return understood(code, out, err)

    @contextlib.asynccontextmanager
    async def called(self, path: str = "/slow?seconds=0.02", callers: int = 4) -> AsyncIterator[None]:
        """Call the Service for the length of the block, each request on a connection of its own."""
        ready: list[str] = []
        tasks = [asyncio.ensure_future(self._follow(ready))]
        tasks += [asyncio.ensure_future(self._call(ready, path)) for _ in range(callers)]
        try:
            async with asyncio.timeout(COMMAND_S):
                while len(self.outcomes) < 10 * callers:
                    await asyncio.sleep(0.02)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, ready: list[str]) -> None:
        store, loop = self.town.api.store, asyncio.get_running_loop()

        def know(addresses: list[str]) -> None:
            ready[:] = addresses

        while True:
            version = store.version
            found = store.get(SLICES, "default", "web-abcde")
            addresses = chosen(found) if found else []
            loop.call_later(self.lag_s if ready else 0.0, know, addresses)
            await store.changes(version)

    async def _call(self, ready: list[str], path: str) -> None:
        client = Client(
            choose=lambda: (random.choice(ready), self.port), keep_alive=False, timeout_s=COMMAND_S
        )
        while True:
            if ready:
                request = Request(method="GET", path=path, host="shop.example")
                self.outcomes.append(await client.send(request))
            await asyncio.sleep(0.02)


async def ended(child: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Wait for a command's end; return its exit code and what it said."""
    async with asyncio.timeout(COMMAND_S):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


def understood(code: int, out: str, err: str) -> dict[str, Any]:
    """Return the document on standard output, whose exit code must be the command's."""
    assert out, err
    said = json.loads(out)
    assert isinstance(said, dict)
    assert code == said["exit_code"] or (code, said["exit_code"]) == (2, 0), (code, said)
    return {**said, "code": code}


@contextlib.asynccontextmanager
async def scene(
    template: dict[str, Any], directory: Path, *, port: int = 28080, rbac: str = TELLS_ALL, replicas: int = 2
) -> AsyncIterator[Scene]:
    """Run a Deployment of that template."""
    async with cluster(rbac=rbac, port=port) as town:
        authority = town.account.directory / "ca.crt"
        admin = Account(
            town.api,
            directory / "admin",
            [EVERYTHING],
            name="admin",
            token="admin-token",
            namespace="default",
            authority=authority,
        )
        deployment = Deployment(town, template, replicas=replicas)
        await deployment.start()
        yield Scene(town, deployment, admin, admin.kubeconfig(), port)
