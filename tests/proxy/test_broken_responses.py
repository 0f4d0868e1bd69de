"""Answers that are none, say too much or break off: the client hears whose fault it is, or sees the break."""

from __future__ import annotations

import pytest

from tests.support.house import House
from tests.support.upstream import Connection, Upstream
from tests.support.wire import End, turns
from tests.support.words import GET, GET_1_0, OK, ok

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

# What is no good answer.

MALFORMED = {
    "no HTTP": b"hello\r\n\r\n",
    "a page": b"<html>\n</html>\n\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "a folded field": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "101 without a word": b"HTTP/1.1 101 Switching\r\n\r\n",
    "a status out of range": b"HTTP/1.1 099 What\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 What\r\n\r\n",
    "two lengths in one": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: 2, x\r\n\r\nok",
    "a length that is none, twice": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\nContent-Length: x\r\n\r\nok",
    "both framings behind DEL": (
        b"HTTP/1.1 200 OK\r\nX: \x7f\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok"
    ),
    "a space in a name behind DEL": b"HTTP/1.1 200 OK\r\nX: \x7f\r\nA b: c\r\n\r\n",
    "a folded line behind DEL": b"HTTP/1.1 200 OK\r\nX: \x7f\r\n b\r\n\r\n",
    "a bare LF behind DEL": b"HTTP/1.1 200 OK\r\nX: \x7f\nY: z\r\n\r\n",
    "another control character": b"HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "a bad first chunk": CHUNKED + b"zz\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000,
    "a reset in the head": b"",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_response_is_a_502_and_its_connection_ends(raw: bytes) -> None:
    """The client hears whose fault it is, keeps its connection; the application's is never used again."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        if raw:
            await application.send(raw)
        else:
            await application.send(b"HTTP/1.1 200")
            await turns(5)
            application.reset()
        response = await client.final()
        assert (response.status, response.one(b"connection")) == (502, None)
        assert b"drainproxy; error=" in (response.one(b"proxy-status") or b"")
        if raw:
            await application.read_until_close()
        assert house.pool.idle_count == 0
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(OK)
        assert (await client.final()).body == b"ok"


# What has one reading.

ODD = {
    "status 600": (b"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok", 600, b"ok"),
    "status 999": (b"HTTP/1.1 999 Request Denied\r\nContent-Length: 2\r\n\r\nok", 999, b"ok"),
    "one length twice": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\ncontent-length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
    "one length twice in one": (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", 200, b"ok"),
    "DEL": (b"HTTP/1.1 200 OK\r\nX: a\x7fb\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    "a blank behind a size": (CHUNKED + b"2 \r\nok\r\n0\r\n\r\n", 200, b"ok"),
    "blanks behind every size": (CHUNKED + b"2   \r\nok\r\n0\t \r\n\r\n", 200, b"ok"),
    "an extension that is none": (CHUNKED + b"2; {a b}\r\nok\r\n0;\r\n\r\n", 200, b"ok"),
    "DEL in a trailer": (CHUNKED + b"2\r\nok\r\n0\r\nX: \x7f\r\n\r\n", 200, b"ok"),
}


@pytest.mark.parametrize("way", ["whole", "bytewise"])
@pytest.mark.parametrize(("raw", "status", "body"), ODD.values(), ids=ODD)
async def test_an_odd_answer_with_one_reading_passes(raw: bytes, status: int, body: bytes, way: str) -> None:
    """Every other proxy passes it; framing is written afresh, so the client has one reading too. The
    application's connection is used again."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        for at in range(len(raw)) if way == "bytewise" else ():
            await application.send(raw[at : at + 1])
            await turns(1)
        if way == "whole":
            await application.send(raw)
        response = await client.final()
        assert (response.status, response.body) == (status, body)
        lengths = response.all(b"content-length")
        assert lengths == ([b"2"] if CHUNKED not in raw else [])
        if b"X: a" in raw:
            assert response.one(b"x") == b"a\x7fb"
        await client.send(GET)
        await application.read_request()
        await application.send(OK)
        assert (await client.final()).body == b"ok"
        assert upstream.accepted == 1


EXTRA = {
    "after a length": ok(b"hi") + b"x",
    "after chunks": CHUNKED + b"2\r\nhi\r\n0\r\n\r\nx",
    "after a 204": b"HTTP/1.1 204 No\r\n\r\nx",
    "a whole second answer": ok(b"hi") + ok(b"poison"),
}


@pytest.mark.parametrize("later", [True, False], ids=["later", "at once"])
@pytest.mark.parametrize("raw", EXTRA.values(), ids=EXTRA)
async def test_bytes_after_a_response_end_the_applications_connection(raw: bytes, later: bool) -> None:
    """They answer nothing that was asked; the next request goes elsewhere."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        if later:
            await application.send(raw[:-1] if raw.endswith(b"x") else raw[: -len(ok(b"poison"))])
            response = await client.final()
            await house.until(lambda: house.pool.idle_count == 1)
            await application.send(b"x")
        else:
            await application.send(raw)
            response = await client.final()
        assert response.status in {200, 204}
        await application.read_until_close()
        await house.until(lambda: house.pool.idle_count == 0)
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(OK)
        assert (await client.final()).body == b"ok"


# What breaks off stays visibly broken (RFC 9112 section 8).

PARTIAL = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "chunks": CHUNKED + b"3\r\nabc\r\n",
    "a chunk": CHUNKED + b"a\r\nabc",
    "chunks without the last empty line": CHUNKED + b"3\r\nabc\r\n0\r\n",
}


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("request_", [GET, GET_1_0], ids=["1.1", "1.0"])
@pytest.mark.parametrize("raw", PARTIAL.values(), ids=PARTIAL)
async def test_a_response_that_breaks_off_is_cut(raw: bytes, request_: bytes, how: str) -> None:
    """The client sees a reset: a FIN would make a body look complete to a 1.0 client."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(request_)
        application = await upstream.connection()
        await application.read_request()
        await application.send(raw)
        await client.read_head()
        await client.more() if not client.received else None
        application.close() if how == "fin" else application.reset()
        rest = await client.read_until_close()
        assert client.end is End.RESET
        assert not rest.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("request_", [GET, GET_1_0], ids=["1.1", "1.0"])
async def test_a_body_until_close_that_is_reset_is_cut(request_: bytes) -> None:
    """A reset is no end: the application meant to say more."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(request_)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await client.read_to(b"abc")
        application.reset()
        assert not (await client.read_until_close()).endswith(b"0\r\n\r\n")
        assert client.end is End.RESET


async def test_a_chunk_that_breaks_in_the_middle_of_a_response_is_a_cut() -> None:
    """What was sent cannot be taken back; what is not true is not sent."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(CHUNKED + b"3\r\nabc\r\n")
        await client.read_to(b"abc\r\n")
        await application.send(b"zz\r\n")
        assert await client.read_until_close() == b""
        assert client.end is End.RESET
        await application.read_until_close()


async def test_an_application_that_closes_without_a_word_is_a_502() -> None:
    """On a fresh connection: nobody else can have closed it."""

    async def slam(connection: Connection) -> None:
        await connection.read_request()

    async with Upstream(slam) as upstream, House(upstream) as house:
        client = await house.client()
        response = await client.ask(GET)
        assert response.status == 502
        assert b"upstream-gone" in response.body
        assert upstream.accepted == 1


async def test_an_application_that_speaks_first_is_a_502() -> None:
    """A banner is no answer."""

    async def banner(connection: Connection) -> None:
        await connection.send(b"220 hello\r\n")
        await connection.read_until_close()

    async with Upstream(banner) as upstream, House(upstream) as house:
        client = await house.client()
        assert (await client.ask(GET)).status == 502
