"""`max_connection_age`: an old connection ends where no request can be lost by it."""

from __future__ import annotations

import pytest

from drainproxy.proxy.http1.states import LAST
from tests.support.house import House
from tests.support.http2 import ACK, GOAWAY, HEADERS, PING, RST, SETTINGS, Http2, frame
from tests.support.upstream import Upstream, answering
from tests.support.wire import End
from tests.support.words import GET, OK, get, ok

AGE_S = 0.2


async def test_an_idle_connection_is_closed_at_its_age() -> None:
    """Also one on which nothing was ever asked."""
    async with Upstream(answering()) as upstream, House(upstream, max_connection_age=AGE_S) as house:
        silent, client = await house.client(), await house.client()
        assert (await client.ask(GET)).one(b"connection") is None
        # Idle they might be for ten minutes.
        assert await client.read_eof() is End.FIN
        assert await silent.read_eof() is End.FIN


async def test_a_request_under_way_is_answered_with_close() -> None:
    """And the connection ends with that answer, not before."""
    async with Upstream() as upstream, House(upstream, max_connection_age=AGE_S) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        connection = next(iter(house.registry.clients))
        await house.until(lambda: connection._reuse is LAST)
        await application.send(OK)
        answer = await client.final()
        assert (answer.body, answer.one(b"connection")) == (b"ok", b"close")
        assert await client.read_eof() is End.FIN


async def test_what_was_pipelined_is_answered_and_the_last_one_closes() -> None:
    """Closing after the first would throw the others away."""
    async with Upstream() as upstream, House(upstream, max_connection_age=AGE_S) as house:
        client = await house.client()
        await client.send(get("/1") + get("/2") + get("/3"))
        application = await upstream.connection()
        connection = next(iter(house.registry.clients))
        await house.until(lambda: connection._reuse is LAST)
        for number in (b"1", b"2", b"3"):
            await application.read_request()
            await application.send(ok(number))
            answer = await client.final()
            assert (answer.body, answer.one(b"connection")) == (number, b"close" if number == b"3" else None)


async def test_a_request_that_meets_its_connections_age_is_answered() -> None:
    """It lay in the socket as the time came."""
    async with Upstream(answering()) as upstream, House(upstream, max_connection_age=60.0) as house:
        client = await house.client()
        await client.ask(GET)
        connection = next(iter(house.registry.clients))
        client.wire.send(GET)
        connection.grow_old()
        answer = await client.final()
        assert (answer.body, answer.one(b"connection")) == (b"ok", b"close")


async def test_ages_differ() -> None:
    """By up to a tenth either way: clients that came together do not come back together."""
    async with Upstream(answering()) as upstream, House(upstream, max_connection_age=100.0) as house:
        for _ in range(20):
            await (await house.client()).ask(GET)
        ages = [one._aging.when() - one.accepted_at for one in house.registry.clients]
        assert len({round(age, 3) for age in ages}) > 10
        assert min(ages) >= 90 - 0.01
        assert max(ages) <= 110 + 0.01


@pytest.mark.parametrize("age", [None, 60.0])
async def test_a_young_connection_is_kept(age: float | None) -> None:
    """By far the most are."""
    async with Upstream(answering()) as upstream, House(upstream, max_connection_age=age) as house:
        client = await house.client()
        for _ in range(3):
            assert (await client.ask(GET)).one(b"connection") is None
        assert (next(iter(house.registry.clients))._aging is None) is (age is None)


async def test_an_old_http2_connection_is_told_to_open_no_more_streams() -> None:
    """GOAWAY, and a PING to know that it was read; streams that are open go on."""
    async with Upstream() as upstream, House(upstream, max_connection_age=60.0) as house:
        client = Http2(await house.client())
        await client.introduce()
        application = Http2(await upstream.connection())
        await application.greet()
        await client.next(SETTINGS)
        await client.send(client.request(1))
        await application.next(HEADERS, 1)
        (connection,) = house.registry.clients
        assert 54 - 0.1 < connection._aging.when() - connection.accepted_at < 66 + 0.1
        connection.grow_old()
        await client.next(GOAWAY)
        ping = await client.next(PING)
        await client.send(frame(PING, ACK, 0, ping.payload))
        assert connection in house.registry.clients
        await client.send(frame(RST, 0, 1, bytes(4)))
        await house.until(lambda: not house.registry.clients)
        assert house.metrics.h2_goaway.value("age") == 1
