"""What would it cost to delete this pod? Told to the ReplicaSet controller, so that idle pods go first.

The annotation `controller.kubernetes.io/pod-deletion-cost` has a few classes by how much long-lived work the
pod has; who scales down deletes the lowest first (Kubernetes: ReplicaSet, Pod deletion cost, which asks to
write it seldom). Nothing is written while a drain runs, nor over what somebody else has written. Called by
cluster.py, with the tier that has `pod-cost`.
"""

import asyncio
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.kube.client import MANAGER, Api
from drainproxy.kube.identity import PodIdentity
from drainproxy.kube.owners import controller
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.log import Log
from drainproxy.tasks import next_tick, sleep_until

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"

LONG_S = 30.0
"""Work that has lasted for so long is what a deletion would disturb: a WebSocket, a stream, a long request.
Everything younger ends by itself in a drain."""

LOOK_S = 30.0
"""How often it is counted, at a tick at which the process wakes anyway."""

INTERVAL_S = 300.0
"""Between two writes, or attempts, at least: each one goes through etcd to everybody who watches pods."""

SPREAD = 0.2
"""Of INTERVAL_S, by which pods that began together drift apart; before the first attempt it is all of it."""

LOOKS = round(INTERVAL_S / LOOK_S)
"""A class falls once all of so many looks were below it: a pod between two callers is not idle."""

STEPS = (1, 10, 100, 1000)
"""From so many pieces of long-lived work on, the class is higher; so few that it seldom changes."""

COSTS = (0, *STEPS)
"""By class. 0 is also what a pod without the annotation has."""

SCALES_BY_COST = "ReplicaSet"
"""Whose controller heeds it (KEP-2255): a StatefulSet goes by ordinals, a DaemonSet by nodes."""


class NotOurs(Exception):
    """The annotation must not, or need not, be written by us; says why."""


@dataclass(eq=False)
class PodCost:
    """Single writer: the one task that runs `run`. Survives a drain that is taken back."""

    me: PodIdentity
    inflight: InFlight
    asking: Callable[[Callable[[Api], Awaitable[None]]], Awaitable[None]]
    """Opens a session for a question; says what goes wrong with it, and never raises KubernetesError."""
    complain: Callable[[str, KubernetesError], None]
    log: Log
    state: str = field(default="waits", init=False)
    """For /status: waits, written, denied, or why it is not written."""
    reviewed: bool = field(default=False, init=False)
    """It was asked whether we may, if it could be: nothing is tried before."""
    written: int | None = field(default=None, init=False)
    """What the pod has; None: not known."""
    _over: bool = field(default=False, init=False)
    _not_before: float | None = field(default=None, init=False)
    _seen: deque[int] = field(default_factory=lambda: deque(maxlen=LOOKS), init=False)

    @property
    def cost(self) -> int:
        """What the pod should have: the highest of the last looks."""
        return max(self._seen, default=0)

    def status(self) -> dict[str, Any]:
        """What /status shows."""
        return {"cost": self.cost, "written": self.written, "state": self.state}

    def stop(self, why: str) -> None:
        """Write nothing any more as long as this process lives; `why` for /status."""
        self._over = True
        self.state = why

    async def run(self) -> None:
        """Look now and then, and write when the class has changed and its time has come."""
        loop = asyncio.get_running_loop()
        if self._not_before is None:
            # A rollout starts thousands of them at once.
            self._not_before = loop.time() + INTERVAL_S * random.random()  # noqa: S311 - jitter
        while not self._over:
            await sleep_until(next_tick(LOOK_S))
            self._seen.append(COSTS[bisect_right(STEPS, self.inflight.older_than(loop.time() - LONG_S))])
            known = self.written is not None and not self._differs(self.written)
            if known or not self.reviewed or loop.time() < self._not_before:
                continue
            # Whatever comes of it: a failure is not repeated sooner than a success.
            pause_s = INTERVAL_S * random.uniform(1.0, 1.0 + SPREAD)  # noqa: S311 - jitter
            self._not_before = loop.time() + pause_s
            await self.asking(self._bring_up_to_date)

    async def _bring_up_to_date(self, api: Api) -> None:
        """Read what the pod has, and change it if it is ours to change."""
        path, cost = f"/api/v1/namespaces/{self.me.namespace}/pods/{self.me.name}", self.cost
        # A drain may stop us between a request and its answer: then nobody knows.
        self.written = None
        try:
            has = await api.get(path, lambda pod: _cost_of(pod, self.me))
            if self._differs(has):
                has = await api.patch(path, self._change(cost), lambda pod: _cost_of(pod, self.me))
        except NotOurs as reason:
            self.stop(str(reason))
        except KubernetesError as error:
            self._failed(error)
            return
        else:
            self.written, self.state = has, "written"
        self.log.event("pod_cost", cost=cost, state=self.state)

    def _differs(self, has: int) -> bool:
        """Tell whether a cost is to be changed: raised at once, lowered after enough looks."""
        return has < self.cost or (has > self.cost and len(self._seen) == LOOKS)

    def _change(self, cost: int) -> dict[str, Any]:
        """Return the merge patch (RFC 7396). With a UID, another pod of that name answers 409."""
        about: dict[str, Any] = {"annotations": {ANNOTATION: str(cost)}}
        return {"metadata": about | ({"uid": self.me.uid} if self.me.uid else {})}

    def _failed(self, error: KubernetesError) -> None:
        self.state = error.reason
        if error.reason == "denied":
            self.stop("denied")
        if error.retry_after_s is not None:
            assert self._not_before is not None
            earliest = asyncio.get_running_loop().time() + error.retry_after_s
            self._not_before = max(self._not_before, earliest)
        self.complain("pod-cost", error)


def _cost_of(pod: Mapping[str, Any], me: PodIdentity) -> int:
    """Return the cost that a pod has. Raises NotOurs; ValueError for another pod of that name."""
    metadata = pod["metadata"]
    if me.uid and metadata.get("uid") != me.uid:
        raise ValueError("another pod has this one's name")
    if metadata.get("deletionTimestamp") is not None:
        raise NotOurs("the pod is being deleted")
    owner = controller(pod)
    kind = "nobody" if owner is None else str(owner.get("kind"))
    if kind != SCALES_BY_COST:
        raise NotOurs(f"only a ReplicaSet's controller heeds it, and the pod's is {kind}")
    written = (metadata.get("annotations") or {}).get(ANNOTATION)
    if written is None:
        return 0
    if not any(_is_ours(entry) for entry in metadata.get("managedFields") or ()):
        raise NotOurs("somebody else writes it")
    return int(written)


def _is_ours(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry of managedFields says that we wrote the annotation (FieldsV1)."""
    fields = entry.get("fieldsV1") or {}
    annotations = (fields.get("f:metadata") or {}).get("f:annotations") or {}
    return entry.get("manager") == MANAGER and f"f:{ANNOTATION}" in annotations
