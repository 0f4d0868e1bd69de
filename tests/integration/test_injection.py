"""What strangers write stays data: no second log line, no new series, no order to a terminal."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.integration.scene import get, until
from tests.support.http2 import END_HEADERS, END_STREAM, HEADERS, PREFACE, Http2, frame, settings
from tests.support.process import Proxy
from tests.support.upstream import Upstream, answering

if TYPE_CHECKING:
    from typing import Any

    from tests.support.upstream import Connection

MARK = "EVIL"
SAMPLE = re.compile(r'[a-z_0-9]+(?:\{(?:[a-z_]+="[A-Za-z0-9_.:+() -]*",?)*\})? [-+.0-9eEinfNa]+')
"""One sample: a name, and values of labels that need no escape."""

ESCAPES = {
    "ANSI": "\x1b[31mEVIL",
    "C1 as UTF-8": "\x9bEVIL",
    "C1 as a byte": "\udc9bEVIL",
    "line": '\n{"event":"EVIL"}',
    "bare return": '\r{"event":"EVIL"}',
    "quotes": 'EVIL"}1\\n#EVIL{x="',
    "separators": "\u2028EVIL\u202e",
    "NUL": "\0EVIL",
    "tab": "\tEVIL",
}
"""What would begin a line, end a string or give an order, were it written as it came."""

REQUESTS = {
    "path": "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
    "query": "GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n",
    "method": "{} / HTTP/1.1\r\nHost: a\r\n\r\n",
    "version": "GET / HTTP/{}\r\nHost: a\r\n\r\n",
    "Host": "GET / HTTP/1.1\r\nHost: {}\r\n\r\n",
    "User-Agent": "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {}\r\n\r\n",
    "X-Request-Id": "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {}\r\n\r\n",
    "X-Forwarded-For": "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {}\r\n\r\n",
    "Upgrade": "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {}\r\n\r\n",
    "field name": "GET / HTTP/1.1\r\nHost: a\r\n{}: x\r\n\r\n",
    "length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
    "chunk": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n\r\n",
}
ANSWERS = {
    "status": "HTTP/1.1 {} OK\r\nContent-Length: 0\r\n\r\n",
    "reason": "HTTP/1.1 200 {}\r\nContent-Length: 0\r\n\r\n",
    "field name": "HTTP/1.1 200 OK\r\n{}: x\r\nContent-Length: 0\r\n\r\n",
    "field": "HTTP/1.1 200 OK\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
    "length": "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
    "chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n\r\n",
    "coding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: {}\r\n\r\n",
    "protocol": "{}",
}


def raw(text: str) -> bytes:
    """The bytes that go over the wire."""
    return text.encode("utf-8", "surrogateescape")


async def judge(proxy: Proxy, event: str, count: int) -> list[dict[str, Any]]:
    """Wait for `count` lines of `event` and return them, once all that was written has been looked at.

    A line is one JSON object of printable ASCII; nothing in /metrics and /status needs an escape.
    """
    await until(lambda: sum(line["event"] == event for line in proxy.lines) >= count, "a line is missing")
    for said in bytes(proxy.written).splitlines():
        assert re.fullmatch(rb"[ -~]+", said), said
        assert MARK not in "".join(json.loads(said)), "it has named a field"
    lines = [line for line in proxy.lines if line["event"] == event]
    assert len(lines) == count, "a line more than requests"
    metrics = (await proxy.get("/metrics")).body.decode()
    for sample in metrics.splitlines():
        assert sample[:1] == "#" or SAMPLE.fullmatch(sample), sample
    assert MARK not in metrics
    status = (await proxy.get("/status")).body
    assert re.fullmatch(rb"[ -~]+\n", status)
    return lines


@pytest.mark.parametrize("source", REQUESTS)
async def test_nothing_in_a_request_becomes_more_than_data(source: str) -> None:
    """Each place of a request with each escape in it: forwarded or refused, it is one line."""
    how = {"access_log": "all", "forwarding": "append", "trusted_proxies": "127.0.0.0/8"}
    async with (
        Upstream(answering()) as upstream,
        Proxy(upstreams=[upstream.address], upstream_http2="off", **how) as proxy,
    ):
        await proxy.ready()
        for escape in ESCAPES.values():
            client = await proxy.client()
            await client.send(raw(REQUESTS[source].format(escape)))
            answer = await client.final()
            assert MARK.encode() not in answer.raw, "an error reply echoes its request"
        lines = await judge(proxy, "request", len(ESCAPES))
        seen = {"User-Agent": "user_agent", "X-Request-Id": "request_id", "Host": "host"}.get(source)
        assert seen is None or source == "Host" or any(MARK in line.get(seen, "") for line in lines)


@pytest.mark.parametrize("source", ANSWERS)
async def test_nothing_in_an_answer_becomes_more_than_data(source: str) -> None:
    """Each place of the application's answer: relayed or a 502, it is one line."""
    escapes = iter(ESCAPES.values())

    async def answer(connection: Connection) -> None:
        if (await connection.read_request()).start:
            await connection.send(raw(ANSWERS[source].format(next(escapes))))
            connection.half_close()
            await connection.read_until_close()

    async with Upstream(answer) as upstream, Proxy(upstreams=[upstream.address], access_log="all") as proxy:
        await proxy.ready()
        for _ in ESCAPES:
            client = await proxy.client()
            await client.send(get())
            await client.more()
            client.close()
        await judge(proxy, "request", len(ESCAPES))


async def test_what_is_read_of_http_2_is_data_too() -> None:
    """Header compression carries any byte, and nothing in it is text until somebody says so."""
    async with Upstream() as upstream, Proxy(
        upstreams=[upstream.address], access_log="all", h2_inspect="true", upstream_http2="on"
    ) as proxy:  # fmt: skip
        await proxy.ready()
        client = await proxy.client()
        peer = Http2(client)
        await peer.send(PREFACE, settings())
        for number, escape in enumerate(ESCAPES.values()):
            text = escape.encode("utf-8", "replace").decode()
            block = peer.block((":method", text), (":scheme", "http"), (":path", f"/{text}"))
            await peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, block))
        application = await upstream.connection_with_bytes()
        await application.read_to(PREFACE)
        application.reset()
        lines = await judge(proxy, "request", len(ESCAPES))
        assert all(MARK in line["method"] for line in lines)


async def test_a_proxy_header_names_an_address_or_nobody() -> None:
    """Who may send one chooses the client's address in every line: it must be one."""
    v4, v6 = "PROXY TCP4 10.0.0.1{} 10.0.0.2 1 2\r\n", "PROXY TCP6 fe80::1%{} ::1 1 2\r\n"
    # Ten lines a second are written of one condition.
    headers = [(v4, v6)[number % 2].format(escape) for number, escape in enumerate(ESCAPES.values())]
    async with Upstream(answering()) as upstream, Proxy(
        upstreams=[upstream.address], access_log="all", proxy_protocol="true", trusted_proxies="127.0.0.0/8"
    ) as proxy:  # fmt: skip
        await proxy.ready()
        for header in headers:
            client = await proxy.client()
            await client.send(raw(header) + get())
            await client.read_until_close()
        await judge(proxy, "turned_away", len(headers))


async def test_the_admin_port_writes_nothing_of_its_callers() -> None:
    """Whoever reaches it may send anything; it has no access line."""
    async with Upstream(answering()) as upstream, Proxy(upstreams=[upstream.address]) as proxy:
        await proxy.ready()
        before = len(proxy.lines)
        for template in REQUESTS.values():
            for escape in ESCAPES.values():
                async with await type(await proxy.client()).connect(proxy.admin) as caller:
                    await caller.send(raw(template.format(escape)))
                    caller.half_close()
                    assert MARK.encode() not in await caller.read_until_close()
        await judge(proxy, "listening", 2)
        assert len(proxy.lines) == before
