"""EndpointSlices -> the pods that serve beside this one, for requests that it cannot serve itself.

Read when somebody asks, never watched. What a look at all slices has shown is kept: which Services choose
this pod, by which port, in which zone. Called by the data plane through lifecycle/port.py.
"""

from collections.abc import Callable, Iterator
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.kube.client import connect
from drainproxy.kube.identity import PodIdentity
from drainproxy.kube.rate_limit import RateLimit
from drainproxy.kube.settings import KubeSettings
from drainproxy.kube.slices.endpoints import SERVICE_LABEL, serves
from drainproxy.lifecycle.port import Sibling
from drainproxy.metrics import Metrics

MAX_SIBLINGS = 256
"""Enough to choose from; a Service may have thousands."""


class SiblingReader:
    """Of one pod. See Siblings."""

    def __init__(
        self,
        me: PodIdentity,
        settings: KubeSettings,
        metrics: Metrics,
        complain: Callable[[str, KubernetesError], None],
    ) -> None:
        self._me = me
        self._settings = settings
        self._metrics = metrics
        self._complain = complain
        self._pace = RateLimit()
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{me.namespace}/endpointslices"
        self._ports: dict[tuple[str, int], str] = {}
        """Service and number -> the name of the port that leads to this pod."""
        self._uids: dict[str, bytes] = {}
        """Service -> its UID, which nobody outside of the cluster can know."""
        self._zone = self._family = ""
        """Of this pod; of its rows, so that a pod with two addresses is one sibling."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """See Siblings."""
        return tuple(self._uids.values())

    async def read(self, port: int) -> list[Sibling] | None:
        """See Siblings."""
        slices: list[dict[str, Any]] = []
        services = sorted({service for service, _ in self._ports})
        query = {"resourceVersion": "0"}
        if services:
            query["labelSelector"] = f"{SERVICE_LABEL} in ({','.join(services)})"

        def take(thing: dict[str, Any]) -> None:
            self.note(thing)
            # Before it is known which are ours, nothing of the others is kept.
            if _service(thing) in {service for service, _ in self._ports} or not services:
                slices.append(thing)

        try:
            await self._pace.turn()
            async with connect(self._settings, self._metrics) as api:
                await api.list(self._path, query, take)
            found = list(dict.fromkeys(each for thing in slices for each in self._of(thing, port)))
        except KubernetesError as error:
            self._complain("siblings", error)
            self._pace.failed(error.retry_after_s)
            return None
        self._pace.worked()
        return found[:MAX_SIBLINGS]

    def note(self, thing: dict[str, Any]) -> None:
        """Learn from a slice what stays: whose it is, if this pod is in it."""
        own = [row for row in thing.get("endpoints") or () if self._me.is_target(row.get("targetRef") or {})]
        if not own or not (service := _service(thing)):
            return
        self._zone = str(own[0].get("zone") or self._zone)
        self._family = self._family or str(thing.get("addressType"))
        for port in thing.get("ports") or ():
            if port.get("protocol", "TCP") == "TCP" and isinstance(port.get("port"), int):
                self._ports[service, port["port"]] = str(port.get("name") or "")
        for owner in thing["metadata"].get("ownerReferences") or ():
            if owner.get("kind") == "Service" and owner.get("uid"):
                self._uids[service] = str(owner["uid"]).encode()

    def _of(self, thing: dict[str, Any], own_port: int) -> Iterator[Sibling]:
        """Yield the other ready pods of a slice, where the Service port is one that leads to `own_port`."""
        name = self._ports.get((_service(thing), own_port))
        if name is None or thing.get("addressType") != self._family or self._family == "FQDN":
            return
        numbers = [port.get("port") for port in thing.get("ports") or () if (port.get("name") or "") == name]
        for row in thing.get("endpoints") or ():
            if self._me.is_target(row.get("targetRef") or {}) or not serves(row.get("conditions") or {}):
                continue
            near = bool(self._zone) and row.get("zone") == self._zone
            for number in numbers:
                if isinstance(number, int) and row.get("addresses"):
                    yield Sibling(str(row["addresses"][0]), number, near)


def _service(thing: dict[str, Any]) -> str:
    return str((thing["metadata"].get("labels") or {}).get(SERVICE_LABEL, ""))
