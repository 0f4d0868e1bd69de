"""Responses: framed afresh for the client that asked, complete or visibly not."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import Connection, Upstream
from tests.support.wire import turns
from tests.support.words import GET, GET_1_0, OK, get, ok

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
    """Whatever its fields say, and both connections carry the next request; but for a 204 that announces a
    body, which may follow."""
    async with Upstream() as upstream, House(upstream) as house:
        request = method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"
        response, client, application = await exchanged(house, upstream, request, raw)
        assert response.one(b"content-length") == length
        await client.send(get("/next"))
        if b"204 No\r\nContent-Length: 5" in raw:
            assert await application.read_until_close() == b""
            application = await upstream.connection()
        assert (await application.read_request()).start == b"GET /next HTTP/1.1"
        await application.send(OK)
        assert (await client.final()).body == b"ok"


OFFERS = {
    "a length": b"Content-Length: 2\r\n\r\nok",
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("cut", ["whole", "head first", "bytewise"])
@pytest.mark.parametrize("rest", OFFERS.values(), ids=OFFERS)
async def test_an_offer_to_upgrade_is_no_upgrade(rest: bytes, cut: str) -> None:
    """Servers that know HTTP/2 offer it in ordinary answers, time and again."""
    raw = b"HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\n" + rest
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        for number in range(3):
            await client.send(GET)
            if not number:
                application = await upstream.connection()
            await application.read_request()
            if cut == "bytewise":
                await application.send_bytewise(raw)
            elif cut == "whole":
                await application.send(raw)
            else:
                await application.send(raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
                await turns(5)
                await application.send(raw.partition(b"\r\n\r\n")[2])
            response = await client.final()
            assert (response.status, response.body) == (200, b"ok")
            assert not {b"upgrade", b"connection"} & set(response.names)


HINTS = b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
ONE_AFTER_ANOTHER = [
    ok(b"small"),
    b"HTTP/1.1 204 No\r\n\r\n",
    ok(b""),
    HINTS + ok(b"hinted"),
    ok(b"kept", "Connection: keep-alive", "Keep-Alive: timeout=5"),
    CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 304 No\r\nContent-Length: 99\r\n\r\n",
    b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nHTT",
    ok(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nnested"),
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0003\r\n\r\nabc",
    ok(b"x" * 300_000),
    ok(b"odd", "Proxy-Connection: close"),
]


@pytest.mark.parametrize("cut", ["whole", "bytewise"])
@pytest.mark.parametrize("seed", range(4))
async def test_responses_of_every_shape_follow_each_other_on_one_connection(seed: int, cut: str) -> None:
    """No answer leaves anything behind for the next one to stumble over."""
    order = random.Random(seed).choices(ONE_AFTER_ANOTHER, k=40)
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        for number, raw in enumerate(order):
            await client.send(GET)
            if not number:
                application = await upstream.connection()
            await application.read_request()
            how = application.send_bytewise if cut == "bytewise" and len(raw) < 1000 else application.send
            sending = asyncio.ensure_future(how(raw))
            response = await client.final()
            assert response.ending is Ending.COMPLETE
            final = (
                raw if raw.count(b"HTTP/1.1") == 1 or b"nested" in raw else raw[raw.index(b"\r\n\r\n") + 4 :]
            )
            assert response.start.rstrip() == final.partition(b"\r\n")[0]
            if response.body and b"chunked" not in raw:
                assert raw.endswith(b"\r\n\r\n" + response.body)
            await sending
        assert upstream.accepted == 1


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
