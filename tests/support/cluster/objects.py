"""Objects as the control plane writes them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.cluster.resources import PODS, SLICES
from tests.support.cluster.store import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.cluster.store import Object, Store

SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(slots=True)
class Endpoint:
    """One row of a slice. None is a condition that the controller left out."""

    pod: str
    uid: str
    address: str = "127.0.0.1"
    ready: bool | None = True
    serving: bool | None = True
    terminating: bool | None = False
    node: str = "node-1"
    zone: str = ""

    def row(self, namespace: str) -> Object:
        """Return it as it stands in a slice."""
        conditions = {"ready": self.ready, "serving": self.serving, "terminating": self.terminating}
        return {
            "addresses": [self.address],
            "conditions": {name: value for name, value in conditions.items() if value is not None},
            "nodeName": self.node,
            **({"zone": self.zone} if self.zone else {}),
            "targetRef": {"kind": "Pod", "name": self.pod, "namespace": namespace, "uid": self.uid},
        }


def endpoint_slice(
    name: str,
    endpoints: Iterable[Endpoint],
    *,
    service: str = "web",
    namespace: str = "shop",
    port: int = 28080,
    family: str = "IPv4",
) -> Object:
    """Return a slice of a Service."""
    return {
        "metadata": {
            "name": name,
            "generateName": f"{service}-",
            "namespace": namespace,
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Service", "name": service, "uid": f"uid-of-{service}"}
            ],
            "labels": {
                SERVICE_LABEL: service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": family,
        "endpoints": [each.row(namespace) for each in endpoints],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }


def pod(
    name: str,
    uid: str,
    *,
    namespace: str = "shop",
    grace_s: int = 30,
    node: str = "node-1",
    spec: dict[str, Any] | None = None,
) -> Object:
    """Return a running pod."""
    return {
        "metadata": {"name": name, "uid": uid, "namespace": namespace, "labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": grace_s,
            "nodeName": node,
            "containers": [],
            **(spec or {}),
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def foreign_slices(rows: int, *, namespace: str = "shop", per_slice: int = 100) -> list[Object]:
    """Return slices of other Services, with so many rows in all."""
    made = []
    for number in range(0, rows, per_slice):
        service = f"other-{number // per_slice}"
        pods = range(number, min(rows, number + per_slice))
        endpoints = [
            Endpoint(f"{service}-{each:x}", _uid(each), f"10.{each >> 16}.{each >> 8 & 255}.{each & 255}")
            for each in pods
        ]
        made.append(endpoint_slice(f"{service}-abcde", endpoints, service=service, namespace=namespace))
    return made


def _uid(number: int) -> str:
    return str(uuid.UUID(int=number))


@dataclass(slots=True)
class Membership:
    """A pod and its rows in the store: what the endpoints controller and the API server write about it."""

    store: Store
    name: str = "web-1"
    uid: str = "0b1e6f0a-0000-4000-8000-000000000001"
    namespace: str = "shop"
    slices: tuple[str, ...] = ("web-abcde",)
    others: list[Endpoint] = field(default_factory=list)
    """Further rows of each slice."""

    def appear(self, *, grace_s: int = 30, spec: dict[str, Any] | None = None) -> None:
        """Be a running, ready pod."""
        self.store.put(PODS, pod(self.name, self.uid, namespace=self.namespace, grace_s=grace_s, spec=spec))
        self.write()

    def write(self, *, ready: bool | None = True, serving: bool = True, terminating: bool = False) -> None:
        """Write the own row into each slice."""
        row = Endpoint(self.name, self.uid, ready=ready, serving=serving, terminating=terminating)
        self._write([row, *self.others])

    def delete(self, *, grace_s: int = 30) -> None:
        """Set deletionTimestamp, as `kubectl delete` does; rows are `flip`'s business."""
        thing = self.store.get(PODS, self.namespace, self.name)
        assert thing is not None
        metadata = {
            **thing["metadata"],
            "deletionTimestamp": timestamp(),
            "deletionGracePeriodSeconds": grace_s,
        }
        self.store.put(PODS, {**thing, "metadata": metadata})

    def flip(self, *, serving: bool = True) -> None:
        """Let the rows follow the deletion: no longer ready, terminating."""
        self.write(ready=False, serving=serving, terminating=True)

    def vanish(self) -> None:
        """Take the rows away."""
        self._write(self.others)

    def _write(self, endpoints: list[Endpoint]) -> None:
        for name in self.slices:
            self.store.put(SLICES, endpoint_slice(name, endpoints, namespace=self.namespace))
