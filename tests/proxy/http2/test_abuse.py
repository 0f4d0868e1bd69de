"""What abuse of HTTP/2 costs its sender, what of it reaches the application, and that nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.proxy.http2.test_connection import (
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SLOWLY,
    asked,
    ended,
    pair,
)
from tests.support.house import House
from tests.support.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PUSH,
    RST,
    SETTINGS,
    Frame,
    Http2,
    frame,
    settings,
)
from tests.support.upstream import Upstream
from tests.support.wire import Ended

FLOOD = 3000
LIMITS = {"h2_max_pings": 100, "h2_max_resets": 100, "h2_max_streams": 200}
"""Of what is counted a second, ten times as much may come within the first ten seconds."""

OPEN = frame(HEADERS, END_HEADERS, 1)
HALF_OPEN = frame(HEADERS, 0, 1)
PINGS = frame(PING, 0, 0, b"12345678")
BROKEN = {
    "no settings first": ([PINGS], PROTOCOL_ERROR),
    "data on an idle stream": ([settings(), frame(DATA, 0, 1, b"x")], PROTOCOL_ERROR),
    "data on no stream": ([settings(), frame(DATA, 0, 0, b"x")], PROTOCOL_ERROR),
    "headers of no stream": ([settings(), frame(HEADERS, END_HEADERS, 0)], PROTOCOL_ERROR),
    "an even stream": ([settings(), frame(HEADERS, END_HEADERS, 2)], PROTOCOL_ERROR),
    "a stream going back": ([settings(), frame(HEADERS, END_HEADERS, 5), OPEN], PROTOCOL_ERROR),
    "a frame within a block": ([settings(), HALF_OPEN, PINGS], PROTOCOL_ERROR),
    "another's continuation": ([settings(), HALF_OPEN, frame(CONTINUATION, 0, 3)], PROTOCOL_ERROR),
    "a continuation of nothing": ([settings(), frame(CONTINUATION, END_HEADERS, 1)], PROTOCOL_ERROR),
    "a push": ([settings(), frame(PUSH, END_HEADERS, 1, b"\0\0\0\2")], PROTOCOL_ERROR),
    "a reset of an idle stream": ([settings(), frame(RST, 0, 7, b"\0\0\0\0")], PROTOCOL_ERROR),
    "a short ping": ([settings(), frame(PING, 0, 0, b"1234567")], FRAME_SIZE_ERROR),
    "odd settings": ([frame(SETTINGS, 0, 0, b"12345")], FRAME_SIZE_ERROR),
    "an oversized frame": ([settings(), b"\xff\xff\xff\0\0\0\0\0\1"], FRAME_SIZE_ERROR),
}
FLOODS = {
    "settings": ([frame(SETTINGS)] * FLOOD, "settings", SETTINGS, 10 * 10),
    "pings": ([PINGS] * FLOOD, "ping", PING, 100 * 10),
    "empty continuations": (
        [HALF_OPEN, *[frame(CONTINUATION, 0, 1)] * FLOOD],
        "continuation",
        CONTINUATION,
        63,
    ),
    "an endless block": (
        [HALF_OPEN, *[frame(CONTINUATION, 0, 1, b"x" * 16_000)] * 9],
        "continuation",
        CONTINUATION,
        4,
    ),
    "empty data": ([OPEN, *[frame(DATA, 0, 1)] * FLOOD], "empty", DATA, 100 * 10),
    "rapid reset": (
        [frame(HEADERS, END_HEADERS, n) + frame(RST, 0, n, b"\0\0\0\x08") for n in range(1, 2 * FLOOD, 2)],
        "reset",
        RST,
        100 * 10,
    ),
    "streams": (
        [frame(HEADERS, END_HEADERS, n) for n in range(1, 2 * FLOOD, 2)],
        "streams",
        HEADERS,
        200 + 100 * 10,
    ),
}


async def abused(sent: list[bytes]) -> tuple[House, Frame, list[Frame]]:
    """Send on one connection while another has a call; return the last frame, and what got through.

    The other's call is answered afterwards.
    """
    async with Upstream() as upstream, House(upstream, **LIMITS) as house:
        client = Http2(await house.client())
        await client.introduce()
        application = Http2(await upstream.connection())
        await application.greet()
        await asked(client, application, 1)
        bad = Http2(await house.client())
        sending = asyncio.ensure_future(bad.send(PREFACE, *sent))
        theirs = Http2(await upstream.connection())
        seen, (first, *_, last) = await asyncio.gather(received(theirs), ended(bad))
        assert first.kind == SETTINGS
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        bad.wire.close()
        await application.send(application.response(1, end=True))
        assert (await client.next(HEADERS)).stream == 1
        assert house.metrics.h2_streams.value("finished") == 1
        return house, last, seen


async def received(application: Http2) -> list[Frame]:
    """What an application gets until its connection ends."""
    with contextlib.suppress(Ended):
        await application.wire.read_exactly(len(PREFACE))
        return await ended(application)
    return []


@pytest.mark.parametrize("what", BROKEN)
async def test_what_is_against_the_protocol_ends_the_connection_it_came_on_and_no_other(what: str) -> None:
    """With the right code; the frame itself reaches nobody."""
    sent, code = BROKEN[what]
    _, last, seen = await abused(sent)
    assert (last.kind, last.code) == (GOAWAY, code)
    assert all(frame(*got) != sent[-1] for got in seen)


@pytest.mark.parametrize("what", FLOODS)
async def test_a_flood_ends_the_connection_it_came_on_and_no_other(what: str) -> None:
    """With ENHANCE_YOUR_CALM, counted; the application gets no more of it than the limit allows."""
    sent, kind, flood, bound = FLOODS[what]
    house, last, seen = await abused([settings(), *sent])
    assert (last.kind, last.code) == (GOAWAY, ENHANCE_YOUR_CALM)
    assert house.metrics.h2_abuse.value(kind) == 1
    assert sum(got.kind == flood for got in seen) <= bound


async def test_streams_beyond_the_limit_are_refused_and_those_below_it_go_on() -> None:
    """A client that was not told of the limit yet has done nothing wrong (RFC 9113 section 5.1.2)."""
    async with pair(h2_max_streams=2) as (house, client, application):
        for number in (1, 3, 5):
            await asked(client, application, number)
        reset = await client.next(RST)
        assert (reset.stream, reset.code) == (5, REFUSED_STREAM)
        assert (await application.next(RST)).stream == 5
        await application.send(application.response(1, end=True), application.response(3, end=True))
        assert [(await client.next(HEADERS)).stream for _ in range(2)] == [1, 3]
        await asked(client, application, 7)
        await application.send(application.response(7, end=True))
        assert (await client.next(HEADERS)).stream == 7
        streams = house.metrics.h2_streams
        assert (streams.value("finished"), streams.value("refused")) == (3, 1)


async def test_headers_of_the_last_stream_after_its_end_have_a_code_of_their_own() -> None:
    """As they have from the application, which still knows the stream."""
    async with pair() as (_, client, application):
        await asked(client, application, 1)
        await application.send(application.response(1, end=True))
        await client.next(HEADERS)
        await client.send(OPEN)
        assert [got.code for got in await ended(client) if got.kind == GOAWAY] == [5]


async def test_a_broken_preface_is_refused() -> None:
    """It began well."""
    async with Upstream() as upstream, House(upstream) as house:
        client = Http2(await house.client())
        await client.send(PREFACE[:-4] + b"XX\r\n\r\n" + settings())
        first, away = await ended(client)
        assert (first.kind, away.kind, away.code) == (SETTINGS, GOAWAY, PROTOCOL_ERROR)
        assert upstream.accepted <= 1


async def test_a_client_that_ignores_goaway_is_served_until_the_deadline() -> None:
    """Its streams end then as everybody's do, and it is told which was the last."""
    async with pair(rules=SLOWLY, lifecycle={"drain_timeout": 1.5}) as (house, client, application):
        house.sigterm()
        await client.next(GOAWAY)
        ping = await client.next(PING)
        await asked(client, application, 1)
        await client.send(frame(PING, ACK, 0, ping.payload))
        await asked(client, application, 3)
        await application.send(application.response(1, end=True))
        assert (await client.next(HEADERS)).stream == 1
        *_, answer, away = await ended(client)
        assert (answer.kind, answer.flags, answer.stream) == (HEADERS, END_HEADERS | END_STREAM, 3)
        assert (away.kind, away.last, away.code) == (GOAWAY, 3, NO_ERROR)
        assert not len(house.inflight)
