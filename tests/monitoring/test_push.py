"""At 60 s scrapes, every drain's outcome is in a real Prometheus all the same, once: it was pushed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.application import Application
from tests.monitoring.bridge import Bridge
from tests.monitoring.ends import ENDS, pod_of
from tests.monitoring.prometheus import Prometheus, alerts, needs_prometheus, rules
from tests.support.process import Proxy

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_prometheus

SCRAPE_S = 60
OFTEN = {"__scrape_interval__": "1s", "__scrape_timeout__": "1s"}
"""How one pod is scraped that is seen both ways."""

LOSING = {"cut": 3, "timed-out": 2, "lost": 1, "seen": 1}
"""Workload -> of how many requests the alert tells."""


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_every_outcome_is_there_once_however_seldom_it_is_scraped(tmp_path: Path):
    """Nine ends: of eight, no scrape has seen anything; the ninth was scraped and pushed."""
    async with contextlib.AsyncExitStack() as stack:
        pods: dict[str, Proxy] = {}
        applications: dict[str, Application] = {}
        bridge = await stack.enter_async_context(Bridge())
        for number, (name, (_, settings)) in enumerate(ENDS.items()):
            applications[name] = await stack.enter_async_context(Application())
            pods[name] = await stack.enter_async_context(
                Proxy(
                    upstreams=[applications[name].address],
                    loop=("uvloop", "asyncio")[number % 2],
                    metrics_push=bridge.endpoint,
                    pod_name=pod_of(name),
                    pod_namespace="shop",
                    rbac="none",
                    **settings,
                )
            )
        prometheus = await stack.enter_async_context(
            Prometheus(
                tmp_path,
                {pod_of(name): f"127.0.0.1:{pod.admin[1]}" for name, pod in pods.items()},
                "",
                rules(),
                scrape_s=SCRAPE_S,
                labels={
                    pod_of(name): {"workload": name, **(OFTEN if name == "seen" else {})} for name in pods
                },
            )
        )
        bridge.remote_write = prometheus.remote_write
        reports = await asyncio.gather(
            *(ended(prometheus, name, pods[name], applications[name]) for name in pods)
        )
        told = dict(zip(pods, reports, strict=True))
        await evaluated(prometheus)
        await unseen(prometheus)
        for name, report in told.items():
            await once(prometheus, name, report)
        await told_of(prometheus)


async def ended(prometheus: Prometheus, name: str, proxy: Proxy, upstream: Application) -> dict[str, Any]:
    """Right after its scrape a pod begins to drain: by the next one, a minute later, it is long gone."""
    at_rest = f'drainproxy_phase{{pod="{pod_of(name)}", phase="ready"}} == 1'
    await prometheus.until(at_rest, 2 * SCRAPE_S)
    ending, _ = ENDS[name]
    await ending(proxy, upstream)
    assert await proxy.exit_code() == 0
    complaints = [line for line in proxy.lines if line["event"] == "metrics_push"]
    assert complaints == []
    return await proxy.line("drain_report")


async def evaluated(prometheus: Prometheus) -> None:
    """Every rule has seen all that is there now."""
    recorded = [each["record"] for each in rules()["groups"][0]["rules"] if "record" in each]
    await prometheus.until(f"min(timestamp({recorded[-1]})) > {time.time()}")


async def unseen(prometheus: Prometheus) -> None:
    """No scrape has met a drain, but of the pod that is scraped each second."""
    for counter in ("drain_requests", "drain_tunnels", "propagation_end", "late_requests"):
        rose = f"sum by (workload) (max_over_time(drainproxy_{counter}_total[15m])) > 0"
        assert {series["metric"]["workload"] for series in await prometheus.now(rose)} <= {"seen"}, counter
    (seen,) = await prometheus.now('max_over_time(drainproxy_drain_requests_total{outcome="lost"}[15m]) > 0')
    assert seen["metric"]["workload"] == "seen"


async def once(prometheus: Prometheus, name: str, report: dict[str, Any]) -> None:
    """What the alerts and the dashboard read says what the report says, to the last request."""
    said = await counted(prometheus, "workload:drainproxy_drain_requests:ended10m", name, "outcome")
    expected = {outcome: count for outcome, count in report["requests"].items() if outcome != "late"}
    assert said == expected, name
    tunnels = await counted(prometheus, "workload:drainproxy_drain_tunnels:ended10m", name, "outcome")
    for outcome, count in tunnels.items():
        assert count == sum(tally[outcome] for tally in report["tunnels"].values()), (name, outcome)
    ends = await counted(prometheus, "workload:drainproxy_propagation_end:ended10m", name, "reason")
    assert {reason: count for reason, count in ends.items() if count} == {report["propagation_ended"]: 1}
    late = await counted(prometheus, "workload:drainproxy_late_requests:ended10m", name, "workload")
    assert late[name] >= report["requests"]["late"]


async def counted(prometheus: Prometheus, record: str, workload: str, by: str) -> dict[str, float]:
    """A recorded series of the chart's, by one label, from the first evaluation after all was over."""
    found = await prometheus.now(f'{record}{{workload="{workload}"}}')
    return {series["metric"][by]: float(series["value"][1]) for series in found}


async def told_of(prometheus: Prometheus) -> None:
    """One page a workload that lost something, with the number; none for the others."""
    (rule,) = (each for each in alerts(rules()) if each["alert"] == "DrainproxyRequestsLost")
    found = await prometheus.now(rule["expr"])
    assert {series["metric"]["workload"]: float(series["value"][1]) for series in found} == LOSING
    await prometheus.until('count(ALERTS{alertname="DrainproxyRequestsLost"}) == 4')
    refused_only = await prometheus.now('ALERTS{alertname="DrainproxyRefused"}')
    assert [series["metric"]["workload"] for series in refused_only] == ["refused"]
