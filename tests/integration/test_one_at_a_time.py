"""An application that serves one kept connection to its end before it looks at the next one."""

from __future__ import annotations

import asyncio

from drainproxy.proxy.upstream import UNSAFE_IDLE_S
from tests.integration.application import Application
from tests.integration.scene import OK, get, post
from tests.support.upstream import answering


class OneAtATime:
    """A handler that holds its one place until the connection ends: a preforking server's process."""

    def __init__(self) -> None:
        self._place = asyncio.Lock()
        self._answer = answering(OK)

    async def __call__(self, connection) -> None:
        async with self._place:
            await self._answer(connection)
            connection.close()


async def test_a_request_that_takes_no_old_connection_does_not_wait_behind_one(start):
    """The idle connection ends first: the application would not look at another one before."""
    async with Application(OneAtATime()) as upstream:
        proxy = await start(upstream, upstream_idle="10m")
        client = await proxy.client()
        assert (await client.ask(get())).raw == OK
        await asyncio.sleep(UNSAFE_IDLE_S * 2)
        assert (await client.ask(post(b"x"))).raw == OK


async def test_with_the_least_idle_time_every_connection_gets_its_turn(start):
    """What the manual says for such an application: nothing is kept that nobody uses."""
    async with Application(OneAtATime()) as upstream:
        proxy = await start(upstream, upstream_idle="1ms")
        clients = [await proxy.client() for _ in range(5)]
        for client in clients:
            await client.send(get())
        for client in clients:
            assert (await client.final()).raw == OK
