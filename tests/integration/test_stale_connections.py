"""An application that closes idle connections, and a proxy that keeps some: no order is lost, none doubled.

The application closes after 1 s. Load comes in bursts with pauses around that time, so that pooled
connections go stale at every age. A POST that met such a close would be lost, or done twice.
"""

from __future__ import annotations

import asyncio
import random

from tests.integration.crowd import Caller, Orders, Shop, burst, question
from tests.integration.scene import on_one_loop

CALLERS = 64


async def test_5000_orders_are_each_placed_once(start):
    """Each comes to the application exactly once, and is answered; `make chaos` does it 100,000 times."""
    count = 5_000
    # The same pauses in every run.
    chance = random.Random(count)
    async with Shop(keep_alive_s=1.0) as shop:
        proxy = await start(shop.address)
        orders = Orders(count)
        callers = [Caller(proxy.addresses[0]) for _ in range(CALLERS)]
        more = True
        while more:
            # All at once, so that as many connections wait next.
            await asyncio.gather(*(burst(orders, caller, 15) for caller in callers))
            # Half of them one by one, so that the others' wait till they are old.
            back = [rested(orders, caller, chance.uniform(0.8, 1.1)) for caller in callers[::2]]
            more = all(await asyncio.gather(*back))
        for caller in callers:
            caller.close()
        assert not orders.failures
        assert orders.placed == count
        assert shop.orders.keys() == set(range(1, count + 1))
        assert max(shop.orders.values()) == 1
        assert shop.tired > CALLERS * 3 // 2, "the load never paused long enough"
        assert [caller.reconnects for caller in callers] == [0] * CALLERS
        proxy.signal()
        assert await proxy.exit_code() == 0


async def rested(orders: Orders, caller: Caller, pause_s: float) -> bool:
    """Place some orders after a rest; tell whether there are more."""
    await asyncio.sleep(pause_s)
    return await burst(orders, caller, 10)


@on_one_loop
async def test_questions_that_meet_a_close_are_asked_again(start):
    """Everybody asks, rests for the application's idle time, and asks again: requests and closes cross."""
    async with Shop(keep_alive_s=0.3) as shop:
        proxy = await start(shop.address)
        orders = Orders(0)
        callers = [Caller(proxy.addresses[0]) for _ in range(CALLERS)]
        for late_s in (-0.02, -0.01, -0.005, 0.0, 0.005, 0.01):
            await asyncio.gather(*(question(orders, caller) for caller in callers))
            await asyncio.sleep(0.3 + late_s)
        await asyncio.gather(*(question(orders, caller) for caller in callers))
        assert not orders.failures
        assert [caller.reconnects for caller in callers] == [0] * CALLERS
        for caller in callers:
            caller.close()
