"""Requests that are read on their way: routes, deadlines, access lines; the frames stay as they were."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy.proxy.limits.routes import Route, Timeouts
from tests.proxy.http2.test_connection import SLOWLY, asked, ended, pair, read_fields
from tests.support.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST,
    Http2,
    frame,
)
from tests.support.wire import turns

COMPRESSION_ERROR, CANCEL, NO_ERROR = 9, 8, 0


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
        assert (await read_fields(client, 3))[":status"] == "504"
        await application.next(HEADERS, 3)
        assert (await application.next(RST)).stream == 3
        await application.send(application.response(1, end=True))
        assert (await client.next(HEADERS)).stream == 1


async def test_a_routes_response_head_bounds_a_stream_until_its_answer_has_begun() -> None:
    """The same time as over HTTP/1.1, and the same 504; one that has begun in time goes on."""
    routes = (Route(b"/", frozenset(), Timeouts(response_head=2.0)),)
    async with pair(h2_inspect=True, routes=routes) as (house, client, application):
        await client.send(client.request(1, "/quick"), client.request(3, "/slow"))
        await application.next(HEADERS, 3)
        await application.send(application.response(1))
        assert (await read_fields(client, 1))[":status"] == "200"
        answer = await client.next(HEADERS, 3)
        assert answer.flags & END_STREAM
        fields = dict(client.decoder.decode(answer.payload))
        assert fields[":status"] == "504"
        assert fields["proxy-status"].endswith('details="response-head-timeout"')
        await application.send(frame(DATA, END_STREAM, 1, b"late"))
        assert (await client.next(DATA)).payload == b"late"
        assert house.metrics.h2_streams.value("lost") == 1


async def test_a_routes_idle_ends_a_stream_on_which_nothing_moves() -> None:
    """Bytes of either side are a movement; an answer that has begun is visibly cut."""
    routes = (Route(b"/idle", frozenset(), Timeouts(idle=2.0)),)
    async with pair(h2_inspect=True, routes=routes) as (house, client, application):
        await client.send(client.request(1, "/idle"), client.request(3, "/other"))
        await application.next(HEADERS, 3)
        await application.send(application.response(1), frame(DATA, 0, 1, b"moves"))
        assert (await client.next(DATA)).payload == b"moves"
        reset = await client.next(RST)
        assert (reset.stream, reset.code) == (1, CANCEL)
        assert house.metrics.h2_streams.value("lost") == 1
        await application.send(application.response(3, end=True))
        assert (await client.next(HEADERS, 3)).flags & END_STREAM


async def test_the_rest_of_a_request_is_not_wanted_once_its_time_is_up() -> None:
    """The answer is complete, and NO_ERROR says that nobody reads on (RFC 9113 section 8.1)."""
    routes = (Route(b"/", frozenset(), Timeouts(total=0.2)),)
    async with pair(h2_inspect=True, routes=routes) as (_, client, application):
        await client.send(client.request(1, "/upload", end=False))
        await application.next(HEADERS, 1)
        assert (await read_fields(client, 1))[":status"] == "504"
        reset = await client.next(RST)
        assert (reset.stream, reset.code) == (1, NO_ERROR)


async def test_streams_that_nobody_reads_know_no_response_head() -> None:
    """Many a gRPC server begins its answer with the first message of a stream, whenever that comes."""
    async with pair(response_head_timeout=0.05, total_timeout=0.4) as (_, client, application):
        await client.send(client.request(1))
        await application.next(HEADERS, 1)
        fields = await read_fields(client, 1)
        assert fields["proxy-status"].endswith('details="total-timeout"')


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


async def test_a_routes_body_bounds_what_a_client_sends_on_a_stream() -> None:
    """408 while its side is open; one that has ended it may wait."""
    routes = (Route(b"/", frozenset(), Timeouts(body=1.0)),)
    async with pair(h2_inspect=True, routes=routes) as (house, client, application):
        await client.send(client.request(1, "/through"), client.request(3, "/open", end=False))
        await application.next(HEADERS, 3)
        fields = await read_fields(client, 3)
        assert fields[":status"] == "408"
        assert fields["proxy-status"].endswith('details="body-timeout"')
        assert house.metrics.h2_streams.value("reset") == 1
        await application.send(application.response(1, end=True))
        assert (await client.next(HEADERS, 1)).flags & END_STREAM
