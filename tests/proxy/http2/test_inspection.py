"""Requests that are read on their way: routes, deadlines, access lines; the frames stay as they were."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy.proxy.limits.routes import Route, Timeouts
from tests.proxy.http2.test_connection import SLOWLY, asked, ended, pair
from tests.support.http2 import CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST, Http2, frame
from tests.support.wire import turns

COMPRESSION_ERROR, REFUSED_STREAM = 9, 7


async def test_a_block_in_pieces_padded_and_with_a_priority_is_read() -> None:
    """And passes as it is; what refers to an earlier block is understood."""
    async with pair(h2_inspect=True) as (house, client, application):
        block = client.block((":method", "POST"), (":path", "/a/b?secret=1"), ("x-trace", "t" * 300))
        padded = b"\x02" + b"\0\0\0\0\x10" + block[:5] + b"\0\0"
        sent = frame(HEADERS, 0x28, 1, padded) + frame(CONTINUATION, END_HEADERS, 1, block[5:])
        await client.send(sent)
        assert (await application.next(HEADERS)).payload == padded
        assert (await application.next(CONTINUATION)).payload == block[5:]
        again = client.block((":method", "POST"), (":path", "/a/b?secret=1"), ("x-trace", "t" * 300))
        assert len(again) < 10, "the second block refers to the first"
        await client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, again))
        await application.next(HEADERS, 3)
        described = [work.describe() for work in house.inflight]
        assert described == [{"method": "POST", "path": "/a/b"}] * 2


async def test_the_same_bytes_mean_something_else_once_the_table_has_changed() -> None:
    """A block of indices is read anew after any block that changes what they stand for."""
    async with pair(h2_inspect=True) as (house, client, application):
        first, second = (":path", "/first"), (":path", "/second")
        for number, path in ((1, first), (3, first), (5, first), (7, second), (9, second), (11, first)):
            block = client.block((":method", "GET"), path)
            await client.send(frame(HEADERS, END_HEADERS, number, block))
            await application.next(HEADERS, number)
        paths = [work.describe()["path"] for work in house.inflight]
        assert paths == ["/first", "/first", "/first", "/second", "/second", "/first"]


async def test_a_route_bounds_a_stream() -> None:
    """The other streams of the connection go on."""
    routes = (Route(b"/quick", frozenset(), Timeouts(total=0.2)),)
    async with pair(h2_inspect=True, routes=routes) as (_, client, application):
        await client.send(client.request(1, "/slow"), client.request(3, "/quick/x"))
        reset = await client.next(RST)
        assert (reset.stream, reset.code) == (3, REFUSED_STREAM)
        await application.send(application.response(1, end=True))
        assert (await client.next(HEADERS)).stream == 1


async def test_a_grpc_call_with_an_answer_ends_with_a_status_at_the_deadline() -> None:
    """UNAVAILABLE in trailers that do not touch the table of header compression."""
    async with pair(h2_inspect=True, rules=SLOWLY, lifecycle={"drain_timeout": 0.2}) as (house, client, app):
        fields = ((":method", "POST"), (":path", "/s/M"), ("content-type", "application/grpc+proto"))
        await client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block(*fields)))
        await app.next(HEADERS)
        await app.send(app.response(1))
        client.decoder.decode((await client.next(HEADERS)).payload)
        house.sigterm()
        trailers = await client.next(HEADERS)
        assert trailers.flags & END_STREAM
        assert dict(client.decoder.decode(trailers.payload))["grpc-status"] == "14"


async def test_a_grpc_call_that_was_answered_in_full_is_not_answered_again_at_the_deadline() -> None:
    """The client still sends: what comes behind the end of an answer would be an error of the connection."""
    async with pair(h2_inspect=True, rules=SLOWLY, lifecycle={"drain_timeout": 0.2}) as (house, client, app):
        fields = ((":method", "POST"), (":path", "/s/M"), ("content-type", "application/grpc"))
        await client.send(frame(HEADERS, END_HEADERS, 1, client.block(*fields)))
        await app.next(HEADERS)
        await app.send(app.response(1, end=True))
        await client.next(HEADERS)
        house.sigterm()
        seen = [each.kind for each in await ended(client) if each.stream]
        assert seen == [RST]


async def test_access_lines_say_what_was_asked() -> None:
    """One a stream, without the query."""
    async with pair(h2_inspect=True) as (house, client, application):
        await client.send(client.request(1, "/a?secret=1"))
        await application.next(HEADERS)
        await application.send(application.response(1, end=True))
        await client.next(HEADERS)
        await turns(5)
        (line,) = house.access
        assert line.pop("duration_s") >= 0
        assert line == {
            "event": "request",
            "level": "info",
            "listener": "test",
            "client": "127.0.0.1",
            "protocol": "HTTP/2",
            "stream": 1,
            "method": "POST",
            "path": "/a",
            "outcome": "finished",
        }


@pytest.mark.parametrize(
    "payload", [b"\xff\xff\xff\xff\xff\xff", b"\x82" + b"\x40\x0a" + b"x"], ids=["an index", "a string"]
)
async def test_a_block_that_cannot_be_read_ends_the_connection(payload: bytes) -> None:
    """With COMPRESSION_ERROR, as the application would."""
    async with pair(h2_inspect=True) as (house, client, application):
        await asked(client, application, 1)
        bad = Http2(await house.client())
        await bad.introduce()
        await bad.send(frame(HEADERS, END_HEADERS, 1, payload))
        async with asyncio.timeout(10):
            away = (await ended(bad))[-1]
        assert (away.kind, away.code) == (GOAWAY, COMPRESSION_ERROR)
        await application.send(application.response(1, end=True))
        assert (await client.next(HEADERS)).stream == 1
