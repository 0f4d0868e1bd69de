"""Rows about the process as a whole: signals, clocks, a loop that stands still, a stdout nobody reads."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.ground import FRESH
from tests.chaos.load import Load
from tests.chaos.row import Evidence, Measured, row
from tests.integration.crowd import Shop
from tests.integration.scene import events, stopped
from tests.integration.test_blocked_stdout import BROKEN, Unread

if TYPE_CHECKING:
    from tests.chaos.ground import Ground

PROPAGATION = {"propagation": "cluster", "grace_period": "60s"}
QUICK = {"propagation_min": "500ms", "propagation_quiet": "300ms", "sparse_min": "500ms"}


@row("SIGTERM under load", Evidence(line="drain_report", series="late_requests_total"), most=0, unit="lost")
async def sigterm(ground: Ground) -> Measured:
    """200 connections send 1,000 requests a second before SIGTERM, and after it until the cluster forgets."""
    before, lag_s = ground.pick((7_000, 4.5), (500, 0.7))
    settings = {**PROPAGATION, **ground.pick({}, QUICK)}
    async with Shop(5.0) as shop:
        proxy = await ground.start(shop.address, **settings)
        async with Load(proxy, shop, connections=200, rate=1000) as load:
            await load.until(before)
            proxy.signal()
            await asyncio.sleep(lag_s)
            await ground.books(proxy)
        assert await proxy.exit_code(60.0) == 0
    report = await proxy.line("drain_report")
    assert report["propagation_ended"] == "quiet"
    assert {report["requests"][outcome] for outcome in ("timed_out", "cut", "refused", "lost")} == {0}
    assert load.sent >= ground.pick(10_000, 800), f"only {load.sent} requests"
    assert not load.lost, load.failures
    return Measured(load.lost, f"of {load.sent:,} requests")


@row("signal storm", Evidence(line="drain_report", series="late_requests_total"), most=0, unit="lost")
async def storm(ground: Ground) -> Measured:
    """Thousands of SIGHUP, SIGWINCH, SIGSTOP with SIGCONT, then SIGTERM, under load: one drain."""
    count = ground.pick(1000, 100)
    async with Shop(5.0) as shop:
        proxy = await ground.start(shop.address, **PROPAGATION, **QUICK)
        async with Load(proxy, shop, connections=50, rate=300) as load:
            await load.until(100)
            for harmless in (signal.SIGHUP, signal.SIGWINCH):
                await _shower(proxy, harmless, count)
            for _ in range(count // 20):
                async with stopped(proxy):
                    await asyncio.sleep(0.002)
            await _shower(proxy, signal.SIGTERM, count)
            await _shower(proxy, signal.SIGHUP, count)
            await ground.books(proxy)
        proxy.signal()
        assert await proxy.exit_code() == 0
    assert len(events(proxy, "drain_plan")) == len(events(proxy, "drain_report")) == 1
    assert not load.lost, load.failures
    return Measured(load.lost, f"of {load.sent:,} requests, {4 * count + count // 20:,} signals")


async def _shower(proxy, number: int, count: int) -> None:
    for each in range(count):
        proxy.signal(number)
        if each % 10 == 0:
            await asyncio.sleep(0.001)


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
DAY_S = 86_400
JUMPS_S = (DAY_S, -DAY_S, 3650 * DAY_S, -3650 * DAY_S, 3600, 0)


@row("clock jumps", Evidence(line="clock", series="clock_leaps_total"), most=0, unit="lost")
async def jumps(ground: Ground) -> Measured:
    """The wall clock leaps by an hour, a day and ten years, both ways, and the drain keeps its own time."""
    assert FAKETIME, "needs libfaketime (Debian: libfaketime)"
    with tempfile.TemporaryDirectory() as name:
        clock = Path(name) / "clock"
        clock.write_text("+0")
        env = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            # Loop times are of the monotonic clock, which no setting of the time of day moves.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        async with Shop(5.0) as shop:
            proxy = await ground.start(shop.address, env=env, **PROPAGATION, **QUICK)
            async with Load(proxy, shop, connections=50, rate=300) as load:
                for jump_s in JUMPS_S:
                    clock.write_text(f"{jump_s:+d}")
                    await load.until(load.sent + ground.pick(300, 40))
                # Ten years on, in the middle of the drain.
                proxy.signal()
                await proxy.line("phase", phase="propagating")
                clock.write_text(f"{JUMPS_S[2]:+d}")
                await asyncio.sleep(0.4)
                await ground.books(proxy)
            assert await proxy.exit_code() == 0
    report = await proxy.line("drain_report")
    leaps = [line["leap_s"] for line in events(proxy, "clock")]
    assert max(leaps) > JUMPS_S[2] - DAY_S, f"the clock did not leap: {leaps}"
    assert 0.5 <= sum(report["phases_s"].values()) < 10.0, report
    assert not load.lost, load.failures
    return Measured(load.lost, f"of {load.sent:,} requests, {len(JUMPS_S) + 1} leaps")


@row(
    "event loop stalls",
    Evidence(line="event_loop", series='event_loop_lag_seconds_bucket{le="+Inf"}'),
    most=0,
    unit="lost",
)
async def stall(ground: Ground) -> Measured:
    """The process stands still for 1.5 s at a time under load: it is said and counted, and nobody is lost."""
    pauses = ground.pick(4, 1)
    async with Shop(30.0) as shop:
        proxy = await ground.start(shop.address)
        async with Load(proxy, shop, connections=50, rate=200) as load:
            for _ in range(pauses):
                await load.until(load.sent + 100)
                async with stopped(proxy):
                    await asyncio.sleep(1.5)
            await load.until(load.sent + 100)
            seen = await ground.books(proxy)
    bucket = 'event_loop_lag_seconds_bucket{le="0.5"}'
    late = seen['event_loop_lag_seconds_bucket{le="+Inf"}'] - seen[bucket]
    assert late >= pauses, f"{pauses} pauses, and {late:g} are counted"
    said = [line["late_s"] for line in events(proxy, "event_loop")]
    assert len(said) >= pauses
    assert max(said) >= 0.9, said
    assert load.worst_s > 1.0, "it did not stand still"
    return Measured(load.lost, f"of {load.sent:,} requests, {pauses} pauses, all seen")


@row("stdout blocked", Evidence(series='log_lines_dropped_total{reason="blocked"}'), most=0, unit="lost")
async def blocked_stdout(ground: Ground) -> Measured:
    """Nobody reads stdout, then nobody holds it any more, while every request asks for a line."""
    count = ground.pick(12_000, 5_000)
    async with Shop(30.0) as shop:
        settings = {**FRESH, "access_log": "all"}
        async with Unread(upstreams=[shop.address], loop=ground.loop, **settings) as proxy:
            async with Load(proxy, shop, connections=50, rate=1e9) as load:
                await load.until(count)
                for raw in BROKEN:
                    async with await proxy.client() as client:
                        assert (await client.ask(raw)).status >= 400
                seen = await proxy.metrics()
                # The queue and a pipe of one page are full; the rest is given up.
                assert seen['log_lines_dropped_total{reason="blocked"}'] > 0
                proxy.close_stdout()
                await load.until(count + 500)
                seen = await ground.books(proxy)
            assert seen['log_lines_dropped_total{reason="unwritten"}'] > 0
            proxy.signal()
            assert await proxy.exit_code(5.0) == 0
    given_up = sum(n for name, n in seen.items() if name.startswith("log_lines_dropped_total"))
    return Measured(load.lost, f"of {load.sent:,} requests, {given_up:,.0f} lines given up and counted")
