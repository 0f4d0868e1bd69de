"""The cluster's data plane: one Envoy, two front doors for each Service, endpoints that follow the slices.

How long after a slice's change Envoy learns of it is set by `lag_s`. A front door picks an endpoint for each
connection (as kube-proxy does) or for each request (as an ingress does).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rollout import envoy
from tests.support.cluster.endpoints import chosen
from tests.support.cluster.resources import SLICES
from tests.support.kubelet.container import Container
from tests.support.kubelet.probes import passes
from tests.support.kubelet.sandbox import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tests.support.cluster.store import Store

_ADMIN_PORT = 9901
_START_S = 30.0


class DataPlane:
    """Made by `data_plane`. `lag_s` may be changed while nothing is on its way."""

    def __init__(self, ip: str, directory: Path, *, http2: bool) -> None:
        self.lag_s = 0.0
        self._http2 = http2
        self._ip = ip
        self._directory = directory
        self._ports: dict[str, int] = {}
        self._version = 0

    def add(self, service: str) -> None:
        """Make room for a Service; before it starts."""
        self._ports[service] = len(self._ports)
        self._write(service, [])

    def doors(self, service: str) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return the front door for connections and the one for requests."""
        number = self._ports[service]
        return (self._ip, 10_000 + number), (self._ip, 20_000 + number)

    def choose(self, service: str) -> tuple[str, int]:
        """Return one of a Service's front doors: half of the callers take each."""
        return random.choice(self.doors(service))

    def command(self) -> list[str]:
        """Return the command that runs it."""
        listeners, clusters = [], []
        for service in self._ports:
            by_connection, by_request = self.doors(service)
            file = self._file(service)
            listeners += [
                envoy.tcp_listener(f"{service}-tcp", by_connection, f"{service}-tcp"),
                envoy.http_listener(f"{service}-http", by_request, f"{service}-http"),
            ]
            clusters += [
                envoy.fed_cluster(f"{service}-tcp", service, file),
                envoy.fed_cluster(f"{service}-http", service, file, http2=self._http2),
            ]
        config = envoy.bootstrap((self._ip, _ADMIN_PORT), listeners, clusters)
        return envoy.command(config, self._directory / "envoy.json")

    async def started(self) -> None:
        """Return when it serves."""
        async with asyncio.timeout(_START_S):
            while not await passes(self._ip, {"httpGet": {"path": "/ready", "port": _ADMIN_PORT}}):
                await asyncio.sleep(0.1)

    async def follow(self, service: str, store: Store, namespace: str, slice_: str, port: int) -> None:
        """Feed Envoy with a slice's endpoints, `lag_s` late, until cancelled."""
        loop = asyncio.get_running_loop()
        known: list[str] | None = None
        while True:
            version = store.version
            found = store.get(SLICES, namespace, slice_)
            addresses = chosen(found) if found else []
            if addresses != known:
                known = addresses
                loop.call_later(self.lag_s, self._write, service, [(each, port) for each in addresses])
            await store.changes(version)

    def _file(self, service: str) -> Path:
        return self._directory / f"{service}.json"

    def _write(self, service: str, addresses: Iterable[tuple[str, int]]) -> None:
        self._version += 1
        envoy.write_endpoints(self._file(service), service, list(addresses), self._version)


@contextlib.asynccontextmanager
async def data_plane(services: Iterable[str], *, http2: bool = False) -> AsyncIterator[DataPlane]:
    """Run one for these Services; `http2`: it asks them in HTTP/2 where it reads requests."""
    address = Address()
    with tempfile.TemporaryDirectory(prefix="plane-", ignore_cleanup_errors=True) as name:
        plane = DataPlane(address.ip, Path(name), http2=http2)
        for service in services:
            plane.add(service)
        process = Container({"name": "envoy"}, plane.command(), {})
        await process.start()
        try:
            await plane.started()
            yield plane
        finally:
            await process.end()
            address.release()
