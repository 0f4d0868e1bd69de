"""Rows about connections to the application that have gone stale."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

from tests.chaos.row import Evidence, Measured, row
from tests.integration.crowd import Caller, Orders, Shop, place

if TYPE_CHECKING:
    from tests.chaos.ground import Ground

CALLERS = 64
CONNECTS = 'upstream_connects_total{result="ok"}'


@row("stale pools", Evidence(series=CONNECTS), most=0, unit="failed or doubled")
async def stale(ground: Ground) -> Measured:
    """GETs and POSTs in bursts, with pauses around the second after which the application closes."""
    count = ground.pick(100_000, 2_500)
    burst = ground.pick(30, 8)
    chance = random.Random(count)
    async with Shop(keep_alive_s=1.0) as shop:
        proxy = await ground.start(shop.address)
        orders = Orders(count * 5 // 6)
        callers = [Caller(proxy.addresses[0]) for _ in range(CALLERS)]
        async with asyncio.TaskGroup() as group:
            for caller in callers:
                pause = partial(chance.uniform, 0.9, 1.1)
                group.create_task(place(orders, caller, count=burst, pause=pause))
        # One each and no more, had nothing grown old: it is the application or the proxy that gives one up.
        connects = int((await proxy.metrics())[CONNECTS])
        assert connects > CALLERS, "the load never paused long enough"
    assert not orders.failures, orders.failures
    assert not sum(caller.reconnects for caller in callers)
    wrong = orders.placed - sum(times == 1 for times in shop.orders.values())
    return Measured(wrong, f"of {shop.answers:,} requests, {connects - CALLERS:,} connections grown old")
