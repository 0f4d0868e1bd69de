"""A thousand clients that send their heads byte by byte: others hardly notice.

Told by the processor's time and not by the clock's: how long an answer takes is the machine's matter too.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.crowd import QUESTION, Caller, Shop, answer
from tests.support.process import Proxy

if TYPE_CHECKING:
    from tests.support.client import Client

SLOW = 1000
CALLERS = 8
QUESTIONS = 100
BYTES = 5


def spent_s(proxy: Proxy) -> float:
    """The time that a process has had a processor (proc(5), schedstat)."""
    return int(Path(f"/proc/{proxy.pid}/schedstat").read_text().split()[0]) / 1e9


async def cost_of_a_question_s(proxy: Proxy, callers: list[Caller]) -> float:
    """What the proxy spends on one, asked by all at once."""

    async def ask(caller: Caller) -> None:
        for _ in range(QUESTIONS):
            assert await caller.ask(QUESTION) == answer(0)

    before = spent_s(proxy)
    await asyncio.gather(*map(ask, callers))
    return (spent_s(proxy) - before) / (CALLERS * QUESTIONS)


async def cost_of_a_byte_s(proxy: Proxy, slow: list[Client], caller: Caller) -> float:
    """What it spends on one byte of a head: read on its own, and in order before the question behind it."""
    before, asked = spent_s(proxy), 0
    for _ in range(BYTES):
        for number, client in enumerate(slow):
            client.wire.send(b"y")
            if number % 100 == 99:
                assert await caller.ask(QUESTION) == answer(0)
                asked += 1
    return (spent_s(proxy) - before) / (BYTES * len(slow) + asked)


@pytest.mark.slow
async def test_a_thousand_slow_heads_leave_others_their_time(loop_kind, many_descriptors):
    """A byte costs less than a question, and a question among them what it cost before, or hardly more."""
    async with Shop(60) as shop, Proxy(upstreams=[shop.address], loop=loop_kind, head_timeout="60s") as proxy:
        await proxy.ready()
        callers = [Caller(proxy.addresses[0]) for _ in range(CALLERS)]
        await cost_of_a_question_s(proxy, callers)
        calm = await cost_of_a_question_s(proxy, callers)
        slow = [await proxy.client() for _ in range(SLOW)]
        for client in slow:
            await client.send(b"GET / HTTP/1.1\r\nX: ")
        async with asyncio.timeout(30):
            while (await proxy.metrics())['requests_in_flight{kind="http"}'] < SLOW:
                await asyncio.sleep(0.05)
        besieged = await cost_of_a_question_s(proxy, callers)
        byte = await cost_of_a_byte_s(proxy, slow, callers[0])
        for caller in callers:
            caller.close()
        assert (await proxy.metrics())['requests_in_flight{kind="http"}'] == SLOW
        assert besieged < 2 * calm, f"a question costs {besieged * 1e6:.0f} us, and {calm * 1e6:.0f} us alone"
        assert byte < calm, f"a byte costs {byte * 1e6:.0f} us, a question {calm * 1e6:.0f} us"
