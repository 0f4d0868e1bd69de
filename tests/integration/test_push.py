"""What a collector gets of a drain, from a process that is gone by then: taken by a real OTLP receiver."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.scene import OK, get, held
from tests.support.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.application import Application
    from tests.integration.scene import Start
    from tests.support.process import Proxy

POD = {"pod_name": "till-6d5f7b9c8d-x2x4z", "pod_namespace": "shop", "node_name": "node-7", "rbac": "none"}
LABELS = {"pod": "till-6d5f7b9c8d-x2x4z", "namespace": "shop", "node": "node-7", "workload": "till"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes every point."""
    async with Receiver() as receiver:
        yield receiver


def final(receiver: Receiver) -> dict[tuple[str, ...], float]:
    """What came, by name and the labels that are not the pod's."""
    said = {}
    for point in receiver.points:
        more = sorted(text for name, text in point["labels"].items() if name not in LABELS)
        said[point["point"].removeprefix("drainproxy_final_"), *more] = point["value"]
    assert len(said) == len(receiver.points), "a series came twice"
    return said


def complaints(proxy: Proxy) -> list[dict[str, Any]]:
    return [line for line in proxy.lines if line["event"] == "metrics_push"]


async def test_a_drains_outcome_reaches_the_collector_before_the_exit(
    start: Start, upstream: Application, receiver: Receiver
):
    """With the numbers of the report, and with the names of pod, namespace, node and workload on each."""
    proxy = await start(upstream, metrics_push=receiver.metrics, **POD)
    began_ns = time.time_ns()
    client, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    assert receiver.points == []
    await application.send(OK)
    assert (await client.final()).status == 200
    client.close()
    assert await proxy.exit_code() == 0
    await receiver.point()
    said, report = final(receiver), await proxy.line("drain_report")
    assert [said["drain_requests", name] for name in ("finished", "cut", "lost", "refused", "timed_out")] == [
        1, 0, 0, 0, 0,
    ]  # fmt: skip
    assert said["drain_tunnels", "told_to_leave"] == 0
    assert said["propagation_end", report["propagation_ended"]] == 1
    assert said["termination_cause_info", report["cause"]] == 1
    assert {name for name, *_ in said} == {
        "drain_requests", "drain_tunnels", "late_requests", "after_drained", "last_late_seconds",
        "endpoint_flip_seconds", "drain_longest_request_seconds", "drain_unused_seconds", "propagation_end",
        "termination_cause_info", "phase_duration_seconds",
    }  # fmt: skip
    assert said["drain_unused_seconds",] == pytest.approx(report["unused_s"], abs=0.001)
    for phase, seconds in report["phases_s"].items():
        # A phase is over a moment after the report is made of it; one that took no time is not told.
        assert said.get(("phase_duration_seconds", phase), 0) >= seconds - 0.001
    for point in receiver.points:
        assert point["labels"].items() >= LABELS.items()
        assert point["at_ns"] > began_ns
        resource = point["resource"]
        assert resource["service.name"] == "drainproxy"
        assert resource["service.instance.id"]
        assert [resource[f"k8s.{name}.name"] for name in ("pod", "namespace", "node")] == [
            LABELS["pod"], "shop", "node-7",
        ]  # fmt: skip
        assert resource["drainproxy.workload"] == "till"
    assert complaints(proxy) == []


async def test_what_the_deadline_cut_is_pushed_too(start: Start, upstream: Application, receiver: Receiver):
    """No scrape is waited for past a deadline: these are the numbers that one misses most."""
    sums = {"grace_period": "12s", "app_stop": "100ms", "reserve": "10s", "leave_spread": "0s"}
    proxy = await start(upstream, metrics_push=receiver.metrics, **sums, **POD)
    client, _ = await held(proxy, upstream, get("/forever"))
    proxy.signal()
    assert await proxy.exit_code() == 0
    client.close()
    await receiver.point()
    said = final(receiver)
    assert said["drain_requests", "cut"] + said["drain_requests", "timed_out"] == 1
    assert said["drain_unused_seconds",] == 0
    assert complaints(proxy) == []


async def test_a_collector_that_hangs_keeps_nobody_longer_than_half_of_the_reserve(
    start: Start, upstream: Application, receiver: Receiver
):
    """And the one line says so."""
    await receiver.answer("wait")
    proxy = await start(upstream, metrics_push=receiver.metrics, reserve="1s")
    proxy.signal()
    assert await proxy.exit_code() == 0
    (line,) = complaints(proxy)
    assert line["level"] == "warning"
    assert line["failure"]
    assert receiver.points == []


@pytest.mark.parametrize("how", ["400", "503", "gone"])
async def test_a_collector_that_does_not_take_it_costs_one_line(
    start: Start, upstream: Application, receiver: Receiver, how: str
):
    """The library's own words are in it and nowhere else; the exit code is that of a drain that was good."""
    place = receiver.metrics
    if how == "gone":
        await receiver.end()
    else:
        await receiver.answer(how)
    proxy = await start(upstream, metrics_push=place, reserve="1s")
    proxy.signal()
    assert await proxy.exit_code() == 0
    (line,) = complaints(proxy)
    assert len(line["failure"]) > len("not taken")
