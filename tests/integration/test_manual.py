"""A drain that a person begins, and may take back: `drainproxy drain` and `undrain`."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.application import Application
from tests.integration.scene import (
    OK,
    OK_CLOSE,
    command,
    entered,
    events,
    get,
    held,
    on_one_loop,
    report,
    undated,
    waiting_hook,
)
from tests.support.upstream import answering

LONG = {"propagation": "cluster", "propagation_min": "10s", "propagation_max": "15s"}
"""Propagation outlasts every test."""


@on_one_loop
async def test_a_manual_drain_can_be_taken_back(start, upstream):
    """As if nothing had been: ready, kept connections, no deadline, hooks answered."""
    proxy = await start(upstream, **LONG)
    client, application = await held(proxy, upstream)
    assert await command(proxy, "drain") == (0, "propagating, waits for min, without the cluster's word")
    assert (await proxy.get("/readyz")).status == 503
    hook = await waiting_hook(proxy)
    late, other = await held(proxy, upstream)
    await other.send(OK_CLOSE)
    assert (await late.final()).raw == OK_CLOSE
    late.close()
    assert await command(proxy, "undrain") == (0, "ready")
    assert await hook == "not draining"
    assert (await proxy.get("/readyz")).status == 200
    await application.send(OK_CLOSE)
    assert (await client.final()).raw == OK
    await client.send(get())
    application = await entered(upstream)
    await application.send(OK_CLOSE)
    assert (await client.final()).raw == OK
    client.close()
    assert [line["phase"] for line in events(proxy, "phase")] == ["ready", "propagating", "ready"]
    assert not events(proxy, "drain_report")


@on_one_loop
async def test_a_drain_after_one_that_was_taken_back_starts_afresh(start, upstream):
    """Its own plan, its own counts."""
    proxy = await start(upstream, propagation="cluster", propagation_min="700ms", propagation_quiet="0s")
    assert (await command(proxy, "drain"))[0] == 0
    late, other = await held(proxy, upstream)
    await other.send(OK_CLOSE)
    assert (await late.final()).raw == OK_CLOSE
    late.close()
    assert (await command(proxy, "undrain"))[0] == 0
    client, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await proxy.exit_code() == 0
    line = await report(proxy, finished=1)
    assert line["in_flight_at_start"] == 1
    assert line["phases_s"]["propagating"] >= 0.69


async def refused(proxy, why: str) -> None:
    """`undrain` must fail with 409 and these words."""
    assert await command(proxy, "undrain") == (1, f"drainproxy undrain: {why}")


@on_one_loop
async def test_undrain_is_refused_where_there_is_nothing_to_take_back(start):
    """Nobody drains."""
    async with Application(answering(OK)) as upstream:
        await refused(await start(upstream), "not draining")


@on_one_loop
async def test_undrain_is_refused_while_work_was_told_to_end_and_not_after(start, upstream):
    """Not in `draining`; in `drained` it is taken back, as often as there are drains."""
    proxy = await start(upstream)
    client, application = await held(proxy, upstream)
    assert (await command(proxy, "drain"))[0] == 0
    await proxy.line("phase", phase="draining")
    await refused(
        proxy, "draining cannot be taken back: tunnels were told to leave; ask again once it is drained"
    )
    await application.send(OK_CLOSE)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    await proxy.line("drain_report")
    for drains in (1, 2):
        assert (await proxy.get("/readyz")).status == 503
        assert await command(proxy, "undrain") == (0, "ready")
        assert (await proxy.get("/readyz")).status == 200
        client = await proxy.client()
        for _ in range(2):
            # Kept: nothing of the drain is left.
            await client.send(get())
            await (await entered(upstream)).send(OK_CLOSE)
            assert (await client.final()).raw == OK
        assert len(events(proxy, "drain_report")) == drains
        await client.send(get())
        application = await entered(upstream)
        assert await command(proxy, "drain") == (0, "draining, waits for 1 in flight")
        await application.send(OK_CLOSE)
        assert (await client.final()).raw == OK_CLOSE
        client.close()
        assert (await proxy.nth("drain_report", drains))["requests"]["finished"] == 1
    proxy.signal()
    assert await proxy.exit_code() == 0
    assert len(events(proxy, "drain_report")) == 3


@on_one_loop
async def test_undrain_is_refused_when_the_pod_ends(start, upstream):
    """After `--prestop`, and after SIGTERM, also when the drain had begun by hand."""

    async def end(*, manual: bool = False, prestop: bool = False, sigterm: bool = False) -> None:
        proxy = await start(upstream, **LONG)
        if manual or prestop:
            assert (await command(proxy, "drain", *["--prestop"][: int(prestop)]))[0] == 0
        if sigterm:
            proxy.signal()
        await proxy.line("phase", phase="propagating")
        await refused(proxy, "the pod is terminating")

    await end(prestop=True)
    await end(sigterm=True)
    await end(manual=True, sigterm=True)


@on_one_loop
async def test_sigterm_after_a_manual_drain_has_its_own_clock(start, upstream):
    """A drain by hand has no SIGKILL behind it; the grace period of the termination is all there."""
    settings = {"grace_period": "1700ms", "app_stop": "100ms", "reserve": "100ms"}
    proxy = await start(upstream, **settings)
    client, application = await held(proxy, upstream)
    assert (await command(proxy, "drain"))[0] == 0
    loop = asyncio.get_running_loop()
    drained_by = loop.time() + 1.5
    assert (await proxy.line("drain_plan"))["deadline_in_s"] == pytest.approx(1.5, abs=0.1)
    await asyncio.sleep(0.8)
    proxy.signal()
    plan = await proxy.line("drain_plan", cause="unknown")
    assert plan["deadline_in_s"] == pytest.approx(1.5, abs=0.1)
    # Beyond the first clock's end, well before the second's.
    await asyncio.sleep(drained_by + 0.2 - loop.time())
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await proxy.exit_code() == 0
    assert (await report(proxy, finished=1))["cause"] == "unknown"


@on_one_loop
async def test_sigterm_ends_a_process_that_was_drained_by_hand(start):
    """Hours later, perhaps: there is nothing left to do."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream)
        assert (await command(proxy, "drain"))[0] == 0
        await proxy.line("drain_report")
        proxy.signal()
        assert await proxy.exit_code() == 0
        assert len(events(proxy, "drain_report")) == 1


@on_one_loop
async def test_a_process_that_was_drained_by_hand_forwards_as_long_as_it_lives(start):
    """Its deadline ends the drain, not the service: who still calls is answered, by the application."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, grace_period="500ms", app_stop="100ms", reserve="100ms")
        assert (await command(proxy, "drain"))[0] == 0
        await proxy.line("drain_report")
        await asyncio.sleep(0.4)
        client = await proxy.client()
        answer = await client.ask(get())
        assert answer.raw == OK_CLOSE, undated(answer)
        client.close()
        assert (await proxy.metrics())["after_drained_total"] == 1
