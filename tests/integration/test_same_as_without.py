"""What a client gets from a real server, and the server of a client, is the same without the proxy."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from tests.integration.scene import get, on_one_loop, post
from tests.support.client import Client

OURS = {b"X-Forwarded-For"}
"""What the application is told beside what it was told before."""
FRAMING = {b"content-length", b"transfer-encoding"}
"""Said afresh, behind the other fields."""


async def show(request: web.Request) -> web.Response:
    """Answer with the request as it was seen."""
    body = await request.read()
    seen = [field for field in request.raw_headers if field[0] not in OURS]
    seen.sort(key=lambda field: field[0].lower() in FRAMING)
    view = repr((request.method, request.raw_path, request.version, seen, len(body), body[:100]))
    response = web.Response(text=view, headers={"X-Twice": "a", "x-odd-LETTERS": "1"})
    response.headers.add("X-Twice", "b")
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return response


async def compressed(request: web.Request) -> web.Response:
    """Answer in the coding that is asked for."""
    response = web.Response(text="z" * 5000)
    response.enable_compression()
    return response


async def streamed(request: web.Request) -> web.StreamResponse:
    """Answer in chunks, under a reason of its own."""
    response = web.StreamResponse(reason="Fine By Me")
    await response.prepare(request)
    for number in range(3):
        await response.write(b"%d\n" % number)
        await asyncio.sleep(0)
    return response


async def status(request: web.Request) -> web.Response:
    """Answer with the status that is asked for, and nothing else."""
    return web.Response(status=int(request.match_info["status"]), headers={"ETag": '"e"'})


CHUNKED = (
    b"POST /show HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;x=y\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n"
)
REQUESTS = {
    "get": get("/show?a=%2f&b=c+d&e=%0d", "User-Agent: x", "X-A: 1", "x-a: 2", "Accept: */*"),
    "head": b"HEAD /show HTTP/1.1\r\nHost: test\r\n\r\n",
    "post": post(b"hello", "Content-Type: text/plain", path="/show"),
    "post nothing": post(b"", path="/show"),
    "chunked": CHUNKED,
    "expect": post(b"hello", "Expect: 100-continue", path="/show"),
    "cookies": get("/show", "Cookie: a=1", "Cookie: b=2", "Cookie: " + "c" * 4000),
    "odd values": get("/show", "X-Empty:", "X-Tab: a\tb", "X_Under: 1"),
    "long target": get("/show?" + "u" * 6000),
    "odd target": get("/show/../show//;a=b/%2e%2e?''<>|"),
    "webdav": b"PROPFIND /show HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi",
    "options": b"OPTIONS /show HTTP/1.1\r\nHost: test\r\n\r\n",
    "compressed": get("/compressed", "Accept-Encoding: gzip"),
    "streamed": get("/streamed"),
    "no content": get("/status/204"),
    "not modified": get("/status/304"),
    "created": get("/status/201"),
    "missing": get("/nowhere"),
}


@on_one_loop
@pytest.mark.parametrize("name", REQUESTS)
async def test_an_aiohttp_server_and_its_client_see_the_same(start, name: str) -> None:
    """Status, reason, fields in their order, body, and whether the connection persists."""
    application = web.Application()
    application.router.add_get("/compressed", compressed)
    application.router.add_get("/streamed", streamed)
    application.router.add_get("/status/{status}", status)
    application.router.add_route("*", "/show{more:.*}", show)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        proxy = await start(f"http://{host}:{port}")
        answers = []
        for address in ((host, port), proxy.addresses[0]):
            async with await Client.connect(address) as client:
                first, again = [await client.ask(REQUESTS[name]) for _ in range(2)]
                assert (first.start, first.body) == (again.start, again.body)
                fields = [field for field in first.fields if field[0].lower() not in {b"date", *FRAMING}]
                framing = {field for field in first.fields if field[0].lower() in FRAMING}
                answers.append((first.start, fields, framing, first.body, first.trailers))
        assert answers[0] == answers[1]
    finally:
        await runner.cleanup()
