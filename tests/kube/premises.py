"""What a SliceWatch or a client needs around it, on a clock of its own."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drainproxy.kube.client import connect
from drainproxy.kube.identity import PodIdentity
from drainproxy.kube.rate_limit import RateLimit
from drainproxy.kube.settings import KubeSettings
from drainproxy.kube.slices.watch import SliceWatch
from drainproxy.metrics import Metrics
from tests.kube.server import ApiServer
from tests.support import clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from drainproxy.errors import KubernetesError
    from drainproxy.lifecycle.propagation import Evidence

ME = PodIdentity(namespace="shop", name="pod-u-1", uid="u-1", node="node-a")


@dataclass
class Premises:
    """One pod and its API server."""

    server: ApiServer
    settings: KubeSettings
    metrics: Metrics = field(default_factory=Metrics)
    pace: RateLimit = field(default_factory=RateLimit)
    complaints: list[tuple[str, str, str]] = field(default_factory=list)
    words: list[tuple[float, Evidence]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def connect(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """Open a session."""
        return connect(self.settings, self.metrics)

    def complain(self, asked: str, error: KubernetesError) -> None:
        """Keep a complaint."""
        self.complaints.append((asked, error.reason, str(error)))

    def slices(self, *, peers: bool = False, node: bool = False) -> SliceWatch:
        """Return a watch of this pod's slices."""
        return SliceWatch(
            me=ME,
            pace=self.pace,
            metrics=self.metrics,
            complain=self.complain,
            peers_matter=peers,
            node_matters=node,
        )

    def tell(self, word: Evidence) -> None:
        """Keep the cluster's word and when it came."""
        self.words.append((clock.now(), word))
        self.heard.set()

    async def word(self, number: int = 1) -> Evidence:
        """Wait for so many words; return the last of them."""
        while len(self.words) < number:
            self.heard.clear()
            await self.heard.wait()
        return self.words[number - 1][1]

    @property
    def states(self) -> list[str]:
        """The states told, in their order."""
        return [word.state.name for _, word in self.words]

    async def watch(self, for_s: float = 60.0, **how: bool) -> SliceWatch:
        """Watch to the end; return the watch."""
        slices = self.slices(**how)
        async with self.connect() as api:
            await slices.watch(api, asyncio.get_running_loop().time() + for_s, self.tell)
        return slices

    @contextlib.asynccontextmanager
    async def watching(self, for_s: float = 60.0, **how: bool) -> AsyncIterator[asyncio.Task[Any]]:
        """Watch meanwhile; the task is cancelled at the end if it still runs."""
        task = asyncio.get_running_loop().create_task(self.watch(for_s, **how))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    def requests(self) -> dict[tuple[str, ...], float]:
        """Return what `kubernetes_requests_total` has counted."""
        return {labels: count for labels, count in self.metrics.kubernetes_requests.values.items() if count}


@contextlib.asynccontextmanager
async def premises(authority, credentials: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Premises]:
    """An API server that runs, and the environment of a pod of its cluster."""
    async with ApiServer(authority) as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        yield Premises(server, KubeSettings(kubernetes_credentials=str(credentials)))
