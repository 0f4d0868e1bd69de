"""Pods whose successor starts only once they are gone, as processes: nothing waits behind the last answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.pods.scene import get, held, only_report, released, sidecar, traffic
from tests.support.kubelet import wirings
from tests.support.kubelet.cluster import Cluster, cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WIRINGS = {"native": wirings.native, "plain": wirings.plain}
OWNER = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s-1", "controller": True}


@pytest.fixture
async def alone() -> AsyncIterator[Cluster]:
    """A cluster without another pod of the Service."""
    async with cluster(rbac="slices+pod") as town:
        yield town


def of_a_stateful_set(wiring: str, **settings: str) -> dict:
    """Return a pod of one, with what nobody has shortened for the test."""
    manifest = WIRINGS[wiring](rbac="slices+pod", **settings)
    manifest["metadata"]["ownerReferences"] = [OWNER]
    return manifest


@pytest.mark.slow
@pytest.mark.parametrize("wiring", WIRINGS)
async def test_a_stateful_set_of_one_leaves_as_soon_as_its_work_is_done(alone, wiring):
    """No propagation, no refusals from second 21 on, no scrape: the outage is as long as without us."""
    pod = await alone.run(of_a_stateful_set(wiring))
    await sidecar(pod).line("cluster", successor_waits=True)
    for _ in range(2):
        assert not (await get(pod, "/metrics", wirings.ADMIN_PORT)).lost
        await asyncio.sleep(2.0)
    asking = await held(pod)
    async with traffic(pod) as calls:
        ending = alone.kubelet.delete(pod)
        await sidecar(pod).line("phase", phase="draining")
        came = len(calls.outcomes)
        # Whoever comes is served as long as somebody is waited for anyway.
        async with asyncio.timeout(10):
            while len(calls.outcomes) < came + 30:
                await asyncio.sleep(0.02)
        assert not calls.lost
        calls.stop()
        assert not (await released(pod, asking)).lost
        loop = asyncio.get_running_loop()
        answered_at = loop.time()
        await ending
    # A grace period has 30 s, and a last scrape 15.
    assert pod.gone_at - answered_at < 12.0
    assert not pod.killed
    assert [each.exit_code for each in pod.containers] == [0, 0]
    line = only_report(pod)
    assert (line["cause"], line["propagation_ended"]) == ("deletion", "alone")
    assert not sidecar(pod).of("last_scrape")
    assert "leave early" in sidecar(pod).of("drain_plan")[-1]["plan"]
