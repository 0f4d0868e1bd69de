"""Who does not read is waited for: a stream holds little memory, whatever one turn of the loop brings."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.house import House
from tests.support.upstream import Upstream
from tests.support.words import GET, GET_1_0, OK, ok, post

READ_BYTES = 256 * 1024
"""What a loop reads at once. libuv reads one stream up to 32 times in a turn, unless it is told to pause."""

ROOM_BYTES = 512 * 1024


CHUNK = b"%x\r\n%b\r\n" % (READ_BYTES // 4, b"x" * (READ_BYTES // 4))
READS = {"length": b"x" * READ_BYTES, "chunks": CHUNK * 4}
"""A read, by how the body is framed."""


@pytest.mark.parametrize("framing", READS)
async def test_one_turn_of_a_response_is_held_back_before_it_is_too_much(framing: str) -> None:
    """The pause takes effect between two reads of the same turn."""
    field = b"Content-Length: 100000000" if framing == "length" else b"Transfer-Encoding: chunked"
    async with Upstream() as upstream, House(upstream, send_buffer=4096) as house:
        client = await house.client(receive_buffer=4096)
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % field)
        await client.read_head()
        lent = next(iter(house.pool._open))
        taken = 0
        while taken < 32 * READ_BYTES and not lent.held:
            lent.data_received(READS[framing])
            taken += READ_BYTES
        assert taken <= ROOM_BYTES


@pytest.mark.parametrize("framing", READS)
async def test_one_turn_of_a_body_is_held_back_before_it_is_too_much(framing: str) -> None:
    """The same towards the application."""
    field = b"Content-Length: 100000000" if framing == "length" else b"Transfer-Encoding: chunked"
    async with Upstream(receive_buffer=4096) as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % field)
        application = await upstream.connection()
        await application.read_head()
        connection = next(iter(house.registry.clients))
        transport = next(iter(house.pool._open)).transport
        # Fill what the kernel takes between the two first.
        while not transport.get_write_buffer_size():
            connection.data_received(READS[framing])
            await asyncio.sleep(0)
        taken = 0
        while taken < 32 * READ_BYTES and not connection._reading_paused:
            connection.data_received(READS[framing])
            taken += READ_BYTES
        client.reset()
        assert taken <= ROOM_BYTES


@pytest.mark.parametrize("request_", [GET, GET_1_0], ids=["1.1", "1.0"])
async def test_a_stalled_client_holds_the_application_and_then_gets_every_byte(request_: bytes) -> None:
    """Nothing is lost or doubled over a pause."""
    body = bytes(range(256)) * 100_000
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(request_)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        sending = asyncio.ensure_future(
            application.send(b"".join(b"%x\r\n%b\r\n" % (len(body) // 10, part) for part in tenths(body)))
        )
        connection = next(iter(house.registry.clients))
        await house.until(lambda: connection.write_paused)
        assert connection.transport.get_write_buffer_size() < ROOM_BYTES
        assert not sending.done()
        await asyncio.sleep(0.1)
        reading = asyncio.ensure_future(client.final())
        await sending
        await application.send(b"0\r\n\r\n")
        response = await reading
        assert response.body == body


async def test_a_stalled_application_holds_the_client_and_then_gets_every_byte() -> None:
    """The other way round."""
    body = bytes(range(256)) * 100_000
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        sending = asyncio.ensure_future(client.send(post(body)))
        application = await upstream.connection()
        await application.read_head()
        connection = next(iter(house.registry.clients))
        await house.until(lambda: connection._reading_paused)
        assert not sending.done()
        assert next(iter(house.pool._open)).transport.get_write_buffer_size() < ROOM_BYTES
        await asyncio.sleep(0.1)
        assert await application.read_exactly(len(body)) == body
        await sending
        await application.send(OK)
        assert (await client.final()).status == 200


@pytest.mark.parametrize("whose", ["anybody's", "one client's"])
async def test_a_connection_that_was_held_back_is_read_from_again(whose: str) -> None:
    """A large answer that is complete holds its connection back as it is given back: the next answer on it
    comes all the same, to whoever may have it."""
    lines = ("WWW-Authenticate: NTLM",) if whose == "one client's" else ()
    async with Upstream() as upstream, House(upstream, send_buffer=4096) as house:
        client = await house.client(receive_buffer=4096)
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        (lent,) = house.pool._open
        # In one read, which the sockets would cut somewhere.
        lent.data_received(ok(b"x" * READ_BYTES, *lines))
        assert house.pool.idle_count == 1
        assert lent.transport.is_reading()
        assert (await client.final()).body == b"x" * READ_BYTES
        await client.send(GET)
        await application.read_request()
        await application.send(ok(b"next"))
        assert (await client.final()).body == b"next"
        assert upstream.accepted == 1


async def test_both_ways_at_once_neither_waits_for_the_other() -> None:
    """An application that answers while it reads: an echo of 4 MB through small sockets."""
    body = bytes(range(256)) * 16_000
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        sending = asyncio.ensure_future(client.send(post(body)))
        application = await upstream.connection()
        await application.read_head()
        await application.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))

        async def echo() -> None:
            left = len(body)
            while left:
                if not application.received:
                    assert await application.more(65_536)
                piece = application.take(left)
                left -= len(piece)
                await application.send(piece)

        echoing = asyncio.ensure_future(echo())
        response = await client.final()
        assert response.body == body
        await asyncio.gather(sending, echoing)


async def test_pipelined_requests_wait_in_the_socket() -> None:
    """Sixty-four kilobytes ahead, and no more, are read while one is answered."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await client.send_until_stuck(GET * 1000, 30_000_000)
        connection = next(iter(house.registry.clients))
        assert len(connection._ahead) <= 64 * 1024 + READ_BYTES
        await application.send(ok(b"first"))
        assert (await client.final()).body == b"first"
        await application.read_request()
        await upstream.close()


def tenths(body: bytes) -> list[bytes]:
    """Ten parts of one length."""
    size = len(body) // 10
    return [body[at : at + size] for at in range(0, len(body), size)]
