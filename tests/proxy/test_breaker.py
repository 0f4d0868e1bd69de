"""Connects that fail again and again are given up on for a while; one attempt then says whether to go on."""

from __future__ import annotations

import asyncio
import socket

from drainproxy.errors import BreakerOpen
from drainproxy.proxy.upstream.breaker import FAILURES, Breaker
from tests.integration.application import Application
from tests.support import clock
from tests.support.clock import in_fake_time
from tests.support.house import House
from tests.support.upstream import OK as ANSWER
from tests.support.upstream import Upstream, answering
from tests.support.words import GET, OK, post

COOLDOWN_S = 2.0


def refused(breaker: Breaker) -> bool:
    """Whether an attempt would not even be made."""
    try:
        breaker.admit()
    except BreakerOpen:
        return True
    return False


def fail(breaker: Breaker, times: int) -> None:
    """Attempts that are refused."""
    for _ in range(times):
        breaker.admit()
        breaker.failed()


@in_fake_time
async def test_failures_in_a_row_open_it_for_the_cool_down() -> None:
    """Not four, and not five with a success among them."""
    breaker = Breaker(COOLDOWN_S, asyncio.get_running_loop())
    fail(breaker, FAILURES - 1)
    breaker.connected()
    fail(breaker, FAILURES - 1)
    assert not breaker.open
    fail(breaker, 1)
    assert breaker.open
    assert refused(breaker)
    await asyncio.sleep(COOLDOWN_S - 0.01)
    assert refused(breaker)
    await asyncio.sleep(0.02)
    assert not refused(breaker)


@in_fake_time
async def test_a_trial_closes_it_or_keeps_it_open_and_nobody_is_refused_for_it() -> None:
    """It may have to wait for its answer: whoever comes meanwhile tries too."""
    changes = []
    breaker = Breaker(COOLDOWN_S, asyncio.get_running_loop())
    breaker.on_change = lambda: changes.append((breaker.open, round(clock.now())))
    fail(breaker, FAILURES)
    await asyncio.sleep(COOLDOWN_S)
    breaker.admit()
    await asyncio.sleep(3 * COOLDOWN_S)
    assert not refused(breaker)
    breaker.failed()
    assert refused(breaker)
    await asyncio.sleep(COOLDOWN_S)
    assert not refused(breaker)
    breaker.connected()
    assert changes == [(True, 0), (False, 5 * COOLDOWN_S)]


@in_fake_time
async def test_off_it_never_opens() -> None:
    """Then every request makes its own attempt."""
    breaker = Breaker(None, asyncio.get_running_loop())
    fail(breaker, 100)
    assert not refused(breaker)


async def test_requests_are_refused_at_once_and_served_as_soon_as_a_trial_succeeds() -> None:
    """Five find out for themselves, the next is told, one after the cool-down finds the application back."""
    # Nobody listens there, and nobody else takes it.
    nobody = socket.socket()
    nobody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    nobody.bind(("127.0.0.1", 0))
    port = nobody.getsockname()[1]
    async with House(f"http://127.0.0.1:{port}", breaker_cooldown=0.3) as house:
        client = await house.client()
        for _ in range(FAILURES):
            assert b"upstream-refused" in (await client.ask(GET)).body
        answer = await client.ask(GET)
        assert (answer.status, answer.one(b"retry-after")) == (503, b"1")
        assert answer.body == b"503 Service Unavailable: breaker-open\n"
        assert house.metrics.upstream_connects.value("refused") == FAILURES
        assert house.refused() == {"breaker-open": 1}
        nobody.close()
        async with Application(answering(ANSWER), port=port):
            await house.until(lambda: house.loop.time() >= house.pool.breaker._until)
            assert (await client.ask(GET)).body == b"ok"
            assert not house.pool.breaker.open


async def test_a_refusal_keeps_the_connection_only_where_no_body_may_still_come() -> None:
    """With a body unread, nobody knows where the next request begins."""
    async with Upstream(answering()) as upstream, House(upstream, breaker_cooldown=60.0) as house:
        fail(house.pool.breaker, FAILURES)
        client = await house.client()
        assert not (await client.ask(GET)).all(b"connection")
        assert (await client.ask(post(b"abc")[:-1])).one(b"connection") == b"close"


async def test_a_probe_that_gets_through_closes_it() -> None:
    """The cool-down is not waited for."""
    async with Upstream(answering()) as upstream, House(upstream, breaker_cooldown=60.0) as house:
        fail(house.pool.breaker, FAILURES)
        assert (await house.ask(GET)).status == 503
        house.pool.discard(await house.pool.connect(house.loop.time() + 5))
        assert (await house.ask(GET)).body == b"ok"


async def test_an_open_breaker_leaves_standing_connections_alone() -> None:
    """They need no connect. While the application starts, connects are retried as ever."""
    async with Upstream() as upstream, House(upstream, up=False, breaker_cooldown=60.0) as house:
        client = await house.client()
        application = None
        for _ in range(2):
            fail(house.pool.breaker, FAILURES)
            await client.send(GET)
            application = application or await upstream.connection()
            await application.read_request()
            await application.send(OK)
            assert (await client.final()).body == b"ok"
            house.controller.upstream_answers()
