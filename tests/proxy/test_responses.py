"""Responses: framed afresh for the client that asked, complete or visibly not."""

from __future__ import annotations

import asyncio

import pytest

from tests.proxy.words import GET, GET_1_0, OK, get, ok
from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import Connection, Upstream
from tests.support.wire import End, turns

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def exchanged(house: House, upstream: Upstream, request: bytes, response: bytes):
    """Send `request`, answer `response`; return what the client read, and both ends."""
    client = await house.client()
    await client.send(request)
    application = await upstream.connection()
    await application.read_request()
    await application.send(response)
    return await client.final(request.partition(b" ")[0].decode()), client, application


# Framing.


async def test_chunks_are_chunked_afresh_with_their_trailers() -> None:
    """For an HTTP/1.1 client; the trailers that may go on go on."""
    raw = (
        b"HTTP/1.1 200 OK\r\nDate: d\r\nTrailer: X-Sum\r\n"
        b"Connection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\n02\r\nde\r\n0\r\nX-Sum: 9\r\nX-Hop: 1\r\nSet-Cookie: a\r\n\r\n"
    )
    async with Upstream() as upstream, House(upstream) as house:
        response, _, _ = await exchanged(house, upstream, GET, raw)
        assert response.raw == (
            b"HTTP/1.1 200 OK\r\nDate: d\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nabcde\r\n0\r\nX-Sum: 9\r\n\r\n"
        )
        assert house.pool.idle_count == 1


async def test_chunks_go_on_as_they_come() -> None:
    """A stream is not collected."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(CHUNKED)
        assert b"Transfer-Encoding: chunked" in await client.read_head()
        for word in (b"one", b"two", b"three"):
            await application.send(b"%x\r\n%b\r\n" % (len(word), word))
            assert await client.read_to(word + b"\r\n") == b"%x\r\n%b\r\n" % (len(word), word)
        await application.send(b"0\r\n\r\n")
        assert await client.read_exactly(5) == b"0\r\n\r\n"


async def test_chunks_become_plain_bytes_for_a_1_0_client() -> None:
    """Which knows no chunks: the connection's end is the body's."""
    async with Upstream() as upstream, House(upstream) as house:
        raw = CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
        response, _, _ = await exchanged(house, upstream, GET_1_0, raw)
        assert (response.body, response.ending) == (b"abcde", Ending.EOF)
        assert response.one(b"connection") == b"close"
        assert response.one(b"transfer-encoding") is None


@pytest.mark.parametrize("cut", ["whole", "bytewise"])
async def test_a_body_until_close_becomes_chunks(cut: str) -> None:
    """For a 1.1 client the end is told, and the connection goes on."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        raw = b"HTTP/1.1 200 OK\r\n\r\nhello"
        await (application.send(raw) if cut == "whole" else application.send_bytewise(raw))
        application.close()
        response = await client.final()
        assert (response.body, response.ending) == (b"hello", Ending.COMPLETE)
        assert response.one(b"transfer-encoding") == b"chunked"
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(OK)
        assert (await client.final()).body == b"ok"


async def test_a_body_until_close_stays_one_for_a_1_0_client() -> None:
    """It ends as it did at the application."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET_1_0)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.0 200 OK\r\n\r\nhello")
        application.close()
        response = await client.final()
        assert (response.body, response.ending) == (b"hello", Ending.EOF)
        assert response.one(b"transfer-encoding") is None


BODILESS = {
    "HEAD with a length": (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"500"),
    "HEAD with chunks": (b"HEAD", CHUNKED, None),
    "HEAD with neither": (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n", None),
    "204": (b"GET", b"HTTP/1.1 204 No\r\n\r\n", None),
    "204 with a length": (b"GET", b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", None),
    "304 with a length": (b"GET", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", b"5"),
    "304 with chunks": (b"GET", b"HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    "200 of no length": (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"0"),
}


@pytest.mark.parametrize(("method", "raw", "length"), BODILESS.values(), ids=BODILESS)
async def test_a_response_without_a_body_ends_with_its_head(
    method: bytes, raw: bytes, length: bytes | None
) -> None:
    """Whatever its fields say, and both connections carry the next request."""
    async with Upstream() as upstream, House(upstream) as house:
        request = method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"
        response, client, application = await exchanged(house, upstream, request, raw)
        assert response.one(b"content-length") == length
        await client.send(get("/next"))
        assert (await application.read_request()).start == b"GET /next HTTP/1.1"
        await application.send(OK)
        assert (await client.final()).body == b"ok"


async def test_a_response_may_come_byte_by_byte() -> None:
    """The head too."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send_bytewise(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + ok(b"hello", "X: y"))
        assert (await client.read_response()).one(b"link") == b"x"
        response = await client.read_response()
        assert (response.status, response.body, response.one(b"x")) == (200, b"hello", b"y")


async def test_a_response_without_a_date_gets_one() -> None:
    """RFC 9110 section 6.6.1; one that has a date keeps it."""
    async with Upstream() as upstream, House(upstream) as house:
        response, client, application = await exchanged(house, upstream, GET, OK)
        assert (response.one(b"date") or b"").endswith(b" GMT")
        await client.send(GET)
        await application.read_request()
        await application.send(ok(b"", "Date: never"))
        assert (await client.final()).one(b"date") == b"never"


# 1xx.


async def test_interim_responses_are_relayed_as_they_come() -> None:
    """100, 102, 103 and any other, with their end-to-end fields (RFC 9110 section 15.2)."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        for line in (b"102 Processing\r\n", b"103 Early Hints\r\nLink: a\r\nLink: b\r\n", b"155 X\r\n"):
            await application.send(b"HTTP/1.1 " + line + b"Connection: x\r\nX: y\r\n\r\n")
            assert (await client.read_response()).raw == b"HTTP/1.1 " + line + b"\r\n"
        await application.send(OK)
        assert (await client.read_response()).body == b"ok"


async def test_a_1_0_client_sees_no_interim_response() -> None:
    """It would take it for the answer."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET_1_0)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK)
        response = await client.read_response()
        assert (response.status, response.body) == (200, b"ok")


async def test_sixteen_interim_responses_are_relayed() -> None:
    """The limit itself is allowed."""
    async with Upstream() as upstream, House(upstream) as house:
        raw = b"HTTP/1.1 103 Hints\r\n\r\n" * 16 + OK
        response, _, _ = await exchanged(house, upstream, GET, raw)
        assert (response.status, response.body) == (200, b"ok")


@pytest.mark.parametrize("cut", ["whole", "one by one"])
async def test_seventeen_interim_responses_are_a_502(cut: str) -> None:
    """Nobody needs as many: an application that sends them for ever is broken."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        if cut == "whole":
            await application.send(b"HTTP/1.1 103 Hints\r\n\r\n" * 17 + OK)
        else:
            for _ in range(17):
                await application.send(b"HTTP/1.1 103 Hints\r\n\r\n")
                await turns(3)
        statuses = []
        while (response := await client.read_response()).status == 103:
            statuses.append(response.status)
        assert (len(statuses), response.status) == (16, 502)
        await application.read_until_close()


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
    "a status out of range": b"HTTP/1.1 999 What\r\n\r\n",
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


async def test_a_large_response_arrives_whole() -> None:
    """Many reads and writes later, every byte in its place."""
    body = bytes(range(256)) * 40_000

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(ok(body))
        await connection.read_request()
        await connection.send(CHUNKED + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")

    async with Upstream(handle) as upstream, House(upstream) as house:
        client = await house.client()
        for _ in range(2):
            await client.send(GET)
            await asyncio.sleep(0.05)
            response = await client.final()
            assert response.ending is Ending.COMPLETE
            assert response.body == body
        assert upstream.accepted == 1
