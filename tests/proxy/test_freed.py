"""A connection that has ended is free at once: what waits for the collector is in no account."""

from __future__ import annotations

import gc
from weakref import WeakSet

import pytest

from tests.support.house import House
from tests.support.upstream import Upstream, answering
from tests.support.words import GET, OK


@pytest.fixture
def no_collector():
    """Nobody looks for circles meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("said", [b"", GET, GET[:-3]], ids=["silent", "idle", "head"])
async def test_a_closed_connection_is_freed_without_the_collector(no_collector: None, said: bytes) -> None:
    """Whatever it was in the middle of."""
    async with Upstream(answering(OK)) as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(said)
        if said == GET:
            await client.final()
        await house.until(lambda: bool(house.registry.clients))
        seen = WeakSet(house.registry.clients)
        client.reset()
        await house.until(lambda: not house.registry.clients)
        await house.until(lambda: not seen)
