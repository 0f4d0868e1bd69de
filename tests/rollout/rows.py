"""The rows of the table: ways to wire a pod, and what calls it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from drainproxy.proof.client import Request
from drainproxy.proof.demo.crowd import Role
from tests.rollout import mesh
from tests.support.kubelet import wirings

Manifest = dict[str, Any]

TUNNELS = importlib.util.find_spec("drainproxy.proxy.relay.tunnel") is not None
"""Whether this drainproxy passes WebSockets through."""

_HOST = "shop.example"
_HELLO = Request(method="GET", path="/", host=_HOST)
_ORDER = Request(method="POST", path="/orders", host=_HOST, parts=(b"one ", b"two ", b"three"), pause_s=0.01)
_SLOW = Request(method="GET", path="/slow?seconds=0.8", host=_HOST)

BUSY = (
    # 68 new connections a second for three pods, and 116 requests on kept ones.
    Role("GET, new connection", 6, 0.1, keep_alive=False, request=_HELLO),
    Role("GET, kept connection", 10, 0.1, keep_alive=True, request=_HELLO),
    Role("chunked POST, new connection", 1, 0.125, keep_alive=False, request=_ORDER),
    Role("chunked POST, kept connection", 2, 0.125, keep_alive=True, request=_ORDER),
    Role("0.8 s to answer", 3, 0.25, keep_alive=False, request=_SLOW),
)
SPARSE = (Role("a connection in 3 s", 1, 3.0, keep_alive=False, request=_HELLO),)


@dataclass(frozen=True, slots=True)
class Row:
    """One row."""

    name: str
    manifest: Manifest
    judged: bool = True
    """It is drainproxy's: nothing may be lost."""
    rbac: str = "slices"
    port: int = wirings.TRAFFIC_PORT
    replicas: int = 3
    new_first: bool = True
    """A rollout's order; without it the old pod is deleted first, as `kubectl delete pod` does."""
    cast: tuple[Role, ...] = BUSY
    streams: int = 0
    sockets: int = 0
    readers: int = 0
    """Of answers that come token by token, in answer to a POST."""
    probers: int = 0
    """Balancers that probe each pod every 5 s."""

    @property
    def counted(self) -> bool:
        """Its requests must be many."""
        return self.judged and len(self.cast) > 1

    @property
    def service(self) -> str:
        """Its name as a Service has it."""
        return "".join(c if c.isalnum() else "-" for c in self.name)


_API = {"propagation": "cluster", "rbac": "slices"}
_MESH = {"propagation": "mesh", "rbac": "slices", "grace_period": "45s"}


def _with_grace(manifest: Manifest, seconds: int) -> Manifest:
    return {**manifest, "spec": {**manifest["spec"], "terminationGracePeriodSeconds": seconds}}


def _mesh() -> Manifest:
    return _with_grace(wirings.native(before=(mesh.container(),), **_MESH), 45)


BARE = Row("bare", wirings.bare(), judged=False, port=wirings.APP_PORT)
SLEEP_15 = Row("sleep 15", wirings.bare(sleep_s=15), judged=False, port=wirings.APP_PORT)
WITH_API = Row("drainproxy", wirings.native(**_API))
STREAMS = Row("streams", wirings.native(**_API), streams=6, sockets=6 if TUNNELS else 0, readers=4)
WITHOUT_API = Row("no API", wirings.plain(propagation="cluster", rbac="none"), rbac="none")
SINGLE = Row("single", wirings.native(**_API), replicas=1, new_first=False)
SPARSELY = Row("sparse", wirings.native(**_API), cast=SPARSE)
PROBERS = Row("probers", wirings.native(health_paths="/healthz", **_API), probers=3)
IDLE = Row("idle", wirings.native(**_API), cast=())

ROWS = (
    BARE,
    Row("sleep 5", wirings.bare(sleep_s=5), judged=False, port=wirings.APP_PORT),
    SLEEP_15,
    WITH_API,
    STREAMS,
    WITHOUT_API,
    Row("mesh", _mesh(), port=mesh.INBOUND_PORT),
    SINGLE,
    PROBERS,
    SPARSELY,
    IDLE,
)
"""All rows in the table's order."""

QUICK = (BARE, WITH_API, WITHOUT_API)
"""For the suite."""
