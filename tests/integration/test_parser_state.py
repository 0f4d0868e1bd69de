"""What one client has sent shows in nobody else's request, whatever the application's parser keeps of it.

The application is aiohttp's server: its parser leaves the last trailer of a request pending, which becomes a
field of the next request on that connection. Clients that reach it themselves share no connection.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.integration.scene import get, post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LATER = get("/show", "X-Mine: 1", "Cookie: a=1")
CHUNKED = "POST /show HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n{}\r\n{}"


def chunked(body: str, *fields: str) -> bytes:
    """A chunked POST, byte by byte as given."""
    return CHUNKED.format("".join(f"{field}\r\n" for field in fields), body).encode()


BEFORE = {
    "a trailer": chunked("3\r\nabc\r\n0\r\nX-Trailer: a\r\n\r\n"),
    "two trailers": chunked("3\r\nabc\r\n0\r\nX-One: a\r\nX-Two: b\r\n\r\n", "Trailer: X-One, X-Two"),
    "a trailer and no body": chunked("0\r\nX-Trailer: a\r\n\r\n"),
    "a trailer named like a field": chunked("1\r\na\r\n0\r\nX-Mine: 2\r\n\r\n"),
    "trailers that are dropped": chunked("1\r\na\r\n0\r\nHost: b\r\nCookie: b=2\r\n\r\n"),
    "a trailer with GET": chunked("1\r\na\r\n0\r\nX-Trailer: a\r\n\r\n").replace(b"POST", b"GET"),
    "an extension": chunked('3;x="y"\r\nabc\r\n0;z\r\n\r\n'),
    "a chunked body": chunked("3\r\nabc\r\n0\r\n\r\n"),
    "a body with GET": post(b"GET /smuggled HTTP/1.1\r\n\r\n", path="/show").replace(b"POST", b"GET"),
    "a body with DELETE": post(b"abc", path="/show").replace(b"POST", b"DELETE"),
    "expect": post(b"abc", "Expect: 100-continue", path="/show"),
    "expect, refused": post(b"abc", "Expect: 100-continue", path="/early"),
    "expect, something else": post(b"abc", "Expect: 200-maybe", path="/show"),
    "an early answer": post(b"x" * 300_000, path="/early"),
    "an early answer to chunks": chunked("3\r\nabc\r\n0\r\nX-Trailer: a\r\n\r\n").replace(
        b"/show", b"/early"
    ),
    "HEAD": get("/show").replace(b"GET", b"HEAD"),
    "204": get("/status/204"),
    "304": get("/status/304"),
    "a field for this hop": get("/show", "Connection: X-Hop", "X-Hop: 1"),
    "an upgrade that is ignored": get("/show", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"),
    "an upgrade that is refused": get("/show", "Connection: Upgrade", "Upgrade: websocket"),
    "answered with trailers": get("/trailers", "TE: trailers", "Connection: TE"),
    "answered compressed": get("/compressed", "Accept-Encoding: gzip"),
    "two at once": get("/show") + post(b"abc", path="/show"),
    "an absolute target": get("http://test/show"),
    "an unread body": post(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", path="/unread"),
}
BROKEN = {
    "a body that breaks off": post(b"abcdef", path="/show")[:-3],
    "a chunk that breaks off": chunked("5\r\nab"),
    "a chunk that is none": chunked("5\r\nabcdefgh"),
    "trailers that break off": chunked("1\r\na\r\n0\r\nX-Trailer: a\r\nX-Tr"),
    "a trailer that is none": chunked("1\r\na\r\n0\r\nX Trailer: a\r\n\r\n"),
}


async def show(request: web.Request) -> web.Response:
    """Answer with the request as it was seen."""
    body = await request.read()
    fields = [field for field in request.raw_headers if not field[0].startswith(b"X-Forwarded-")]
    return web.Response(text=repr((request.method, request.raw_path, fields, body)))


async def unread(request: web.Request) -> web.Response:
    """Answer without having looked at the body."""
    return web.Response(text="early")


async def status(request: web.Request) -> web.Response:
    """Answer with the status that is asked for, and nothing else."""
    return web.Response(status=int(request.match_info["status"]), headers={"ETag": '"e"'})


async def trailers(request: web.Request) -> web.StreamResponse:
    """Answer in chunks."""
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b"abc")
    return response


async def compressed(request: web.Request) -> web.Response:
    """Answer in the coding that is asked for."""
    response = web.Response(text="z" * 5000)
    response.enable_compression()
    return response


@contextlib.asynccontextmanager
async def application() -> AsyncIterator[str]:
    """aiohttp's own server; yields its address."""
    app = web.Application()
    app.router.add_route("*", "/show", show)
    for path in ("/unread", "/early"):
        app.router.add_route("*", path, unread, expect_handler=refuse if path == "/early" else None)
    app.router.add_get("/status/{status}", status)
    app.router.add_get("/trailers", trailers)
    app.router.add_get("/compressed", compressed)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
    finally:
        await runner.cleanup()


async def refuse(request: web.Request) -> web.Response:
    """Answer instead of a 100."""
    return web.Response(status=417, text="no")


@pytest.mark.parametrize("kind", [*BEFORE, *BROKEN])
async def test_nothing_of_a_request_reaches_the_next_one(start, kind) -> None:
    """Another client's next request is seen as it was sent, on whatever connection it goes."""
    async with application() as address:
        proxy = await start(address)
        async with await proxy.client() as alone:
            expected = (await alone.ask(LATER)).body
            assert b"X-Mine" in expected
        for _ in range(3):
            before = await proxy.client()
            await before.send(BEFORE[kind] if kind in BEFORE else BROKEN[kind])
            if kind in BEFORE:
                await before.final("HEAD" if kind == "HEAD" else "GET")
            before.close()
            async with await proxy.client() as later:
                assert (await later.ask(LATER)).body == expected
