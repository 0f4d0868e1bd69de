"""A rollout under load: callers find the process for a while after its signal, then go elsewhere."""

from __future__ import annotations

import asyncio

from tests.integration.crowd import Caller, Orders, Shop, order

CALLERS = 16
LAG_S = 0.7


async def test_orders_placed_while_the_cluster_forgets_are_each_placed_once(start):
    """Kept and new connections, 0.7 s of lag, 1 s of propagation: every answer whole, every order once."""
    async with Shop(keep_alive_s=5.0) as shop:
        proxy = await start(
            shop.address,
            propagation="cluster",
            propagation_min="1s",
            propagation_quiet="300ms",
            propagation_max="4s",
            sparse_min="1s",
            settle="200ms",
        )
        orders = Orders(1_000_000)
        loop = asyncio.get_running_loop()
        until = loop.time() + 60.0
        flowing = asyncio.Event()

        async def shop_until_forgotten(*, keep_alive: bool) -> None:
            caller = Caller(proxy.addresses[0])
            while loop.time() < until:
                number = orders.next()
                assert number is not None
                orders.check(await caller.ask(order(number)), number)
                if not keep_alive:
                    caller.close()
                if orders.placed > 500:
                    flowing.set()
                await asyncio.sleep(0.002)
            caller.close()

        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(shop_until_forgotten(keep_alive=number % 2 == 0))
            await flowing.wait()
            proxy.signal()
            until = loop.time() + LAG_S
        assert not orders.failures
        assert shop.orders == dict.fromkeys(range(1, orders.placed + 1), 1)
        assert await proxy.exit_code() == 0
        line = await proxy.line("drain_report")
        assert line["propagation_ended"] == "quiet"
        assert line["requests"]["finished"] >= line["requests"]["late"] > 100
        assert {line["requests"][outcome] for outcome in ("timed_out", "cut", "refused", "lost")} == {0}
