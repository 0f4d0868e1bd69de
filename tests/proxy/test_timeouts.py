"""Every wait has an end: heads, idleness, connects, answers, whole exchanges."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.house import House
from tests.support.message import Ending, Message
from tests.support.upstream import Upstream, answering
from tests.support.wire import End
from tests.support.words import GET, GET_1_0, OK, post

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT_S = 0.2


def assert_error(response: Message, status: int, reason: str) -> None:
    """A complete error reply of ours."""
    assert (response.status, response.ending) == (status, Ending.COMPLETE)
    assert reason in response.body.decode()
    assert f'details="{reason}"'.encode() in (response.one(b"proxy-status") or b"")


# Heads and idle clients.


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", GET[:-1]])
async def test_a_head_that_does_not_end_is_a_408(sent: bytes) -> None:
    """Counted from its first byte, however much came."""
    async with Upstream() as upstream, House(upstream, head_timeout=SHORT_S) as house:
        client = await house.client()
        await client.send(sent)
        response = await client.final()
        assert_error(response, 408, "head-timeout")
        assert response.one(b"connection") == b"close"
        assert await client.read_eof() is End.FIN
        assert upstream.accepted == 0


async def test_bytes_do_not_buy_a_head_more_time() -> None:
    """One byte now and then is how connections are held for ever."""
    async with Upstream() as upstream, House(upstream, head_timeout=SHORT_S) as house:
        client = await house.client()
        with contextlib.suppress(OSError):
            for byte in GET[:-2] * 100:
                await client.send(bytes([byte]))
                if await ended_soon(client):
                    break
            else:
                pytest.fail("it goes on as long as bytes come")
        assert_error(await client.final(), 408, "head-timeout")


async def test_a_byte_in_the_turn_of_the_time_out_does_not_prevent_it() -> None:
    """Whatever comes first in a turn of the loop, the head is late."""
    async with Upstream() as upstream, House(upstream, head_timeout=60.0) as house:
        client = await house.client()
        await client.send(b"GET / HT")
        await house.until(lambda: len(house.inflight) == 1)
        connection = next(iter(house.registry.clients))
        connection.data_received(b"T")
        connection.expired()
        assert_error(await client.final(), 408, "head-timeout")


async def test_a_second_head_has_its_own_time() -> None:
    """Idleness before it does not count."""
    async with Upstream(answering()) as upstream, House(upstream, head_timeout=SHORT_S) as house:
        client = await house.client()
        for _ in range(3):
            assert (await client.ask(GET)).status == 200
            assert not await ended_soon(client, 1.5 * SHORT_S)
        await client.send(b"GET")
        assert_error(await client.final(), 408, "head-timeout")


async def test_a_client_that_says_nothing_is_closed_in_silence() -> None:
    """Idle for too long, before a request or after one: no bytes, just the end."""
    async with Upstream(answering()) as upstream, House(upstream, keepalive_idle=SHORT_S) as house:
        silent, used = await house.client(), await house.client()
        assert (await used.ask(GET)).status == 200
        assert await silent.read_eof() is End.FIN
        assert await used.read_eof() is End.FIN
        assert len(house.access) == 1


async def test_a_request_that_meets_the_idle_time_out_is_answered() -> None:
    """It lay in the socket as the time came: timers run before sockets are read."""
    async with Upstream(answering()) as upstream, House(upstream, keepalive_idle=60.0) as house:
        client = await house.client()
        await client.ask(GET)
        connection = next(iter(house.registry.clients))
        client.wire.send(GET)
        connection.expired()
        assert (await client.final()).body == b"ok"
        connection.expired()
        assert await client.read_eof() is End.FIN


async def test_a_working_client_is_not_idle() -> None:
    """The idle time runs between requests, not during one."""
    async with Upstream() as upstream, House(upstream, keepalive_idle=SHORT_S) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        assert not await ended_soon(client, 2 * SHORT_S)
        await application.send(OK)
        assert (await client.final()).status == 200


# Connecting.


def closed_port() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as wire:
        return f"http://127.0.0.1:{wire.getsockname()[1]}"


@contextlib.contextmanager
def silent_port() -> Iterator[str]:
    """An address that answers no connect: its queue is full."""
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(wire.getsockname())
        yield f"http://127.0.0.1:{wire.getsockname()[1]}"


async def test_an_application_that_refuses_is_a_503_and_the_client_may_ask_again() -> None:
    """It is not up; the connection to the client is fine."""
    async with House(closed_port()) as house:
        client = await house.client()
        for _ in range(3):
            response = await client.ask(GET)
            assert_error(response, 503, "upstream-refused")
            assert response.one(b"retry-after") == b"1"
            assert response.one(b"connection") is None
        assert house.metrics.upstream_connects.value("refused") == 3


@pytest.mark.parametrize("request_", [GET_1_0, post(b"x" * 10)[:-5]], ids=["1.0", "a body to come"])
async def test_a_503_closes_where_it_must(request_: bytes) -> None:
    """A 1.0 client, or a body that nobody will read."""
    async with House(closed_port()) as house:
        client = await house.client()
        await client.send(request_)
        response = await client.final()
        assert_error(response, 503, "upstream-refused")
        assert response.one(b"connection") == b"close"
        assert await client.read_eof() is End.FIN


async def test_a_socket_that_is_not_there_is_a_503(tmp_path) -> None:
    """The application has not made it yet."""
    async with House(f"unix:{tmp_path}/none.sock") as house:
        client = await house.client()
        assert_error(await client.ask(GET), 503, "upstream-refused")


async def test_a_connect_that_is_not_answered_is_a_504() -> None:
    """In `connect_timeout`, and the client may ask again."""
    with silent_port() as address:
        async with House(address, connect_timeout=SHORT_S) as house:
            client = await house.client()
            response = await client.ask(GET)
            assert_error(response, 504, "connect-timeout")
            assert response.one(b"connection") is None
            assert house.metrics.upstream_connects.value("timeout") == 1


async def test_while_starting_a_refused_connect_is_retried_until_the_application_answers() -> None:
    """The first requests of a pod wait for their application."""
    address = closed_port()
    async with House(address, up=False) as house:
        client = await house.client()
        await client.send(GET)
        await house.until(lambda: house.metrics.upstream_connects.value("refused") == 1)
        wire = socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))
        wire.setblocking(False)
        try:
            house.controller.upstream_answers()
            application, _ = await house.loop.sock_accept(wire)
            assert (await house.loop.sock_recv(application, 100)).startswith(b"GET / HTTP/1.1\r\n")
            await house.loop.sock_sendall(application, OK)
            assert (await client.final()).body == b"ok"
            application.close()
        finally:
            wire.close()


async def test_while_starting_an_application_that_does_not_come_is_a_503() -> None:
    """After `connect_timeout`, with Retry-After."""
    async with House(closed_port(), up=False, connect_timeout=SHORT_S) as house:
        client = await house.client()
        response = await client.ask(GET)
        assert_error(response, 503, "upstream-refused")
        assert response.one(b"retry-after") == b"1"


async def test_an_application_that_came_and_went_is_not_asked_without_end() -> None:
    """Up by its probe and refusing all the same: a few connects, no spinning."""
    async with House(closed_port(), up=False) as house:
        client = await house.client()
        await client.send(GET)
        await house.until(lambda: house.metrics.upstream_connects.value("refused") == 1)
        house.controller.upstream_answers()
        assert_error(await client.final(), 503, "upstream-refused")
        assert house.metrics.upstream_connects.value("refused") < 10


# Answers.


async def test_no_response_head_in_time_is_a_504() -> None:
    """And the application's connection ends with it."""
    async with Upstream() as upstream, House(upstream, response_head_timeout=SHORT_S) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200")
        response = await client.final()
        assert_error(response, 504, "response-head-timeout")
        assert response.one(b"connection") is None
        await application.read_until_close()
        assert house.pool.idle_count == 0


async def test_a_response_whose_head_came_in_time_may_take_its_time() -> None:
    """`response_head_timeout` is for the head."""
    async with Upstream() as upstream, House(upstream, response_head_timeout=SHORT_S) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(OK[:-1])
        await client.read_head()
        await client.read_exactly(1)
        assert not await ended_soon(client, 2 * SHORT_S)
        await application.send(b"k")
        assert await client.read_exactly(1) == b"k"


async def test_an_exchange_that_takes_too_long_is_a_504() -> None:
    """Before its answer began."""
    async with Upstream() as upstream, House(upstream, total_timeout=SHORT_S) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        assert_error(await client.final(), 504, "total-timeout")
        await application.read_until_close()


@pytest.mark.parametrize("name", ["response_head_timeout", "total_timeout"])
async def test_a_client_that_has_not_sent_its_body_in_time_is_told_408(name: str) -> None:
    """It is not the application that is late, and it is not called so."""
    async with Upstream() as upstream, House(upstream, **{name: SHORT_S}) as house:
        client = await house.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        application = await upstream.connection()
        assert_error(await client.final(), 408, "body-timeout")
        await application.read_until_close()
        assert {reason for (reason,), n in house.metrics.errors.values.items() if n} == {"body-timeout"}


@pytest.mark.parametrize("name", ["response_head_timeout", "total_timeout"])
async def test_an_application_that_does_not_take_a_body_is_late_itself(name: str) -> None:
    """The client would go on sending, and is held back: 504."""
    async with Upstream(receive_buffer=4096) as upstream, House(upstream, **{name: SHORT_S}) as house:
        client = await house.client()
        sending = asyncio.ensure_future(
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + bytes(8_000_000))
        )
        await upstream.connection()
        reason = "response-head-timeout" if name.startswith("response") else "total-timeout"
        assert_error(await client.final(), 504, reason)
        sending.cancel()


async def test_an_exchange_that_takes_too_long_is_cut() -> None:
    """Once its answer has begun: a reset, which nobody takes for the end."""
    async with Upstream() as upstream, House(upstream, total_timeout=SHORT_S) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await client.read_to(b"abc\r\n")
        assert await client.read_until_close() == b""
        assert client.end is End.RESET
        await application.read_until_close()


async def test_each_request_has_its_own_total_timeout() -> None:
    """A connection may live longer than any of its requests."""
    async with Upstream(answering()) as upstream, House(upstream, total_timeout=SHORT_S) as house:
        client = await house.client()
        for _ in range(3):
            assert (await client.ask(GET)).status == 200
            assert not await ended_soon(client, 0.7 * SHORT_S)


async def test_a_client_that_does_not_take_its_answer_is_cut_by_the_total_timeout() -> None:
    """The time holds until the last byte is delivered."""
    async with Upstream() as upstream, House(upstream, total_timeout=SHORT_S, send_buffer=4096) as house:
        client = await house.client(receive_buffer=4096)
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)
        await house.until(lambda: not len(house.inflight))
        await client.read_until_close()
        assert client.end is End.RESET


async def ended_soon(client, within_s: float = 0.01) -> bool:
    """Tell whether the client has something to read, or an end, within so long."""
    try:
        async with asyncio.timeout(within_s):
            await client.more()
    except TimeoutError:
        return False
    return True
