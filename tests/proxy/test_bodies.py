"""Request bodies: forwarded whole and as they come, never completed where they break off."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import Connection, Upstream
from tests.support.wire import End, turns
from tests.support.words import GET, OK, ok, post

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
MEGABYTE = bytes(range(256)) * 4096


async def answering_bodies(connection: Connection) -> None:
    """Answer with the body that came."""
    while (request := await connection.read_request()).ending is Ending.COMPLETE:
        await connection.send(ok(request.body))


@pytest.mark.parametrize("warm", [True, False], ids=["idle upstream", "no upstream"])
async def test_a_large_body_that_comes_at_once_is_forwarded_whole(warm: bool) -> None:
    """Also what comes while we still connect to the application."""
    async with Upstream(answering_bodies) as upstream, House(upstream) as house:
        client = await house.client()
        if warm:
            await client.ask(post(b"x"))
        sending = asyncio.ensure_future(client.send(post(MEGABYTE)))
        assert (await client.final()).body == MEGABYTE
        await sending


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "length"])
async def test_an_answer_and_a_body_pass_at_the_same_time(chunked: bool) -> None:
    """Full duplex: each piece is answered before the next one is sent, as some RPCs and uploads do."""
    pieces = [b"one", b"two", b"three"]
    length = b"Content-Length: %d\r\n" % len(b"".join(pieces))

    def framed(piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece

    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(
            CHUNKED + b"\r\n" if chunked else post(b"").replace(b"Content-Length: 0\r\n", length)
        )
        application = await upstream.connection()
        await application.read_head()
        await application.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.read_head()
        for piece in pieces:
            await client.send(framed(piece))
            assert await application.read_exactly(len(framed(piece))) == framed(piece)
            await application.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert await client.read_exactly(len(piece) + 5) == b"%x\r\n%b\r\n" % (len(piece), piece)
        await client.send(b"0\r\n\r\n" if chunked else b"")
        await application.send(b"0\r\n\r\n")
        assert await client.read_exactly(5) == b"0\r\n\r\n"


async def test_large_bodies_behind_each_other_are_forwarded_whole() -> None:
    """A pipelined body waits in the socket until its turn, and then is read."""
    async with Upstream(answering_bodies) as upstream, House(upstream) as house:
        client = await house.client()
        sending = asyncio.ensure_future(client.send(post(MEGABYTE) + post(MEGABYTE[:-1]) + post(b"x")))
        assert [len((await client.final()).body) for _ in range(3)] == [len(MEGABYTE), len(MEGABYTE) - 1, 1]
        await sending


async def test_a_body_is_forwarded_as_it_comes() -> None:
    """Nothing is held back until it is complete."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(post(b"abcdef")[:-4])
        application = await upstream.connection()
        assert (await application.read_head()).startswith(b"POST / HTTP/1.1\r\n")
        assert await application.read_exactly(2) == b"ab"
        await client.send(b"cd")
        assert await application.read_exactly(2) == b"cd"
        await client.send(b"ef" + GET)
        assert await application.read_exactly(2) == b"ef"
        await application.send(OK)
        assert (await client.final()).body == b"ok"
        assert (await application.read_request()).start == b"GET / HTTP/1.1"
        await application.send(OK)
        assert (await client.final()).body == b"ok"


async def test_a_chunked_body_is_chunked_afresh_with_its_trailers() -> None:
    """Sizes are ours, extensions gone; trailers that may go on go on, in order."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(
            CHUNKED + b"Trailer: X-Sum\r\nX-Hop: 0\r\nConnection: X-Hop\r\n\r\n"
            b"0003;ext=1\r\nabc\r\n2\r\nde\r\n000\r\nX-Sum:  9 \r\nX-Hop: 1\r\nContent-Length: 7\r\n\r\n"
        )
        application = await upstream.connection()
        request = await application.read_request()
        assert request.ending is Ending.COMPLETE
        assert request.all(b"transfer-encoding") == [b"chunked"]
        assert request.one(b"trailer") == b"X-Sum"
        assert (request.body, request.trailers) == (b"abcde", [(b"X-Sum", b"9")])
        assert request.raw.endswith(b"5\r\nabcde\r\n0\r\nX-Sum: 9\r\n\r\n")
        await application.send(OK)
        assert (await client.final()).status == 200


@pytest.mark.parametrize("chunk", [64, 1000, 8 * 1024, 64 * 1024, 300_000], ids=lambda size: f"of {size}")
async def test_a_large_chunked_body_is_whole_behind_an_application_that_reads_late(chunk: int) -> None:
    """What is not copied on its way stays what it was, also where the socket takes only a part of it."""
    body = MEGABYTE * 8
    raw = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part)
        for part in (body[at : at + chunk] for at in range(0, len(body), chunk))
    )
    async with Upstream(receive_buffer=16 * 1024) as upstream, House(upstream) as house:
        client = await house.client()
        sending = asyncio.ensure_future(client.send(CHUNKED + b"\r\n" + raw + b"0\r\nX-Sum: 1\r\n\r\n"))
        application = await upstream.connection()
        await house.until(lambda: any(each.held_back for each in house.registry.clients))
        request = await application.read_request()
        await sending
        assert request.ending is Ending.COMPLETE
        assert request.body == body
        assert request.trailers == [(b"X-Sum", b"1")]
        await application.send(OK)
        assert (await client.final()).status == 200


async def test_a_chunked_body_byte_by_byte_is_the_same_body() -> None:
    """Each byte a chunk of its own on the other side, perhaps; the payload is the same."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send_bytewise(CHUNKED + b"\r\nb\r\nhello world\r\n0\r\nX: y\r\n\r\n" + GET)
        application = await upstream.connection()
        request = await application.read_request()
        assert (request.body, request.trailers) == (b"hello world", [(b"X", b"y")])
        await application.send(OK)
        assert (await client.final()).status == 200
        # What follows a trailer goes on a connection of its own (reuse.py).
        another = await upstream.connection()
        assert (await another.read_request()).start == b"GET / HTTP/1.1"
        await another.send(OK)
        assert (await client.final()).status == 200


BROKEN = {
    "a bad size": b"zz\r\n",
    "a chunk that is too long": b"1\r\nabc\r\n0\r\n\r\n",
    "a bare LF": b"1\na\r\n0\r\n\r\n",
    "a bad trailer": b"1\r\na\r\n0\r\nbad\r\n\r\n",
    "a size beyond everything": b"fffffffffffffffff\r\n",
}


@pytest.mark.parametrize("later", [True, False], ids=["after a good chunk", "at once"])
@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
async def test_a_body_that_breaks_never_completes(raw: bytes, later: bool) -> None:
    """The application's connection ends without an end of the body; the client gets 400 and the end."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        if later:
            await client.send(CHUNKED + b"\r\n3\r\nabc\r\n")
            application = await upstream.connection()
            await application.read_to(b"3\r\nabc\r\n")
            await client.send(raw)
        else:
            await client.send(CHUNKED + b"\r\n" + raw)
            application = await upstream.connection()
        error = await client.final()
        assert (error.status, error.one(b"connection")) == (400, b"close")
        assert b"malformed-body" in error.body
        assert not (await application.read_until_close()).endswith(b"0\r\n\r\n")
        assert await client.read_eof() is End.FIN


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize(
    "head", [CHUNKED + b"\r\n3\r\nabc\r\n", post(b"abcdef")[:-3]], ids=["chunks", "length"]
)
async def test_a_body_that_breaks_off_aborts_the_request(head: bytes, how: str) -> None:
    """The application must not take a part for the whole (RFC 9112 section 8)."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(head)
        application = await upstream.connection()
        await application.read_to(b"abc")
        client.half_close() if how == "fin" else client.reset()
        assert (await application.read_until_close()) in {b"", b"\r\n"}
        if how == "fin":
            await client.read_eof()


async def test_half_a_body_and_a_half_close_abort_the_request_where_half_closing_is_allowed() -> None:
    """Also if both came before there was a connection to the application."""
    async with Upstream() as upstream, House(upstream, allow_half_close=True) as house:
        client = await house.client()
        client.wire.send(post(b"abcdef")[:-3])
        client.half_close()
        await client.read_eof()
        await house.until(lambda: house.pool.active_count == 0)


async def test_an_early_answer_is_relayed_and_the_connection_ends() -> None:
    """Final while the body still comes: the answer goes to the client, and nothing else is sent on it."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(post(b"x" * 100_000)[:50_000])
        application = await upstream.connection()
        await application.read_head()
        await application.send(b"HTTP/1.1 413 Too much\r\nContent-Length: 3\r\n\r\nbig")
        response = await client.final()
        assert (response.status, response.body, response.one(b"connection")) == (413, b"big", b"close")
        await client.send(b"x" * 1000)
        assert await client.read_eof() is End.FIN
        await application.read_until_close()
        assert house.pool.idle_count == 0


async def test_an_early_answer_reaches_a_client_that_goes_on_sending() -> None:
    """A bounded rest is read and thrown away, so that no reset destroys the answer on its way."""

    async def refuse(connection: Connection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 413 X\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")

    async with Upstream(refuse) as upstream, House(upstream) as house:
        for _ in range(20):
            client = await house.client()
            sending = asyncio.ensure_future(client.send(post(b"x" * 500_000)))
            response = await client.final()
            assert (response.status, response.body, response.ending) == (413, b"big", Ending.COMPLETE)
            await asyncio.gather(sending, return_exceptions=True)
            client.close()


async def test_an_answer_before_the_body_was_taken_does_not_stall_the_next_request() -> None:
    """An application may answer what it has not read; the next body is read all the same."""
    async with Upstream(receive_buffer=4096) as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(CHUNKED + b"\r\n")
        application = await upstream.connection()
        await application.read_head()
        transport = next(iter(house.pool._open)).transport
        piece = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
        while transport.get_write_buffer_size() <= 50_000:
            await client.send(piece)
            await turns(20)
        # The last bytes of the body are what fills the transport: it asks for a pause, and the body is over.
        await client.send(piece * 3 + b"0\r\n\r\n")
        await house.until(lambda: house.inflight.works and next(iter(house.inflight)).request_read)
        assert transport.get_write_buffer_size() > 64 * 1024
        await application.send(OK)
        assert (await client.final()).one(b"connection") is None
        sending = asyncio.ensure_future(client.send(post(MEGABYTE)))
        other = await upstream.connection()
        assert (await other.read_request()).body == MEGABYTE
        await other.send(OK)
        assert (await client.final()).status == 200
        await sending


async def test_expect_is_forwarded_and_the_applications_100_relayed() -> None:
    """The application decides; the body goes on as soon as it comes (RFC 9110 section 10.1.1)."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        application = await upstream.connection()
        assert b"\r\nExpect: 100-continue\r\n" in await application.read_head()
        await application.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert (await client.read_response()).raw == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        assert await application.read_exactly(3) == b"abc"
        await application.send(OK)
        response = await client.final()
        assert (response.status, response.one(b"connection")) == (200, None)


async def test_a_body_goes_on_without_waiting_for_100() -> None:
    """A client need not wait, and neither do we."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
        )
        application = await upstream.connection()
        assert (await application.read_request()).body == b"abc"
        await application.send(OK)
        assert (await client.final()).status == 200


async def test_a_final_answer_to_expect_ends_both_connections() -> None:
    """The body was never sent: nobody knows whether it still comes."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        application = await upstream.connection()
        await application.read_head()
        await application.send(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        response = await client.final()
        assert (response.status, response.one(b"connection")) == (417, b"close")
        assert await application.read_until_close() == b""
        assert house.pool.idle_count == 0
