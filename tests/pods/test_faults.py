"""Whatever is wrong with the API server, callers never notice: traffic through a pod's end under each fault.

What the proxy makes of each answer is tests/kube's; here nothing may be lost, and nobody may be in the way.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.pods.scene import SHORT, ending_under_traffic, only_report, sidecar, traffic
from tests.support.cluster import faults
from tests.support.cluster.door import Mode
from tests.support.cluster.journal import now
from tests.support.cluster.objects import foreign_slices
from tests.support.cluster.resources import SLICES
from tests.support.kubelet import wirings

BURST = 5
"""Requests that may come at once (docs/kubernetes.md); then one a second."""

ANSWERS = {
    "401": faults.unauthorized(),
    "403": faults.forbidden(),
    "410": faults.gone(),
    "429": faults.throttled(1),
    "500": faults.broken(),
    "a page": faults.html(),
    "half a list": faults.not_json(),
    "a hang": faults.hang(),
    "a hang after the head": faults.hang_after_head(),
    "a reset": faults.disconnect(),
}


async def end_under_traffic(town, pod) -> float:
    """Delete the pod, call it for half a second more; nothing may be lost. Return when that was."""
    async with ending_under_traffic(town, pod) as calls:
        began = now()
    assert len(calls.outcomes) > 30
    requests = len(town.api.journal.since(began))
    assert requests <= BURST + pod.took_s + 1.0, f"{requests} requests in {pod.took_s:.1f} s"
    return began


@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_api_server_that_answers_badly(town, answer):
    """From before the end on, for every request: the drain goes by time and quiet, and says it once."""
    pod = await town.run(wirings.native(**SHORT))
    with town.api.faults.on(ANSWERS[answer]):
        await end_under_traffic(town, pod)
    assert only_report(pod)["propagation_ended"] == "quiet"
    said = [(line["asked"], line["reason"]) for line in sidecar(pod).of("kubernetes_api")]
    assert len(said) == len(set(said))


@pytest.mark.parametrize("mode", [Mode.REFUSING, Mode.RESETTING, Mode.BLACKHOLE, Mode.DROPPING])
async def test_an_api_server_that_is_not_reached(town, mode):
    """The same, where no connection leads anywhere; a pod starts and serves without it too."""
    town.api.door.mode = mode
    pod = await town.run(wirings.native(**SHORT))
    await sidecar(pod).line("kubernetes_api")
    await end_under_traffic(town, pod)
    assert only_report(pod)["propagation_ended"] == "quiet"
    said = [(line["asked"], line["reason"]) for line in sidecar(pod).of("kubernetes_api")]
    # Once while it starts, once while it drains.
    assert max(said.count(each) for each in said) <= 2


WATCHES = {
    "410 in the stream": faults.watch(expired_after=0),
    "an early end": faults.watch(empty=True),
    "a cut": faults.watch(cut_after=0),
    "an older state after each": faults.watch(echo=True),
}


@pytest.mark.parametrize("watch", WATCHES)
async def test_a_watch_that_goes_wrong(town, watch):
    """Again and again: the slices' word is found all the same, or "ready" is the last one, or none."""
    pod = await town.run(wirings.native(**SHORT))
    with town.api.faults.on(WATCHES[watch], verb="watch"):
        await end_under_traffic(town, pod)
    assert only_report(pod)["propagation_ended"] in {"slices_quiet", "quiet", "max"}


async def test_a_crowded_namespace(town):
    """20,000 rows of other Services: they are read past while traffic goes on."""
    for thing in foreign_slices(20_000, namespace="default"):
        town.api.store.put(SLICES, thing)
    # The server is in the callers' process, which is silent while it writes five megabytes.
    patient = {"propagation_min": "6s", "propagation_quiet": "3s", "sparse_min": "6s"}
    pod = await town.run(wirings.native(**{**SHORT, **patient}))
    await end_under_traffic(town, pod)
    assert only_report(pod)["propagation_ended"] == "slices_quiet"


async def test_a_token_that_was_rotated(town):
    """The server knows only the new token, and the file has it: the slices' word is found."""
    pod = await town.run(wirings.native(**SHORT))
    town.account.rotate("second-token")
    await end_under_traffic(town, pod)
    assert only_report(pod)["propagation_ended"] == "slices_quiet"


async def test_nothing_is_asked_while_serving(town):
    """Once the first look is over, traffic causes no request to the API server."""
    pod = await town.run(wirings.native(**SHORT))
    await sidecar(pod).line("cluster")
    began = now()
    async with traffic(pod, enough=300):
        pass
    assert town.api.journal.since(began) == []


@pytest.mark.slow
@pytest.mark.parametrize("rbac", ["slices+pod"])
async def test_a_node_that_shuts_down(town):
    """Nobody tells the cluster, no probe asks: the cause is found; the row reads ready, and holds to max."""
    pod = await town.run(wirings.native(rbac="slices+pod", **{**SHORT, "propagation_min": "4s"}))
    async with traffic(pod) as calls:
        # Two probes, so that their interval is known.
        await asyncio.sleep(5.5)
        ending = town.kubelet.shut_node_down(pod, 15.0)
        await asyncio.sleep(0.5)
        calls.stop()
        await ending
    assert not calls.lost
    assert not pod.killed
    assert only_report(pod)["propagation_ended"] == "max"
