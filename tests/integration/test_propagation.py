"""Propagation on the wire: who holds a drain, who does not, and that nobody who is still sent here is lost.

Times are those of the cluster preset or a fraction of them; the rules are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from tests.integration.application import Application
from tests.integration.scene import (
    DRAIN_DEADLINE,
    OK,
    OK_CLOSE,
    entered,
    events,
    get,
    held,
    on_one_loop,
    report,
    undated,
)
from tests.support.message import Ending
from tests.support.upstream import answering

QUARTER = {
    "propagation": "cluster",
    "propagation_min": "1250ms",
    "propagation_quiet": "500ms",
    "propagation_max": "3750ms",
    "sparse_min": "2s",
    "settle": "500ms",
}
"""The cluster preset at a quarter of its length."""
HALF_SECOND = {
    "propagation": "cluster",
    "propagation_min": "500ms",
    "propagation_quiet": "300ms",
    "propagation_max": "5s",
    "sparse_min": "500ms",
}


@contextlib.asynccontextmanager
async def meanwhile(*work):
    """Run coroutines for the length of the block; what they raise before its end fails the test."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def check_health(proxy, agent: str, every_s: float) -> None:
    """Call as a health checker does, on a new connection each time, until there is nobody to call."""
    with contextlib.suppress(ConnectionError):
        while True:
            client = await proxy.client()
            await client.send(get("/healthz", f"User-Agent: {agent}", "Connection: close"))
            answer = await client.final()
            # The very last ones may meet the exit.
            assert answer.raw == OK_CLOSE or answer.ending in {Ending.TRUNCATED, Ending.RESET}
            client.close()
            await asyncio.sleep(every_s)


async def drain_among_health_checkers(proxy, every_s: float) -> None:
    """Three of them go on calling the traffic port for as long as it answers; that is no reason to stay."""
    agents = ("kube-probe/1.36", "ELB-HealthChecker/2.0", "GoogleHC/1.0")
    async with meanwhile(*(check_health(proxy, agent, every_s) for agent in agents)):
        proxy.signal()
        assert await proxy.exit_code() == 0
    line = await proxy.line("drain_report")
    assert line["propagation_ended"] == "quiet"
    assert line["phases_s"]["propagating"] >= 0.49
    assert line["requests"]["late"] == 0


@on_one_loop
async def test_health_checkers_do_not_hold_propagation(start):
    """They call more often than `quiet`, and are no sign that the cluster still chooses us."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **HALF_SECOND | {"propagation_quiet": "700ms", "settle": "50ms"})
        await drain_among_health_checkers(proxy, every_s=0.3)


@on_one_loop
async def test_health_checkers_do_not_hold_the_drain(start):
    """They call more often than `settle`."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **HALF_SECOND)
        await drain_among_health_checkers(proxy, every_s=0.02)


@on_one_loop
async def test_connections_without_a_byte_do_not_hold_the_drain(start):
    """A balancer that only connects to see whether the port is open."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **HALF_SECOND)

        async def knock() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    (await proxy.client()).close()
                    await asyncio.sleep(0.02)

        async with meanwhile(knock()):
            proxy.signal()
            assert await proxy.exit_code() == 0
        assert (await report(proxy))["propagation_ended"] == "quiet"


@on_one_loop
async def test_a_caller_holds_propagation_until_it_is_quiet(start):
    """Late arrivals show that the cluster still chooses us: each one starts `quiet` anew."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **HALF_SECOND | {"propagation_quiet": "500ms"})
        proxy.signal()
        await proxy.line("phase", phase="propagating")
        for _ in range(5):
            client = await proxy.client()
            assert (await client.ask(get())).raw == OK_CLOSE
            client.close()
            await asyncio.sleep(0.2)
        assert await proxy.exit_code() == 0
        line = await report(proxy, finished=5, late=5)
        assert line["propagation_ended"] == "quiet"
        # Four pauses and `quiet`.
        assert line["phases_s"]["propagating"] >= 1.29


@on_one_loop
async def test_a_sparse_caller_loses_nothing(start):
    """One connection in 0.75 s and a lag of 1.75 s, at a quarter of the preset's times.

    Its silence outlasts `quiet` twice; `sparse_min` waits for it.
    """
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **QUARTER)
        client = await proxy.client()
        assert (await client.ask(get("/", "Connection: close"))).raw == OK_CLOSE
        loop = asyncio.get_running_loop()
        proxy.signal()
        signalled = loop.time()
        for at_s in (0.75, 1.5, 1.75):
            await asyncio.sleep(signalled + at_s - loop.time())
            client = await proxy.client()
            assert (await client.ask(get("/", "Connection: close"))).raw == OK_CLOSE
            client.close()
        assert await proxy.exit_code() == 0
        line = await report(proxy, finished=3, late=3)
        assert line["propagation_ended"] == "quiet"
        assert (await proxy.line("drain_plan"))["sparse"] is True


@on_one_loop
@pytest.mark.slow
async def test_a_sparse_caller_loses_nothing_in_real_time(start):
    """One connection in 3 s, and a cluster that goes on choosing this pod for 7 s: the preset as it is."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, propagation="cluster", settle="200ms")
        loop = asyncio.get_running_loop()
        calls = 0

        async def call() -> None:
            nonlocal calls
            client = await proxy.client()
            assert (await client.ask(get("/", "Connection: close"))).raw == OK_CLOSE
            client.close()
            calls += 1

        await call()
        proxy.signal()
        signalled = loop.time()
        for at_s in (0.9, 3.9, 6.9):
            await asyncio.sleep(signalled + at_s - loop.time())
            await call()
        assert await proxy.exit_code() == 0
        assert calls == 4
        assert (await report(proxy, finished=3, late=3))["phases_s"]["propagating"] >= 7.99


@on_one_loop
async def test_callers_beyond_the_cap_are_answered_until_they_are_quiet(start):
    """`propagation_max` ends propagation, and not the callers: the process stays while they come."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(
            upstream,
            propagation="cluster",
            propagation_min="100ms",
            propagation_quiet="700ms",
            propagation_max="300ms",
            sparse_min="100ms",
        )
        proxy.signal()
        await proxy.line("phase", phase="propagating")
        beyond = itertools.count()
        # Slower than `settle`, faster than `quiet`; four more after the cap.
        while events(proxy, "phase")[-1]["phase"] != "draining" or next(beyond) < 4:
            client = await proxy.client()
            assert (await client.ask(get())).raw == OK_CLOSE
            client.close()
            await asyncio.sleep(0.2)
        assert await proxy.exit_code() == 0
        line = await proxy.line("drain_report")
        assert line["propagation_ended"] == "max"
        assert line["requests"]["lost"] == line["requests"]["refused"] == 0
        assert line["phases_s"]["draining"] >= 0.99


@on_one_loop
async def test_work_that_ends_within_propagation_adds_nothing(start, upstream):
    """Propagation and work in flight overlap: the longer one counts, here propagation."""
    proxy = await start(upstream, **HALF_SECOND)
    client, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="propagating")
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await proxy.exit_code() == 0
    phases = (await report(proxy, finished=1))["phases_s"]
    assert phases["propagating"] >= 0.49
    assert phases["draining"] < 10.0


@on_one_loop
async def test_work_that_outlasts_propagation_takes_its_own_time_only(start, upstream):
    """Its clock began with the drain: 3 s of propagation and 3.2 s of `drain_timeout` are 3.2 s."""
    times = {"propagation_min": "3s", "sparse_min": "3s", "drain_timeout": "3200ms"}
    proxy = await start(upstream, **HALF_SECOND | times)
    client, _ = await held(proxy, upstream)
    proxy.signal()
    assert undated(await client.final()) == DRAIN_DEADLINE
    client.close()
    assert await proxy.exit_code() == 0
    phases = (await report(proxy, timed_out=1))["phases_s"]
    assert phases["propagating"] >= 2.99
    # Had it begun with this phase, it would have been that long.
    assert phases["draining"] < 3.19


@on_one_loop
async def test_a_balancer_is_not_told_to_close_before_it_has_looked_away(start, upstream):
    """It would only reconnect to us: keep-alive is kept until `min` has passed."""
    proxy = await start(
        upstream,
        propagation="alb",
        propagation_min="1s",
        propagation_quiet="100ms",
        propagation_max="4s",
        sparse_min="1s",
    )
    client, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="propagating")
    await application.send(OK_CLOSE)
    assert (await client.final()).raw == OK
    await client.send(get("/second"))
    application = await entered(upstream)
    await asyncio.sleep(1.1)
    await application.send(OK_CLOSE)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=2, late=1)
