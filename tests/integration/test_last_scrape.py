"""Health answers through a drain, and the metrics' last scrape after it."""

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
    waiting_hook,
)
from tests.support.upstream import answering

PATHS = ("/livez", "/startupz", "/readyz", "/lb-health")


async def health(proxy) -> list[int]:
    """Return what each health path answers now."""
    return [(await proxy.get(path)).status for path in PATHS]


async def refused(proxy) -> None:
    """Ask for a WebSocket of a proxy that drains: from now on there is something to tell."""
    client = await proxy.client()
    await client.send(get("/", "Connection: Upgrade", "Upgrade: websocket"))
    assert (await client.final()).start.startswith(b"HTTP/1.1 503 ")
    client.close()


@on_one_loop
async def test_health_through_a_drain(start, nobody):
    """Alive throughout, ready only between the application's first answer and the drain."""
    proxy = await start(nobody, ready=False)
    assert await health(proxy) == [200, 200, 503, 503]
    async with Application() as upstream:
        proxy = await start(upstream, final_scrape_wait="10s")
        assert await health(proxy) == [200, 200, 200, 200]
        client, application = await held(proxy, upstream)
        proxy.signal()
        await proxy.line("phase", phase="draining")
        assert await health(proxy) == [200, 200, 503, 503]
        # Something has to keep the process here when it has drained.
        await refused(proxy)
        await proxy.metrics()
        await application.send(OK)
        assert (await client.final()).raw == OK_CLOSE
        client.close()
        await proxy.line("last_scrape")
        assert await health(proxy) == [200, 200, 503, 503]
        await proxy.metrics()
        assert await proxy.exit_code() == 0


@on_one_loop
async def test_readiness_may_be_kept_for_a_while(start):
    """`delay:` keeps /readyz at 200 that long; /lb-health tells balancers at once."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(
            upstream,
            readiness_on_drain="delay:700ms",
            propagation="cluster",
            propagation_min="5s",
            propagation_max="8s",
        )
        proxy.signal()
        await proxy.line("phase", phase="propagating")
        assert await health(proxy) == [200, 200, 200, 503]
        await asyncio.sleep(0.75)
        assert await health(proxy) == [200, 200, 503, 503]


@on_one_loop
async def test_a_scraper_gets_the_numbers_of_the_whole_drain(start, upstream):
    """It came a moment ago, so it will come again: the application is kept for that, and serves meanwhile."""
    # Longer than the test is patient: it is the scrape that ends the wait.
    proxy = await start(upstream, final_scrape_wait="60s")
    client, application = await held(proxy, upstream)
    await proxy.metrics()
    proxy.signal()
    hook = await waiting_hook(proxy)
    await proxy.line("phase", phase="draining")
    await refused(proxy)
    await application.send(OK_CLOSE)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert (await proxy.line("last_scrape"))["awaited"] == ["127.0.0.1"]
    # Whoever still comes is served.
    assert not hook.done()
    late = await proxy.client()
    await late.send(get())
    await (await entered(upstream)).send(OK)
    assert (await late.final()).raw == OK_CLOSE
    late.close()
    metrics = await proxy.metrics()
    assert metrics['phase{phase="drained"}'] == 1
    assert metrics['drain_requests_total{outcome="finished"}'] == 2
    assert metrics["after_drained_total"] == 1
    refusals = {key: value for key, value in metrics.items() if "drain_tunnels" in key and "refused" in key}
    assert sum(refusals.values()) == 1
    assert await hook == "drained"
    assert await proxy.exit_code() == 0


@on_one_loop
async def test_a_scraper_that_came_twice_is_waited_for_twice_as_long_as_it_stayed_away(start):
    """Its interval is known, and much shorter than `final_scrape_wait`."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, final_scrape_wait="60s")
        now = asyncio.get_running_loop().time
        began = now()
        await proxy.metrics()
        first = now()
        await asyncio.sleep(1.0)
        second = now()
        await proxy.metrics()
        interval_s = now() - began
        proxy.signal()
        await proxy.line("exit")
        # Also on a machine so slow that the drain was over later than that, and nobody was waited for.
        assert now() - second >= 2 * (second - first)
        assert all(0 < line["within_s"] <= 2 * interval_s for line in events(proxy, "last_scrape"))


@on_one_loop
async def test_the_wait_for_a_scrape_is_bounded(start, upstream):
    """A scraper that stays away costs `final_scrape_wait` at most."""
    proxy = await start(upstream, final_scrape_wait="3s")
    await proxy.metrics()
    await asyncio.sleep(2.5)
    await proxy.metrics()
    client, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    await refused(proxy)
    await application.send(OK_CLOSE)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    line = await proxy.line("last_scrape")
    drained = asyncio.get_running_loop().time()
    assert line["within_s"] <= 3.0
    assert await proxy.exit_code() == 0
    assert asyncio.get_running_loop().time() - drained >= line["within_s"] - 0.2


@on_one_loop
async def test_a_drain_that_served_everybody_waits_for_no_scrape_that_is_due_later(start):
    """The default costs a rollout less than a second a pod: this one is due in two."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, final_scrape_wait="15s")
        await proxy.metrics()
        await asyncio.sleep(2.0)
        await proxy.metrics()
        proxy.signal()
        assert await proxy.exit_code() == 0
        assert not events(proxy, "last_scrape")


@on_one_loop
@pytest.mark.parametrize("scrapes", [False, True])
async def test_where_no_scrape_is_due_nobody_waits(start, scrapes):
    """Nobody scrapes, or the next scrape is due later than `final_scrape_wait`."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, final_scrape_wait="500ms")
        if scrapes:
            await proxy.metrics()
            await asyncio.sleep(1.2)
            await proxy.metrics()
        proxy.signal()
        await proxy.line("phase", phase="drained")
        assert await proxy.exit_code() == 0
        assert not events(proxy, "last_scrape")


@on_one_loop
async def test_a_native_sidecar_that_is_told_last_waits_no_longer_than_it_surely_lives(start, upstream):
    """The deadline has cut something, and the kubelet may have planned a shorter grace period than told: two
    seconds from SIGTERM on are certain, and the exit is in them."""
    sums = {"grace_period": "6s", "app_stop": "2900ms", "reserve": "100ms", "leave_spread": "0s"}
    proxy = await start(upstream, final_scrape_wait="15s", **sums)
    await proxy.metrics()
    client, _ = await held(proxy, upstream)
    assert (await command(proxy, "drain", "--prestop"))[0] == 0
    assert (await client.final()).status == 503
    await proxy.line("drain_report")
    client.close()
    proxy.signal()
    line = await proxy.line("last_scrape")
    assert line["within_s"] <= 1.75
    assert await proxy.exit_code() == 0
