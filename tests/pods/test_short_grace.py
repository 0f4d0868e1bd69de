"""`kubectl delete --grace-period=5`, as processes: a grace period that is too short for the settings."""

from __future__ import annotations

import asyncio

import pytest

from tests.pods.scene import ending_under_traffic, get, only_report, sidecar
from tests.support.client import Client
from tests.support.kubelet import wirings

WIRINGS = {"native": wirings.native, "plain": wirings.plain}
GRACE_S = 5
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("rbac", ["slices", "slices+pod"])
async def test_five_seconds_lose_nothing_whether_they_are_known_or_not(town, wiring, rbac):
    """The data plane follows after a second; requests take three; upgrades are let in as long as it sends."""
    if (wiring, rbac) == ("plain", "slices"):
        pytest.skip("SIGKILL comes in the middle of a drain that nobody has told to be short")
    pod = await town.run(WIRINGS[wiring](rbac=rbac))
    before = [asyncio.ensure_future(get(pod, "/slow?seconds=3")) for _ in range(5)]
    async with ending_under_traffic(town, pod, called_for_s=1.0, grace_s=GRACE_S):
        await sidecar(pod).line("phase", phase="propagating")
        after = [asyncio.ensure_future(get(pod, "/slow?seconds=3")) for _ in range(5)]
        async with await Client.connect((pod.ip, wirings.TRAFFIC_PORT)) as client:
            await client.send(UPGRADE)
            assert (await client.read_response()).start.startswith(b"HTTP/1.1 101")
    assert not [each for each in await asyncio.gather(*before, *after) if each.lost]
    line = only_report(pod)
    assert [line["requests"][outcome] for outcome in ("timed_out", "cut", "refused", "lost")] == [0, 0, 0, 0]
    assert [each.exit_code for each in pod.containers] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("rbac", ["slices+pod"])
async def test_requests_as_long_as_the_grace_period_are_finished_beside_a_native_sidecar(town):
    """The application is told to stop in time, and the kubelet gives it two seconds."""
    pod = await town.run(wirings.native(rbac="slices+pod"))
    before = [asyncio.ensure_future(get(pod, f"/slow?seconds={GRACE_S}")) for _ in range(5)]
    async with ending_under_traffic(town, pod, grace_s=GRACE_S):
        await sidecar(pod).line("phase", phase="propagating")
        before += [asyncio.ensure_future(get(pod, f"/slow?seconds={GRACE_S}")) for _ in range(5)]
    assert not [each for each in await asyncio.gather(*before) if each.lost]
    assert (await sidecar(pod).line("drain_plan", grace_s=GRACE_S))["cause"] == "deletion"
    assert [each.exit_code for each in pod.containers] == [0, 0]
    assert not pod.killed


@pytest.mark.slow
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("rbac", ["slices+pod"])
async def test_what_does_not_end_is_cut_and_the_exit_is_0_though_a_scrape_is_due(town, wiring):
    """A request that never ends, and a Prometheus that comes every two seconds: no SIGKILL for either."""
    pod = await town.run(WIRINGS[wiring](rbac="slices+pod"))
    for _ in range(2):
        assert not (await get(pod, "/metrics", wirings.ADMIN_PORT)).lost
        await asyncio.sleep(2.0)
    stuck = asyncio.ensure_future(get(pod, "/gate/one"))
    assert not (await get(pod, "/gate/one/entered", wirings.APP_PORT)).lost
    await town.kubelet.delete(pod, grace_s=GRACE_S)
    assert (await stuck).lost
    assert sidecar(pod).exit_code == 0
    assert "drainproxy" not in pod.killed
    assert only_report(pod)["requests"]["timed_out"] == 1
