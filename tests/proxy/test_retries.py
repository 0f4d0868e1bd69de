"""A request that meets a close on a connection that idled: sent again once, if that cannot do it twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import Connection, Upstream, answering
from tests.support.wire import End, turns
from tests.support.words import GET, OK, post

if TYPE_CHECKING:
    from tests.support.client import Client


async def warmed(house: House, upstream: Upstream) -> tuple[Client, Connection]:
    """A client, and a connection to the application that has carried one request and idles."""
    client = await house.client()
    await client.send(GET)
    application = await upstream.connection()
    await application.read_request()
    await application.send(OK)
    assert (await client.final()).status == 200
    await house.until(lambda: house.pool.idle_count == 1)
    return client, application


def request(method: str) -> bytes:
    """A request without a body."""
    return f"{method} /again HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_an_idempotent_request_on_a_connection_that_closes_is_sent_again(method: str, how: str) -> None:
    """The application read it, perhaps, and closed without a byte (RFC 9112 section 9.3.1)."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await warmed(house, upstream)
        await client.send(request(method))
        await application.read_request()
        application.close() if how == "fin" else application.reset()
        second = await upstream.connection()
        assert (await second.read_request()).start == f"{method} /again HTTP/1.1".encode()
        await second.send(OK)
        assert (await client.final(method)).status == 200
        assert house.metrics.retries.value() == 1
        assert upstream.accepted == 2


async def test_it_is_sent_again_only_once() -> None:
    """The second close is an answer of a kind: 502."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await warmed(house, upstream)
        await client.send(GET)
        await application.read_request()
        application.close()
        second = await upstream.connection()
        await second.read_request()
        second.close()
        response = await client.final()
        assert (response.status, response.one(b"connection")) == (502, None)
        assert b"upstream-gone" in response.body
        assert house.metrics.retries.value() == 1
        assert upstream.accepted == 2


async def test_a_fresh_connection_that_closes_is_not_tried_again() -> None:
    """It cannot have closed for idleness: the application means it."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        application.close()
        assert (await client.final()).status == 502
        assert (house.metrics.retries.value(), upstream.accepted) == (0, 1)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_what_might_be_done_twice_is_not_sent_again(method: str) -> None:
    """The application may have done it before it closed."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await warmed(house, upstream)
        await client.send(request(method))
        await application.read_request()
        application.close()
        assert (await client.final()).status == 502
        assert (house.metrics.retries.value(), upstream.accepted) == (0, 1)


@pytest.mark.parametrize("sent", [b"x" * 10, b"x" * 3], ids=["whole", "in part"])
async def test_a_request_with_a_body_is_not_sent_again(sent: bytes) -> None:
    """Its bytes are gone, whatever its method."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await warmed(house, upstream)
        await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n" + sent)
        await application.read_head()
        await application.read_exactly(len(sent))
        application.close()
        response = await client.final()
        assert response.status == 502
        assert (response.one(b"connection") == b"close") is (len(sent) < 10)
        assert (house.metrics.retries.value(), upstream.accepted) == (0, 1)


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_once_a_byte_of_the_answer_has_come_nothing_is_sent_again(said: bytes) -> None:
    """The application had begun."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await warmed(house, upstream)
        await client.send(GET)
        await application.read_request()
        await application.send(said)
        await turns(10)
        application.close()
        assert (await client.final()).status == 502
        assert (house.metrics.retries.value(), upstream.accepted) == (0, 1)


async def test_when_the_second_connection_is_refused_the_client_is_reset() -> None:
    """The application has gone meanwhile; the client may ask another pod, and would not after an error."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await warmed(house, upstream)
        await client.send(GET)
        await application.read_request()
        await upstream.close()
        assert not await client.read_until_close()
        assert client.end is End.RESET
        assert house.metrics.errors.value("upstream-refused") == 1


async def test_gets_survive_an_application_that_closes_after_every_answer_unannounced() -> None:
    """It says keep-alive and closes all the same: not one of a hundred fails."""

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(OK)

    async with Upstream(handle) as upstream, House(upstream) as house:
        client = await house.client()
        for _ in range(100):
            assert (await client.ask(GET)).status == 200


async def test_posts_survive_an_application_with_a_short_keep_alive() -> None:
    """It closes idle connections after 1 s, and no POST at any distance meets that close."""
    async with Upstream(answering(), keep_alive_s=1.0) as upstream, House(upstream) as house:

        async def one(gap_s: float) -> list[int]:
            client = await house.client()
            statuses = []
            for _ in range(4):
                statuses.append((await client.ask(post(b"x"))).status)
                await asyncio.sleep(gap_s)
            return statuses

        gaps = [0.2 + 0.02 * number for number in range(55)] + [
            0.99 + 0.0005 * number for number in range(40)
        ]
        statuses = await asyncio.gather(*(one(gap) for gap in gaps))
        assert {status for some in statuses for status in some} == {200}
        assert upstream.accepted > 1


async def test_posts_survive_an_application_that_closes_without_a_word() -> None:
    """A moment after each answer. One POST at most meets that; the others take connections of their own."""

    async def answer_once(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(OK)
        await turns(connection.number % 12)

    async with Upstream(answer_once) as upstream, House(upstream) as house:
        client = await house.client()
        statuses = [(await client.ask(post(b"x"))).status for _ in range(60)]
        assert statuses.count(200) >= 59
        assert upstream.accepted >= 59


async def test_an_idle_connection_that_is_closed_young_is_a_warning() -> None:
    """Nothing was lost by it; the next POST takes no connection that was used before."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await warmed(house, upstream)
        application.close()
        await house.until(lambda: house.pool.open_count == 0)
        for _ in range(2):
            await client.send(post(b"x"))
            application = await upstream.connection()
            await application.read_request()
            await application.send(OK)
            assert (await client.final()).status == 200


async def test_a_retried_request_that_answers_is_one_request_in_the_books() -> None:
    """Counted once, with its answer."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await warmed(house, upstream)
        await client.send(GET)
        await application.read_request()
        application.close()
        second = await upstream.connection()
        await second.read_request()
        await second.send(OK)
        response = await client.final()
        assert response.ending is Ending.COMPLETE
        await house.until(lambda: len(house.access) == 2)
        assert house.requests() == {("GET", "200", "serving"): 2}
