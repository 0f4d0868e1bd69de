"""One connection and what is asked on it: reuse, order, refusals, HTTP/1.0."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import Connection, Upstream, answering
from tests.support.wire import End, turns
from tests.support.words import GET, OK, get, ok, post


async def test_a_request_reaches_the_application_and_its_answer_the_client() -> None:
    """The bytes on both sides, in full."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"GET /a?b HTTP/1.1\r\nhost: x\r\nAccept: */*\r\n\r\n")
        application = await upstream.connection()
        assert await application.read_head() == (
            b"GET /a?b HTTP/1.1\r\nhost: x\r\nAccept: */*\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"
        )
        await application.send(b"HTTP/1.1 201 Made\r\nDate: d\r\nContent-Length: 3\r\nX: y\r\n\r\nabc")
        response = await client.read_response()
        assert response.raw == b"HTTP/1.1 201 Made\r\nDate: d\r\nX: y\r\nContent-Length: 3\r\n\r\nabc"


async def test_a_connection_carries_one_request_after_another() -> None:
    """Kept alive on both sides: one connection each."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        client = await house.client()
        for _ in range(5):
            response = await client.ask(GET)
            assert (response.status, response.body, response.one(b"connection")) == (200, b"ok", None)
        assert upstream.accepted == 1


async def test_a_request_may_come_byte_by_byte() -> None:
    """The network cuts where it likes."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send_bytewise(post(b"hello", "X: y"))
        application = await upstream.connection()
        request = await application.read_request()
        assert (request.start, request.body, request.one(b"x")) == (b"POST / HTTP/1.1", b"hello", b"y")
        for byte in ok(b"world"):
            await application.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.final()).body == b"world"


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    """The application sees the second only when the first has been answered (RFC 9112 section 9.3.2)."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(get("/1") + post(b"two", path="/2") + get("/3"))
        application = await upstream.connection()
        for number, body in ((1, b""), (2, b"two"), (3, b"")):
            request = await application.read_request()
            assert request.start.split(b" ")[1] == b"/%d" % number
            assert request.body == body
            await asyncio.sleep(0.01)
            assert not application.received, "the next one came before its turn"
            await application.send(ok(b"%d" % number))
            assert (await client.final()).body == b"%d" % number
        assert upstream.accepted == 1


async def test_a_hundred_pipelined_requests_get_a_hundred_answers() -> None:
    """None is lost, none doubled, in order."""
    async with Upstream(echoing) as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"".join(get(f"/{number}") for number in range(100)))
        for number in range(100):
            assert (await client.final()).body == b"/%d" % number


async def test_requests_before_a_bad_one_are_answered_first() -> None:
    """Complete requests are answered, in order, before the error."""
    async with Upstream(echoing) as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(get("/1") + get("/2") + b"BAD\r\n\r\n" + get("/3"))
        assert [(await client.final()).body for _ in range(2)] == [b"/1", b"/2"]
        error = await client.final()
        assert (error.status, error.one(b"connection")) == (400, b"close")
        assert await client.read_eof() is End.FIN
        assert upstream.accepted == 1


async def test_what_follows_close_is_thrown_away() -> None:
    """The request that says close is the last (RFC 9112 section 9.6)."""
    async with Upstream(echoing) as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(get("/1", "Connection: close") + get("/2"))
        response = await client.final()
        assert (response.body, response.one(b"connection")) == (b"/1", b"close")
        assert await client.read_eof() is End.FIN
        await house.until(lambda: house.pool.active_count == 0)
        assert [request["path"] for request in house.access] == ["/1"]


async def test_an_http_1_0_client_gets_its_answer_and_the_end() -> None:
    """Its connection is never kept, whatever it asks for; the application sees 1.1."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        application = await upstream.connection()
        head = await application.read_head()
        assert head.startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % upstream.port)
        await application.send(OK)
        response = await client.final()
        assert (response.body, response.one(b"connection")) == (b"ok", b"close")
        assert await client.read_eof() is End.FIN


async def test_an_http_1_0_request_with_a_length_is_forwarded_whole() -> None:
    """1.0 has bodies too."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
        application = await upstream.connection()
        assert (await application.read_request()).body == b"hello"
        await application.send(OK)
        assert (await client.final()).body == b"ok"


async def test_an_application_that_closes_does_not_close_the_client() -> None:
    """Its connection is not the client's."""
    closing = ok(b"bye", "Connection: close")

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(closing)

    async with Upstream(handle) as upstream, House(upstream) as house:
        client = await house.client()
        for _ in range(3):
            response = await client.ask(GET)
            assert (response.body, response.one(b"connection")) == (b"bye", None)
        assert upstream.accepted == 3


async def test_an_http_1_0_application_is_asked_once_a_connection() -> None:
    """It ends its answers by closing."""

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await connection.read_until_close()

    async with Upstream(handle) as upstream, House(upstream) as house:
        client = await house.client()
        for _ in range(2):
            assert (await client.ask(GET)).body == b"ok"
        assert upstream.accepted == 2


# Refused before a byte of it goes on.

REFUSED = {
    "malformed": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "malformed-head"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid-host"),
    "a bad target": (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, None),
    "two framings": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        400,
        None,
    ),
    "chunks in 1.0": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous-framing",
    ),
    "gzip, chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        501,
        "unsupported-transfer-coding",
    ),
    "Connection names Host": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n",
        400,
        "malformed-head",
    ),
    "Connection names a length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
        400,
        "malformed-head",
    ),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405, "method-refused"),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method-refused"),
    "a made-up method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "unknown-method"),
    "another version": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "unsupported-version"),
    "a long target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "target-too-long"),
    "many fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "fields-too-large"),
    "large fields": (
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        431,
        "fields-too-large",
    ),
}


@pytest.mark.parametrize("warm", [True, False], ids=["idle upstream", "no upstream"])
@pytest.mark.parametrize(("raw", "status", "reason"), REFUSED.values(), ids=REFUSED)
async def test_a_refused_request_gets_one_answer_and_the_end(
    raw: bytes, status: int, reason: str | None, warm: bool
) -> None:
    """Status, reason, close; nothing reaches the application, and nothing of the input comes back."""
    seen: list[bytes] = []

    async def handle(connection: Connection) -> None:
        while (request := await connection.read_request()).raw:
            seen.append(request.start)
            await connection.send(OK)

    async with Upstream(handle) as upstream, House(upstream) as house:
        client = await house.client()
        if warm:
            await client.ask(GET)
        await client.send(raw)
        error = await client.final()
        assert (error.status, error.one(b"connection"), error.ending) == (status, b"close", Ending.COMPLETE)
        if reason is not None:
            assert reason in error.body.decode()
        assert b"drainproxy; error=" in (error.one(b"proxy-status") or b"")
        assert await client.read_eof() is End.FIN
        await turns(10)
        assert seen == [b"GET / HTTP/1.1"] * warm
        assert upstream.accepted == int(warm)


async def test_a_refusal_of_head_has_no_body() -> None:
    """HEAD is answered by a head (RFC 9110 section 9.3.2)."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        error = await client.ask(b"HEAD / HTTP/1.1\r\n\r\n")
        assert error.status == 400
        assert int(error.one(b"content-length") or 0) > 0
        assert await client.read_eof() is End.FIN


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        ("Upgrade: websocket",),
        ("Connection: upgrade",),
    ],
)
async def test_an_upgrade_that_is_none_is_ignored(lines: tuple[str, ...]) -> None:
    """JDK clients ask for h2c as a matter of course: the request goes on without it (RFC 9110 7.8)."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(get("/", *lines))
        application = await upstream.connection()
        request = await application.read_request()
        assert not {b"upgrade", b"connection", b"http2-settings"} & set(request.names)
        await application.send(OK)
        assert (await client.final()).status == 200
        await client.send(GET)
        await application.read_request()
        await application.send(OK)
        assert (await client.final()).status == 200


async def test_an_upgrade_from_1_0_is_ignored() -> None:
    """The request goes on as if nothing was asked (RFC 9110 section 7.8)."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        request = await (application := await upstream.connection()).read_request()
        assert not {b"upgrade", b"connection"} & set(request.names)
        await application.send(OK)
        assert (await client.final()).status == 200


async def test_options_with_max_forwards_zero_is_answered_by_us() -> None:
    """Nobody behind us was asked; with more left, one less goes on."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n")
        application = await upstream.connection()
        assert (await application.read_request()).one(b"max-forwards") == b"4"
        await application.send(OK)
        await client.final()
        await client.send(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
        assert (await client.final()).status in {200, 204}
        assert not application.received


async def test_an_empty_line_after_a_body_is_no_request() -> None:
    """An old client's CRLF neither ends the connection nor begins a request."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        client = await house.client()
        assert (await client.ask(post(b"x"))).status == 200
        await client.send(b"\r\n")
        await asyncio.sleep(0.05)
        assert (await client.ask(GET)).status == 200
        await client.send(post(b"x") + b"\r\n" + GET)
        assert [(await client.final()).status for _ in range(2)] == [200, 200]


async def test_a_client_that_connects_and_leaves_is_no_request() -> None:
    """A probe of the port counts for nothing."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await house.until(lambda: len(house.registry.clients) == 1)
        client.close()
        await house.until(lambda: not house.registry.clients)
        assert house.requests() == {}
        assert house.access == []
        assert upstream.accepted == 0


async def echoing(connection: Connection) -> None:
    """Answer with the path."""
    while (request := await connection.read_request()).start:
        await connection.send(ok(request.start.split(b" ")[1]))
