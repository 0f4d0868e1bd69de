"""Accounting: what became of each request, in metrics, access lines and drain outcomes."""

from __future__ import annotations

import pytest

from drainproxy.lifecycle.propagation import Rules
from tests.support.house import House
from tests.support.upstream import Connection, Upstream, answering
from tests.support.words import GET, OK, get, ok, post

SLOWLY = Rules(min_s=60, margin_s=60, quiet_s=0, max_s=60, hold_min=True)
"""Propagation that lasts as long as a test."""


async def by_path(connection: Connection) -> None:
    """Answer with the status in the path."""
    while (request := await connection.read_request()).start:
        status = request.start.split(b" ")[1].strip(b"/")[:3]
        await connection.send(b"HTTP/1.1 " + status + b" X\r\nContent-Length: 5\r\n\r\nhello")


async def test_requests_are_counted_by_method_code_and_phase() -> None:
    """Once each, with the application's code or ours."""
    async with Upstream(by_path) as upstream, House(upstream) as house:
        client = await house.client()
        for raw in (get("/200"), get("/200"), get("/404"), post(b"x", path="/503")):
            await client.ask(raw)
        await client.ask(b"PROPFIND /200 HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.ask(b"GET / HTTP/1.1\r\n\r\n")
        assert house.requests() == {
            ("GET", "200", "serving"): 2,
            ("GET", "404", "serving"): 1,
            ("POST", "503", "serving"): 1,
            ("other", "200", "serving"): 1,
            ("GET", "400", "serving"): 1,
        }


async def test_a_head_that_is_none_is_counted_without_a_method() -> None:
    """Nothing that a client makes up becomes a label."""
    async with Upstream() as upstream, House(upstream) as house:
        for raw in (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", b"\0\r\n\r\n"):
            await house.ask(raw)
        assert house.requests() == {("other", "501", "serving"): 1, ("other", "400", "serving"): 1}
        assert house.refused() == {"unknown-method": 1, "malformed-head": 1}


async def test_bytes_are_counted_as_payload() -> None:
    """Without heads, without the framing of chunks."""

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n2\r\n!!\r\n0\r\n\r\n"
        )

    async with Upstream(handle) as upstream, House(upstream) as house:
        client = await house.client()
        await client.ask(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        house.requests()
        assert house.metrics.bytes.value("to_upstream") == 3
        assert house.metrics.bytes.value("to_client") == 7


async def test_each_request_is_timed_once() -> None:
    """To its end, and to the application's head."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        client = await house.client()
        for _ in range(3):
            await client.ask(GET)
        await client.ask(b"GET / HTTP/1.1\r\n\r\n")
        assert sum(house.metrics.request_duration_seconds.counts) == 3
        assert sum(house.metrics.response_head_seconds.counts) == 3


async def test_errors_are_counted_by_whose_doing_they_are() -> None:
    """What the application did under errors; what we turned away under refused."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"nonsense\r\n\r\n")
        await client.final()
        await client.ask(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n")
        assert house.failed() == {"upstream-malformed": 1}
        assert house.refused() == {"invalid-target": 1}


async def test_connections_are_counted() -> None:
    """Each once, whatever it carries."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        for _ in range(3):
            client = await house.client()
            await client.ask(GET)
            await client.ask(GET)
        assert sum(house.metrics.client_connections_accepted.values.values()) == 3
        assert sum(client.idle for client in house.registry.clients) == 3


async def test_twins_with_underscores_are_counted() -> None:
    """So that an operator learns why a field does not arrive."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        await house.ask(get("/", "X_Forwarded_For: 1", "Content_Length: 5", "fine_one: 1"))
        assert house.metrics.headers_dropped.value("underscore") == 2


# Access lines.


async def test_an_access_line_says_what_was_asked_and_what_became_of_it() -> None:
    """Without the query, which may hold secrets."""
    async with Upstream(answering(ok(b"hello"))) as upstream, House(upstream) as house:
        await house.ask(get("/a/b?token=secret", 'User-Agent: cürl "8"', "X-Request-Id: 7"))
        (line,) = house.access
        assert line.pop("duration_s") >= line.pop("head_s") >= 0
        assert line == {
            "event": "request",
            "level": "info",
            "listener": "test",
            "client": "127.0.0.1",
            "protocol": "HTTP/1.1",
            "method": "GET",
            "path": "/a/b",
            "host": "a",
            "user_agent": 'c\\xc3\\xbcrl "8"',
            "request_id": "7",
            "status": 200,
            "bytes": 5,
            "bytes_received": 0,
        }


async def test_an_error_line_says_why() -> None:
    """And whether the application had the request."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(get("/a?secret"))
        application = await upstream.connection()
        await application.read_request()
        application.close()
        await client.final()
        await client.ask(b"GET /b HTTP/1.1\r\nHost: a b\r\n\r\n")
        first, second = house.access
        assert (first["path"], first["status"], first["reason"]) == ("/a", 502, "upstream-gone")
        assert (first["sent"], first["level"]) == (True, "warning")
        assert (second["path"], second["status"], second["reason"]) == ("/b", 400, "invalid-host")
        assert second["sent"] is False


async def test_a_client_that_left_is_a_499_that_was_sent() -> None:
    """The application had the request."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        client.reset()
        await house.until(lambda: len(house.access) == 1)
        line = house.access[0]
        assert (line["status"], line["reason"], line["sent"]) == (499, "client-gone", True)


@pytest.mark.parametrize(("setting", "statuses"), [("off", []), ("errors", [400]), ("all", [200, 200, 400])])
async def test_access_log_chooses_the_lines(setting: str, statuses: list[int]) -> None:
    """Off, errors (of ours), all."""
    async with Upstream(answering()) as upstream, House(upstream, access_log=setting) as house:
        await house.ask(GET)
        await house.ask(GET)
        await house.ask(b"GET / HTTP/1.1\r\n\r\n")
        assert [line["status"] for line in house.access] == statuses


@pytest.mark.parametrize(
    ("target", "secret"),
    [
        ("/x?password=hunter2", "hunter2"),
        ("http://me:hunter2@a/x", "hunter2"),
        ("http://a/x?hunter2", "hunter2"),
    ],
)
async def test_no_line_and_no_reply_shows_a_secret(target: str, secret: str) -> None:
    """Neither a query nor who logs in where."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        response = await house.ask(get(target))
        assert secret not in str(house.diary.lines)
        assert secret.encode() not in response.raw


async def test_a_path_that_is_no_text_is_escaped_and_shortened() -> None:
    """A line stays a line."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        await house.ask(b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len(house.access[0]["path"]) <= 200


# While a drain runs.


async def test_a_request_that_ends_while_draining_is_finished() -> None:
    """It was in flight when the signal came; its connection says close and ends."""
    async with Upstream() as upstream, House(upstream, rules=SLOWLY) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        house.sigterm()
        await application.send(OK)
        response = await client.final()
        assert (response.status, response.one(b"connection")) == (200, b"close")
        await client.read_eof()
        assert house.metrics.drain_requests.value("finished") == 1
        assert house.requests() == {("GET", "200", "ending"): 1}


async def test_close_goes_on_the_last_request_that_was_pipelined() -> None:
    """What the client has sent already is answered first."""
    async with Upstream() as upstream, House(upstream, rules=SLOWLY) as house:
        client = await house.client()
        await client.send(get("/1") + get("/2") + get("/3"))
        application = await upstream.connection()
        await application.read_request()
        house.sigterm()
        await application.send(OK)
        for number in (1, 2, 3):
            response = await client.final()
            assert response.one(b"connection") == (b"close" if number == 3 else None)
            if number < 3:
                await application.read_request()
                await application.send(OK)
        await client.read_eof()
        assert house.metrics.drain_requests.value("finished") == 3


async def test_an_application_that_breaks_while_draining_loses_a_request() -> None:
    """Said honestly: lost, not finished."""
    async with Upstream() as upstream, House(upstream, rules=SLOWLY) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        house.sigterm()
        application.close()
        response = await client.final()
        assert (response.status, response.one(b"connection")) == (502, b"close")
        assert house.metrics.drain_requests.value("lost") == 1


async def test_a_client_that_leaves_while_draining_is_no_loss_of_ours() -> None:
    """It left by itself."""
    async with Upstream() as upstream, House(upstream, rules=SLOWLY) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        house.sigterm()
        client.reset()
        await house.until(lambda: not len(house.inflight))
        assert sum(house.metrics.drain_requests.values.values()) == 0
