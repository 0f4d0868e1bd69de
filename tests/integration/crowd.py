"""Many clients and an application that keeps count, fast enough for a hundred thousand requests.

Both are protocols on the test's own loop. An order has a number; the application counts how often each
number came, the clients check the answer's every byte. What is counted twice was sent twice.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING, cast

from tests.integration.scene import DATE, get, post

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_KEY = re.compile(rb"idempotency-key: (\d+)", re.IGNORECASE)


class Till(asyncio.Protocol):
    """One connection of the application: it answers, and closes after an idle time."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to idle."""
        self.transport = cast("asyncio.Transport", transport)
        self._shop.tills.add(self)
        self._idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._shop.tills.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n") + 4) >= 4:
            head = self._received[:end]
            length = _LENGTH.search(head)
            end += int(length[1]) if length else 0
            if len(self._received) < end:
                break
            self._received = self._received[end:]
            if (key := _KEY.search(head)) is not None:
                self._shop.orders[int(key[1])] += 1
            self._shop.answers += 1
            self.transport.write(answer(int(key[1]) if key else 0))
        self._idle()

    def _idle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._shop.keep_alive_s, self._close)

    def _close(self) -> None:
        self._shop.tired += 1
        self.transport.close()


class Shop:
    """An application that closes connections idle for `keep_alive_s`, as some do, without a word before."""

    def __init__(self, keep_alive_s: float) -> None:
        self.keep_alive_s = keep_alive_s
        self.orders: Counter[int] = Counter()
        """How often each order has come."""
        self.answers = 0
        self.tired = 0
        """How many connections it has closed."""
        self.tills: set[Till] = set()

    async def __aenter__(self) -> Shop:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Till(self), "127.0.0.1", 0, backlog=1024)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for till in list(self.tills):
            till.transport.abort()
        await self._server.wait_closed()


def answer(number: int) -> bytes:
    """Return what the application says to an order."""
    return b"HTTP/1.1 201 Created\r\n" + DATE + b"Content-Length: 8\r\n\r\n%08d" % number


def order(number: int) -> bytes:
    """Return a request that must not be sent twice."""
    return post(b"order", f"Idempotency-Key: {number}", path="/orders")


QUESTION = get("/orders")


class Caller(asyncio.Protocol):
    """One keep-alive client connection, one request at a time; `ask` opens it anew where it was closed."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._wanted = b""
        self._answered: asyncio.Future[bytes] | None = None
        self.reconnects = -1
        """How often the connection was opened again."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of a connection."""
        self._transport = cast("asyncio.Transport", transport)
        self.reconnects += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that is waited for will not come."""
        self._transport = None
        self._end()

    def data_received(self, data: bytes) -> None:
        """End the wait with the answer, whatever it is, once its length has come."""
        self._received += data
        head_end = self._received.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return
        length = _LENGTH.search(self._received, 0, head_end)
        if length is not None and len(self._received) >= head_end + int(length[1]):
            self._end()

    def _end(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(self._received)

    async def ask(self, request: bytes) -> bytes:
        """Return the answer's bytes, as many as came."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            self._received = b""
            await loop.create_connection(lambda: self, *self._address)
        assert self._transport is not None
        self._received = b""
        self._answered = loop.create_future()
        self._transport.write(request)
        answered = await self._answered
        if b"\r\nConnection: close\r\n" in answered:
            self.close()
        return answered

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


class Orders:
    """Numbers, each given out once, and what became of them."""

    def __init__(self, count: int) -> None:
        self._numbers: Iterator[int] = iter(range(1, count + 1))
        self.failures: Counter[bytes] = Counter()
        self.placed = 0

    def next(self) -> int | None:
        """Return a number, or None when all are given out."""
        return next(self._numbers, None)

    def check(self, got: bytes, number: int) -> None:
        """Note what an order was answered with."""
        self.placed += 1
        self.compare(got, number)

    def compare(self, got: bytes, number: int) -> None:
        """Note an answer that is not the application's to this number; during a drain it may say close."""
        if got.replace(b"Connection: close\r\n", b"") != answer(number):
            self.failures[got[:200] or b"nothing"] += 1


async def question(orders: Orders, caller: Caller) -> None:
    """Ask what may be asked twice."""
    orders.compare(await caller.ask(QUESTION), 0)


async def burst(orders: Orders, caller: Caller, count: int) -> bool:
    """Place so many orders one after another, with a question now and then; tell whether there are more."""
    for step in range(count):
        if (number := orders.next()) is None:
            return False
        orders.check(await caller.ask(order(number)), number)
        if step % 5 == 4:
            await question(orders, caller)
    return True


async def place(orders: Orders, caller: Caller, *, count: int, pause: Callable[[], float]) -> None:
    """Place orders in bursts until there are none left; `pause` says how many seconds to rest in between."""
    try:
        while await burst(orders, caller, count):
            await asyncio.sleep(pause())
    finally:
        caller.close()
