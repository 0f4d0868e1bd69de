"""The EndpointSlice controller: rows follow the pods of a Service, as Kubernetes 1.36 writes them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tests.support.cluster.objects import Endpoint, endpoint_slice
from tests.support.cluster.resources import PODS, SLICES

if TYPE_CHECKING:
    from tests.support.cluster.store import Object, Store


class EndpointsController:
    """Of one Service: the pods with a label, in one slice. `run` until cancelled."""

    def __init__(self, store: Store, *, service: str, namespace: str, port: int) -> None:
        self._store = store
        self._service = service
        self._namespace = namespace
        self._port = port
        self.name = f"{service}-abcde"
        self.runs = asyncio.Event()
        """Cleared, it stands still, as a controller-manager does that has lost its lease."""
        self.runs.set()

    async def run(self) -> None:
        """Write the slice at each change of a pod."""
        written: list[Endpoint] | None = None
        while True:
            version, pods = self._store.list(PODS, self._namespace, cached=False)
            rows = [_row(pod) for pod in pods if self._ours(pod)]
            if rows != written:
                written = rows
                self._store.put(SLICES, self._slice(rows))
                version = self._store.version
            await self._store.changes(version)
            await self.runs.wait()

    def _ours(self, pod: Object) -> bool:
        return pod["metadata"].get("labels", {}).get("app") == self._service

    def _slice(self, rows: list[Endpoint]) -> Object:
        return endpoint_slice(
            self.name, rows, service=self._service, namespace=self._namespace, port=self._port
        )


def _row(pod: Object) -> Endpoint:
    """EndpointConditions: serving is the pod's readiness, terminating its deletionTimestamp."""
    metadata = pod["metadata"]
    serving = {"type": "Ready", "status": "True"} in pod["status"]["conditions"]
    terminating = "deletionTimestamp" in metadata
    return Endpoint(
        pod=metadata["name"],
        uid=metadata["uid"],
        address=pod["status"]["podIP"],
        ready=serving and not terminating,
        serving=serving,
        terminating=terminating,
        node=pod["spec"]["nodeName"],
    )


def chosen(slice_: Object) -> list[str]:
    """Return the addresses that a data plane sends to: the ready ones, else those that still serve.

    KEP-1669: with no ready endpoint, traffic goes to serving and terminating ones.
    """
    rows = [(row["addresses"][0], row["conditions"]) for row in slice_["endpoints"]]
    ready = [address for address, conditions in rows if conditions.get("ready", True)]
    with contextlib.suppress(KeyError):
        return ready or [address for address, c in rows if c["serving"] and c["terminating"]]
    return ready
