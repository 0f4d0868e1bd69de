"""Warning Events of a good pod: none from its start, and from its end only those that are meant."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from drainproxy.admin.server import START_HOLD_S
from tests.pods.scene import SHORT, report, sidecar
from tests.support.cluster.resources import EVENTS
from tests.support.kubelet import wirings

if TYPE_CHECKING:
    from tests.support.kubelet.cluster import Cluster
    from tests.support.kubelet.kubelet import Pod

TRIES = 5
LONGER = {**SHORT, "propagation_margin": "6s", "propagation_max": "15s"}
"""Longer than the period of the readiness probe, so that there is one in the drain."""


def warnings(town: Cluster, pod: Pod) -> list[str]:
    """What the kubelet has written about failing probes of the pod."""
    events = town.api.store.list(EVENTS, pod.namespace, cached=False)[1]
    return [
        each["note"]
        for each in events
        if each["reason"] == "Unhealthy" and each["regarding"]["name"] == pod.name
    ]


def seconds_between(first: dict, second: dict) -> float:
    """How long after one line of a log another was written."""
    one, other = (datetime.fromisoformat(line["time"]) for line in (first, second))
    return (other - one).total_seconds()


async def test_a_pod_that_starts_quickly_warns_nobody(town):
    """A native sidecar is there before its application, by Kubernetes' order; its probe waits for it."""
    for _ in range(TRIES):
        pod = await town.run(wirings.native(**SHORT))
        listening = await sidecar(pod).line("listening", listener="admin")
        waited_s = seconds_between(listening, await sidecar(pod).line("phase", phase="ready"))
        said = warnings(town, pod)
        await town.kubelet.delete(pod)
        if waited_s < START_HOLD_S - 0.5:
            assert said == []
            return
    pytest.skip("no application has started within a probe's patience on this machine")


async def test_a_pod_that_leaves_says_so_by_its_readiness(town):
    """It is how a cluster hears of a restart: 503 from `/readyz`, at the probe's period, and nothing else."""
    # One that is alone on its node is ready again: kube-proxy falls back to it there.
    await town.run(wirings.native(**SHORT))
    pod = await town.run(wirings.native(**LONGER))
    before = len(warnings(town, pod))
    await town.kubelet.delete(pod)
    assert (await report(pod))["cause"] == "deletion"
    said = warnings(town, pod)[before:]
    assert said
    assert set(said) == {"Readiness probe failed: HTTP probe failed with statuscode: 503"}
