"""Paced load that loses nothing unseen: questions and orders, on kept connections and on new ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from drainproxy.proof.waiting import happens_before
from tests.integration.crowd import Caller, Orders, Shop, order, question
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from tests.support.process import Proxy

NEW_EVERY = 10
"""One caller of so many makes a connection for each request."""


class Load:
    """`async with Load(proxy, shop, connections=200, rate=1000) as load:` sends for the length of the block.

    `rate`: requests a second in all, whatever the answers take as long as a caller is not still waiting.
    """

    def __init__(self, proxy: Proxy, shop: Shop, *, connections: int, rate: float) -> None:
        self._address = proxy.addresses[0]
        self._shop = shop
        self._connections = connections
        self._every_s = connections / rate
        self._orders = Orders(10**9)
        self._stop = asyncio.Event()
        self._more = asyncio.Event()
        self.sent = 0
        self.worst_s = 0.0
        """The longest that an answer took."""

    async def __aenter__(self) -> Load:
        self._running = [asyncio.ensure_future(self._call(number)) for number in range(self._connections)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Send nothing more; wait for the answers that are due."""
        self._stop.set()
        await asyncio.gather(*self._running)

    async def until(self, count: int) -> None:
        """Return once so many requests were sent."""
        while self.sent < count:
            self._more.clear()
            await self._more.wait()

    @property
    def lost(self) -> int:
        """Requests without the right answer, and orders that the application did not get exactly once.

        To be asked when the load has stopped.
        """
        wanted = dict.fromkeys(range(1, self._orders.placed + 1), 1)
        wrong = {*wanted.items()} ^ {*self._shop.orders.items()}
        return sum(self._orders.failures.values()) + len({number for number, _ in wrong})

    @property
    def failures(self) -> dict[bytes, int]:
        """What came in place of right answers."""
        return dict(self._orders.failures)

    async def _call(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        caller = Caller(self._address)
        due = loop.time() + self._every_s * number / self._connections
        while not await happens_before(self._stop, due):
            began = loop.time()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._ask(caller)
            except (OSError, TimeoutError) as error:
                self._orders.failures[repr(error).encode()] += 1
                caller.close()
            self.sent += 1
            self._more.set()
            self.worst_s = max(self.worst_s, loop.time() - began)
            if number % NEW_EVERY == 0:
                caller.close()
            due = max(due + self._every_s, loop.time())
        caller.close()

    async def _ask(self, caller: Caller) -> None:
        if self.sent % 2:
            await question(self._orders, caller)
            return
        number = self._orders.next()
        assert number is not None
        try:
            answered = await caller.ask(order(number))
        except BaseException:
            self._orders.placed += 1
            raise
        self._orders.check(answered, number)
