"""A client that leaves takes its request with it: the application's connection ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.downstream.states import CLOSED
from drainproxy.proxy.wire.run_queue import READERS_A_TURN
from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import Connection, Upstream, answering
from tests.support.wire import End, turns
from tests.support.words import GET, OK, get, ok, post

if TYPE_CHECKING:
    from tests.support.client import Client

each_way = pytest.mark.parametrize("how", ["fin", "reset", "close"])


def leave(client: Client, how: str) -> None:
    """Go, in one of three ways."""
    {"fin": client.half_close, "reset": client.reset, "close": client.close}[how]()


async def gone_soon(application: Connection) -> None:
    """The application sees the end of its connection, long before any time-out would end it."""
    await application.read_until_close()


@each_way
async def test_a_client_that_leaves_before_the_answer_ends_the_request(how: str) -> None:
    """The application need not go on for nobody."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        leave(client, how)
        await gone_soon(application)
        await house.until(lambda: not house.registry.clients)
        assert house.requests() == {("GET", "499", "serving"): 1}
        assert house.metrics.errors.value("client-gone") == 1
        assert house.refused() == {}


@each_way
async def test_a_client_that_leaves_in_the_middle_of_the_answer_ends_it(how: str) -> None:
    """Whatever the application still has to say."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await client.read_to(b"abc")
        leave(client, how)
        await gone_soon(application)


async def test_a_client_that_leaves_before_its_socket_has_the_answer_was_not_refused() -> None:
    """The application has answered already; its connection is somebody else's by now."""
    async with Upstream() as upstream, House(upstream, send_buffer=4096) as house:
        client, _ = await house.unread(upstream, GET, ok(b"x" * 60_000))
        client.reset()
        await house.until(lambda: not house.registry.clients)
        assert house.refused() == {}
        assert house.metrics.errors.value("client-gone") == 1
        assert [(line["reason"], line["sent"]) for line in house.access] == [("client-gone", True)]


@each_way
async def test_a_client_that_leaves_in_the_middle_of_its_body_ends_the_request(how: str) -> None:
    """What came is no request."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(post(b"abcdef")[:-3])
        application = await upstream.connection()
        await application.read_to(b"abc")
        leave(client, how)
        await gone_soon(application)


@each_way
async def test_a_client_that_leaves_behind_pipelined_requests_is_noticed(how: str) -> None:
    """Reading goes on during an exchange: a paused transport would report nothing."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET * 3)
        application = await upstream.connection()
        await application.read_request()
        leave(client, how)
        await gone_soon(application)
        await house.until(lambda: not house.registry.clients)
        assert upstream.accepted == 1


async def test_a_client_that_leaves_after_much_was_pipelined_is_noticed_once_it_can_be() -> None:
    """Reading pauses at 64 KiB ahead and goes on as soon as less is waiting."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        many = get("/", "X: " + "y" * 8000)
        await client.send(many * 12)
        application = await upstream.connection()
        for _ in range(8):
            await application.read_request()
            await application.send(OK)
            await client.final()
        await application.read_request()
        client.reset()
        await gone_soon(application)


async def ask_unread(house: House, client: Client, most: int) -> int:
    """Ask up to so many times and read nothing; return how many answers the sockets have taken whole."""
    await house.until(lambda: len(house.registry.clients) == 1)
    (connection,) = house.registry.clients
    for count in range(most):
        before = len(house.access)
        await client.send(GET)
        await house.until(lambda seen=before: len(house.access) > seen or connection.write_paused)
        if len(house.access) == before:
            return count
    return most


async def test_a_client_that_half_closed_and_reads_nothing_is_let_go() -> None:
    """The last answer waits for it as long as for anybody, and no longer."""
    async with (
        Upstream(answering(ok(b"x" * 50))) as upstream,
        House(upstream, allow_half_close=True, send_buffer=4096, linger_s=0.1) as house,
    ):
        first = await house.client(receive_buffer=4096)
        taken = await ask_unread(house, first, 10_000)
        first.reset()
        await house.until(lambda: not house.registry.clients)
        client = await house.client(receive_buffer=4096)
        assert await ask_unread(house, client, taken - 1) == taken - 1
        client.wire.send(GET + b"no request\r\n\r\n")
        client.half_close()
        await house.until(lambda: not house.registry.clients, "it is waited for without end")


async def test_a_client_that_leaves_while_we_connect_is_not_connected_for() -> None:
    """The claim ends with it."""
    async with House("http://127.0.0.1:1", up=False, connect_timeout=30.0) as house:
        client = await house.client()
        await client.send(GET)
        await house.until(lambda: len(house.inflight) == 1)
        client.reset()
        await house.until(lambda: not len(house.inflight))
        house.controller.upstream_answers()


async def test_a_client_that_does_not_read_and_leaves_is_noticed() -> None:
    """Held back by a full socket, the response waits; the reset ends it."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client(receive_buffer=4096)
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        await application.send_until_stuck(b"x" * 100_000, 50_000_000)
        client.reset()
        await gone_soon(application)


async def test_a_client_that_leaves_while_its_answer_waits_in_the_socket_is_noticed() -> None:
    """The application's connection is free already; the exchange ends with the client."""
    async with Upstream() as upstream, House(upstream, send_buffer=4096) as house:
        client, _ = await house.unread(upstream, GET, ok(b"x" * 60_000))
        assert len(house.inflight) == 1
        client.reset()
        await house.until(lambda: not len(house.inflight))


async def test_an_answer_that_waits_in_the_socket_is_work_until_it_is_delivered() -> None:
    """A drain waits for it; then the connection carries the next request."""
    async with Upstream() as upstream, House(upstream, send_buffer=4096) as house:
        client, application = await house.unread(upstream, GET, ok(b"x" * 60_000))
        assert len(house.inflight) == 1
        assert house.access == []
        assert len((await client.final()).body) == 60_000
        await house.until(lambda: not len(house.inflight))
        await client.send(GET)
        await application.read_request()
        await application.send(ok(b"y" * 200_000))
        assert len((await client.final()).body) == 200_000


async def test_a_client_that_leaves_while_its_body_is_held_back_is_noticed() -> None:
    """The application takes no more of it; reading is paused, and the client gives up with a reset.

    A FIN would stand behind the bytes that nobody takes, unseen.
    """
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(post(b"x" * 100_000_000)[:200])
        application = await upstream.connection()
        await application.read_head()
        await client.send_until_stuck(b"x" * 100_000, 90_000_000)
        client.reset()
        # The application takes nothing and says nothing: no one else would tell.
        await house.until(lambda: not len(house.inflight))
        application.close()


async def test_an_error_for_a_client_that_has_closed_unseen_leaves_nothing() -> None:
    """Its end stands behind bytes that are not read; the reply meets a closed door, and that is all."""
    async with Upstream(receive_buffer=4096) as upstream, House(upstream) as house:
        for _ in range(5):
            client = await house.client()
            await client.send(post(b"x" * 100_000_000)[:200])
            application = await upstream.connection()
            await application.read_head()
            await client.send_until_stuck(b"x" * 100_000, 90_000_000, quiet_s=0.1)
            client.close()
            await turns(5)
            application.close()
            await house.until(lambda: not len(house.inflight))
            await house.until(lambda: not house.pool.active_count, "a connection stays in the books")


# Where half-closing is allowed.


async def test_with_allow_half_close_a_client_that_half_closed_gets_its_answer() -> None:
    """And the end, since nothing else can come."""
    async with Upstream() as upstream, House(upstream, allow_half_close=True) as house:
        client = await house.client()
        await client.send(GET)
        client.half_close()
        application = await upstream.connection()
        await application.read_request()
        await turns(20)
        await application.send(OK)
        response = await client.final()
        assert (response.status, response.one(b"connection")) == (200, b"close")
        assert await client.read_eof() is End.FIN


async def test_with_allow_half_close_everything_pipelined_is_answered() -> None:
    """All of it came before the end."""
    async with Upstream() as upstream, House(upstream, allow_half_close=True) as house:
        client = await house.client()
        client.wire.send(get("/1") + post(b"two", path="/2") + get("/3"))
        client.half_close()
        application = await upstream.connection()
        for number in (1, 2, 3):
            request = await application.read_request()
            assert request.start.split(b" ")[1] == b"/%d" % number
            await application.send(ok(b"%d" % number))
            response = await client.final()
            assert response.body == b"%d" % number
            assert response.one(b"connection") == (b"close" if number == 3 else None)
        assert await client.read_eof() is End.FIN


async def test_with_allow_half_close_an_error_reply_is_sent_too() -> None:
    """503, and what was pipelined behind it."""
    async with House("http://127.0.0.1:1", allow_half_close=True) as house:
        client = await house.client()
        client.wire.send(GET * 2)
        client.half_close()
        assert [(await client.final()).status for _ in range(2)] == [503, 503]
        await client.read_eof()


async def test_with_allow_half_close_a_reset_still_ends_the_request() -> None:
    """That is not half."""
    async with Upstream() as upstream, House(upstream, allow_half_close=True) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        client.reset()
        await gone_soon(application)


async def test_a_refused_client_that_half_closed_reads_its_refusal() -> None:
    """A bad request and the end in one go: the answer is on its way before the end is seen."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        client.wire.send(b"BAD\r\n\r\n")
        client.half_close()
        response = await client.final()
        assert (response.status, response.ending) == (400, Ending.COMPLETE)


async def test_while_its_end_waits_for_its_turn_its_answer_is_not_read_and_its_place_is_free() -> None:
    """Where thousands leave at once: their answers were read on and thrown away, for seconds."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc")
        await client.read_to(b"abc")
        (side,), (connection,) = house.registry.clients, house.pool._open
        seen: list[tuple[bool, int]] = []

        def before() -> None:
            if side.state is CLOSED:
                seen.append((connection.held, len(house.connection_limit._taken)))

        for _ in range(2_000 * READERS_A_TURN):
            house.buffers.run_queue.add(before)
        client.reset()
        await house.until(lambda: not house.registry.clients)
        assert seen[0] == (True, 0)
        await gone_soon(application)
