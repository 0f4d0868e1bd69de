"""An application that serves one kept connection to its end before it looks at the next one."""

from __future__ import annotations

import asyncio

from drainproxy.proxy.upstream.pool import UNSAFE_IDLE_S
from tests.integration.application import Application
from tests.integration.scene import OK, events, get, in_flight, post
from tests.support.prefork import Prefork
from tests.support.upstream import answering

ROUNDS = 50
"""Two will do where the worker is on a core as soon as it may."""


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
    """Where the kernel cannot tell what kind of application it is, nothing is kept that nobody uses."""
    async with Application(OneAtATime()) as upstream:
        proxy = await start(upstream, upstream_idle="1ms")
        clients = [await proxy.client() for _ in range(5)]
        for client in clients:
            await client.send(get())
        for client in clients:
            assert (await client.final()).raw == OK


async def test_what_was_learnt_of_an_application_is_said_and_shown(start):
    """A line when it begins, and a gauge for as long as it is so."""
    with Prefork() as upstream:
        proxy = await start(upstream.address, upstream_idle="10m")
        assert (await proxy.metrics())["upstream_reuse_off"] == 0
        for _ in range(ROUNDS):
            upstream.release.clear()
            first, second = await proxy.client(), await proxy.client()
            await first.send(get("/held"))
            await asyncio.to_thread(upstream.entered.acquire)
            await second.send(get())
            await in_flight(proxy, 2)
            upstream.release.set()
            assert (await first.final()).body == (await second.final()).body == b"ok"
            first.close()
            second.close()
            if events(proxy, "upstream_reuse"):
                break
        line = await proxy.line("upstream_reuse")
        assert (line["reuse"], line["upstream"]) == (False, upstream.address)
        assert (await proxy.metrics())["upstream_reuse_off"] == 1
