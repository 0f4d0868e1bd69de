"""Why does this pod end, and how long has it? From its own object, and from the kubelet's silence.

A pod that was deleted has a deletionTimestamp and the grace period that was really given. One that has none
and is still probed had a container restarted; one that is no longer probed is stopped by its kubelet (node
shutdown, pressure), which tells the cluster nothing (Kubernetes #116965). Called by cluster.py.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.kube.client import Api
from drainproxy.kube.identity import PodIdentity
from drainproxy.kube.rate_limit import RateLimit
from drainproxy.lifecycle.arrival_rate import Probes
from drainproxy.lifecycle.report import Cause

READ_AGAIN_S = 1.0
"""A container may be told to stop before the API server's caches show the deletion."""

TRIES = 3

STALE_PROBE_S = 0.5
"""A probe this soon after the drain began was on its way before."""

SILENCE = 1.25
"""Probe intervals without a probe, and then half a second: it would have come."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What the API says of the pod; seconds."""

    deleting: bool
    grace_s: float | None
    """Really given where it is being deleted, else what its spec says."""
    spec: Mapping[str, Any]
    owner: str = ""
    """The kind of its controller; empty for none."""


SUCCESSOR_WAITS = frozenset(("StatefulSet",))
"""Controllers that make a pod's successor only once the pod is gone: it has the same name. A Deployment with
strategy Recreate does so too, and nothing of the pod tells: its pods stay, as others do that serve alone."""


def read(thing: Mapping[str, Any], me: PodIdentity) -> PodFacts:
    """Return what a Pod says. Raises ValueError for another pod of that name."""
    metadata, spec = thing["metadata"], thing["spec"]
    if me.uid and metadata.get("uid") != me.uid:
        raise ValueError("another pod has this one's name")
    deleting = metadata.get("deletionTimestamp") is not None
    grace = (
        metadata.get("deletionGracePeriodSeconds") if deleting else spec.get("terminationGracePeriodSeconds")
    )
    owners = metadata.get("ownerReferences") or ()
    owner = next((str(each.get("kind", "")) for each in owners if each.get("controller") is True), "")
    return PodFacts(deleting, None if grace is None else float(grace), spec, owner)


async def ask(api: Api, me: PodIdentity, pace: RateLimit) -> PodFacts:
    """Read this pod. Raises KubernetesError."""
    await pace.turn()
    path = f"/api/v1/namespaces/{me.namespace}/pods/{me.name}"
    return await api.get(path, lambda thing: read(thing, me))


async def ask_twice(api: Api, me: PodIdentity, pace: RateLimit) -> PodFacts:
    """Read this pod, again after a moment if it is not being deleted. Raises KubernetesError after TRIES."""
    facts = await _try(api, me, pace)
    if not facts.deleting:
        await asyncio.sleep(READ_AGAIN_S)
        facts = await _try(api, me, pace)
    return facts


async def infer_cause(probes: Probes, began: float) -> Cause:
    """Return why a drain began at loop time `began`, of a pod that nobody deletes. Waits for a probe.

    UNKNOWN where the kubelet has not probed twice before.
    """
    if probes.interval_s is None or probes.last is None:
        return Cause.UNKNOWN
    silent_at = max(probes.last, began) + SILENCE * probes.interval_s + STALE_PROBE_S
    await asyncio.sleep(silent_at - asyncio.get_running_loop().time())
    return Cause.RESTART if probes.last > began + STALE_PROBE_S else Cause.NODE_SHUTDOWN


async def _try(api: Api, me: PodIdentity, pace: RateLimit) -> PodFacts:
    for _ in range(TRIES - 1):
        try:
            return await ask(api, me, pace)
        except KubernetesError as error:
            if error.reason == "denied":
                raise
            pace.failed(error.retry_after_s)
    return await ask(api, me, pace)
