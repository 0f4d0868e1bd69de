"""Both wirings end to end, as processes: what the kubelet does to a pod, and what becomes of its callers."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy.proof.outcomes import Kind
from tests.pods.scene import (
    SHORT,
    ending_under_traffic,
    frozen,
    get,
    held,
    only_report,
    released,
    report,
    sidecar,
    traffic,
)
from tests.support.kubelet import wirings
from tests.support.kubelet.kubelet import DRAINPROXY

WIRINGS = {"native": wirings.native, "plain": wirings.plain}


@pytest.mark.parametrize("wiring", WIRINGS)
async def test_a_deleted_pod_answers_whoever_still_comes_and_leaves_by_the_clusters_word(town, wiring):
    """All hooks at once, the data plane half a second late: nothing is lost, and both containers exit 0."""
    pod = await town.run(WIRINGS[wiring](**SHORT))
    async with ending_under_traffic(town, pod):
        pass
    assert [each.exit_code for each in pod.containers] == [0, 0]
    line = only_report(pod)
    assert (line["cause"], line["propagation_ended"]) == ("deletion", "slices_quiet")
    assert line["requests"]["late"] > 0
    app, proxy = pod.container("app"), sidecar(pod)
    # The application outlives the drain; a native sidecar outlives the application.
    assert app.gone_at - pod.ended_at > line["phases_s"]["propagating"]
    assert (proxy.gone_at > app.gone_at) is (wiring == "native")


@pytest.mark.parametrize("wiring", WIRINGS)
async def test_the_application_lives_until_its_last_request_is_answered(town, wiring):
    """A request that is in the application when the pod is deleted gets its answer, however late."""
    pod = await town.run(WIRINGS[wiring](**SHORT))
    asking = await held(pod)
    ending = town.kubelet.delete(pod)
    await sidecar(pod).line("phase", phase="draining")
    assert pod.container("app").running
    assert not (await released(pod, asking)).lost
    await ending
    assert not pod.killed
    assert only_report(pod)["requests"]["finished"] == 1


async def test_a_sigterm_that_comes_five_seconds_late_changes_nothing(town):
    """A plain sidecar learns from the slices that the waiting hook means the pod's end."""
    pod = await town.run(wirings.plain(**SHORT))
    async with ending_under_traffic(town, pod, late_s={"drainproxy": 5.0}):
        await sidecar(pod).line("drain_plan")
        assert sidecar(pod).running
    assert pod.took_s > 5.0
    line = only_report(pod)
    assert line["cause"] == "deletion"


@pytest.mark.parametrize("rbac", ["none"])
async def test_a_sigterm_that_comes_late_without_the_clusters_word(town):
    """The hook is let go after `restart_window`; here SIGTERM comes before, and the drain goes on from it."""
    pod = await town.run(wirings.plain(rbac="none", restart_window="8s", **SHORT))
    async with ending_under_traffic(town, pod, late_s={"drainproxy": 5.0}):
        await sidecar(pod).line("drain_plan")
        assert pod.container("app").running


async def test_a_helper_that_hardly_runs_does_not_cost_a_request(town):
    """`drain --prestop` is kept from running for 3 s; the waiting hook and the slices start the drain."""
    pod = await town.run(wirings.native(**SHORT))
    async with ending_under_traffic(town, pod, stalled_s=3.0):
        await sidecar(pod).line("drain_plan")


async def test_a_proxy_that_hardly_runs_when_the_hooks_come_does_not_cost_a_request(town):
    """Stopped for two seconds at the worst moment: whatever waits for it is served when it runs again."""
    pod = await town.run(wirings.native(**SHORT))
    async with traffic(pod) as calls:
        async with frozen(sidecar(pod)):
            ending = town.kubelet.delete(pod)
            await asyncio.sleep(2.0)
            calls.stop()
        await ending
    assert not calls.lost
    assert not pod.killed


@pytest.mark.parametrize("wiring", WIRINGS)
async def test_an_application_that_restarts_alone_drains_nothing(town, wiring):
    """Its hook is let go after `restart_window`, the proxy stays, and serves when the application is back."""
    pod = await town.run(WIRINGS[wiring](restart_window="1s", **SHORT))
    await town.kubelet.restart(pod, "app")
    await sidecar(pod).line("restart")
    async with asyncio.timeout(20):
        while (await get(pod, "/")).lost:
            await asyncio.sleep(0.05)
    assert sidecar(pod).runs == 1
    assert not sidecar(pod).of("drain_plan")
    await town.kubelet.delete(pod)
    assert not pod.killed
    assert only_report(pod)["cause"] == "deletion"


@pytest.mark.parametrize("wiring", WIRINGS)
async def test_an_application_that_dies_first_holds_nobody_up(town, wiring):
    """It is killed in mid drain with a request in it: the caller is told, and the pod ends at once."""
    pod = await town.run(WIRINGS[wiring](**SHORT))
    asking = await held(pod)
    ending = town.kubelet.delete(pod)
    await sidecar(pod).line("phase", phase="draining")
    pod.container("app").kill()
    # A 502, or the reset that a dying process makes, by which of them is seen first.
    told = await asking
    assert told.status == 502 or told.kind is Kind.RESET
    await ending
    assert not pod.killed
    assert pod.took_s < 15.0


async def test_a_manual_drain_and_then_a_deletion(town):
    """The drain by hand stays; the deletion starts a new clock, and nobody is lost in between."""
    pod = await town.run(wirings.native(**SHORT))
    proxy = sidecar(pod)
    async with traffic(pod) as calls:
        assert await proxy.execute([*DRAINPROXY, "drain"]) == 0
        await asyncio.sleep(0.5)
        calls.stop()
    line = await report(pod)
    assert line["cause"] == "manual"
    assert proxy.running
    await town.kubelet.delete(pod)
    assert not calls.lost
    assert not pod.killed
    assert pod.took_s < 15.0
