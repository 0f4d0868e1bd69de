"""How often the API is asked, on a clock of its own."""

from __future__ import annotations

import asyncio

from drainproxy.kube.rate_limit import BURST, MAX_BACKOFF_S, RateLimit
from tests.support import clock
from tests.support.clock import in_fake_time


@in_fake_time
async def test_a_few_at_once_then_one_a_second():
    """A drain's first questions come at once; a loop of them is no flood."""
    pace, times = RateLimit(), []
    for _ in range(BURST + 5):
        await pace.turn()
        times.append(clock.now())
    assert times == [0.0] * BURST + [1.0, 2.0, 3.0, 4.0, 5.0]


@in_fake_time
async def test_several_who_ask_share_the_pace():
    """Each slice has its watch, the pod is one."""
    pace, times = RateLimit(), []

    async def ask() -> None:
        for _ in range(5):
            await pace.turn()
            times.append(clock.now())

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(ask())
    assert len(times) == 20
    assert max(times) >= 20 - BURST


@in_fake_time
async def test_after_failures_it_waits_longer_and_unevenly():
    """Thousands of pods must not come back together."""
    first = []
    for _ in range(20):
        pace, began = RateLimit(), clock.now()
        pace.failed()
        await pace.turn()
        first.append(clock.now() - began)
    assert all(0.5 <= each <= 1.0 for each in first)
    assert len(set(first)) > 1
    pace, waits = RateLimit(), []
    for _ in range(8):
        pace.failed()
        began = clock.now()
        await pace.turn()
        waits.append(clock.now() - began)
    assert waits[-1] >= MAX_BACKOFF_S / 2
    assert max(waits) <= MAX_BACKOFF_S


@in_fake_time
async def test_an_answer_ends_the_waiting():
    """What works is asked at the usual pace again."""
    pace = RateLimit()
    for _ in range(6):
        pace.failed()
    pace.worked()
    pace.failed()
    began = clock.now()
    await pace.turn()
    assert clock.now() - began <= 1.0


@in_fake_time
async def test_the_server_says_how_long():
    """Retry-After is a floor (RFC 9110 section 10.2.3)."""
    pace = RateLimit()
    pace.failed(retry_after_s=20)
    await pace.turn()
    assert clock.now() >= 20
