"""What a client begins and does not finish: it has the time of a head, and holds no drain."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.proxy.http2.test_connection import LAST, NO_ERROR, SLOWLY, asked, ended, pair
from tests.support.house import House
from tests.support.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST,
    SETTINGS,
    Frame,
    Http2,
    frame,
    settings,
)
from tests.support.upstream import Connection, Upstream
from tests.support.wire import Ended

PINGED = frame(PING, 0, 0, b"in order")
HALVES = {
    "a part of a frame's header": PINGED[:5],
    "one byte": PINGED[:1],
    "half a ping": PINGED[:12],
    "half of headers": frame(HEADERS, END_HEADERS, 3, bytes(100))[:50],
    "data of a stream that has ended": frame(DATA, 0, 1, bytes(100))[:50],
    "an open header block": frame(HEADERS, END_STREAM, 3, b"\x82"),
    "an open header block and half a frame": frame(HEADERS, END_STREAM, 3, b"\x82") + b"\0\0",
    "trailers that do not end": frame(HEADERS, END_STREAM, 5, b""),
}


def named(seen: list[Frame]) -> list[tuple[int, int]]:
    """The last streams that GOAWAYs have named, with their codes, in order."""
    return [(got.last, got.code) for got in seen if got.kind == GOAWAY]


@pytest.mark.parametrize("what", HALVES)
async def test_half_of_something_has_the_time_of_a_head(what: str) -> None:
    """Though another stream is open, whose answer is awaited. It is counted, with a line."""
    async with pair(head_timeout=0.3) as (house, client, application):
        await asked(client, application, 1)
        await application.send(application.response(1, end=True))
        last = 1
        if what.startswith("trailers"):
            await asked(client, application, last := 5, end=False)
        await client.send(HALVES[what])
        assert named(await ended(client)) == [(last, NO_ERROR)]
        assert house.refused() == {"head-timeout": 1}
        assert [line["reason"] for line in house.diary.of("turned_away")] == ["head-timeout"]


async def test_a_block_has_its_time_as_a_whole() -> None:
    """A client that adds to it now and then gains nothing."""
    async with pair(head_timeout=0.3) as (house, client, _):
        await client.send(frame(HEADERS, END_STREAM, 1))
        ending = asyncio.ensure_future(ended(client))
        with contextlib.suppress(OSError):
            while not ending.done():
                await client.send(frame(CONTINUATION, 0, 1))
                await asyncio.wait([ending], timeout=0.05)
        assert named(await ending) == [(0, NO_ERROR)]
        assert house.refused() == {"head-timeout": 1}


async def test_data_of_an_open_stream_takes_its_time() -> None:
    """It is a body: a client whose network pauses has not failed."""
    async with pair(head_timeout=0.2) as (house, client, application):
        await asked(client, application, 1, end=False)
        whole = frame(DATA, END_STREAM, 1, bytes(100))
        await client.send(whole[:50])
        clock = Http2(await house.client())
        await clock.send(PREFACE)
        await clock.next(GOAWAY)
        await client.send(whole[50:])
        assert frame(*await application.next(DATA)) == whole


async def test_one_frame_after_another_may_begin_late() -> None:
    """The time is each frame's own: reads that end within one after another are a busy client's."""
    async with pair(head_timeout=0.4) as (house, client, application):
        clock = Http2(await house.client())
        await clock.send(PREFACE)
        ending = asyncio.ensure_future(clock.next(GOAWAY))
        await client.send(PINGED[:5])
        while not ending.done():
            await client.send(PINGED[5:] + PINGED[:5])
            await application.next(PING)
            await asyncio.wait([ending], timeout=0.05)
        await client.send(PINGED[5:])
        await asked(client, application, 1)
        assert not house.refused()


@pytest.mark.parametrize("what", [what for what in HALVES if not what.startswith("trailers")])
async def test_half_of_something_holds_no_drain(what: str) -> None:
    """GOAWAY names the last stream whose head was whole: the client may repeat what it had begun."""
    async with pair(rules=SLOWLY) as (house, client, application):
        await asked(client, application, 1)
        await application.send(application.response(1, end=True))
        await client.next(HEADERS)
        await client.send(HALVES[what])
        (half,) = (client.from_client for client in house.registry.clients)
        await house.until(lambda: half.pieces or half.block)
        house.sigterm()
        assert named(await ended(client)) == [(LAST, NO_ERROR), (1, NO_ERROR)]
        assert not len(house.inflight)
        assert house.metrics.drain_requests.value("finished") == 0
        assert not [got for got in await ended(application) if got.kind == RST]


@pytest.mark.parametrize("inspect", [False, True])
async def test_a_block_that_ends_is_a_request(inspect: bool) -> None:
    """Of however many frames: then it is work, and what the drain waits for."""
    async with pair(rules=SLOWLY, h2_inspect=inspect) as (house, client, application):
        block = client.block((":method", "POST"), (":scheme", "http"), (":path", "/x"))
        await client.send(frame(HEADERS, END_STREAM, 1, block[:2]), frame(CONTINUATION, 0, 1, block[2:4]))
        await application.next(CONTINUATION)
        assert not len(house.inflight)
        house.sigterm()
        await client.next(GOAWAY)
        await client.send(frame(CONTINUATION, END_HEADERS, 1, block[4:]))
        await application.next(CONTINUATION)
        (work,) = house.inflight
        assert work.describe()["path"] == ("/x" if inspect else "(stream 1)")
        await application.send(application.response(1, end=True))
        assert (await client.next(HEADERS)).stream == 1
        assert named(await ended(client))[-1] == (1, NO_ERROR)
        assert house.metrics.drain_requests.value("finished") == 1


async def test_a_stream_that_is_reset_before_its_head_is_whole_is_none() -> None:
    """The application has had enough of it; what follows opens nothing."""
    async with pair() as (house, client, application):
        await client.send(frame(HEADERS, END_STREAM, 1, b"\x82"))
        await application.next(HEADERS)
        await application.send(frame(RST, 0, 1, b"\0\0\0\x0b"))
        await client.next(RST)
        await client.send(frame(CONTINUATION, END_HEADERS, 1), PINGED)
        await application.next(PING)
        assert not len(house.inflight)


async def test_what_an_application_says_to_a_client_that_has_been_sent_away_is_not_read() -> None:
    """It greets before it is greeted, while the client's broken frame ends the connection."""

    async def greet(connection: Connection) -> None:
        await connection.send(settings(max_concurrent_streams=100))
        with contextlib.suppress(Ended):
            await connection.read_exactly(1 << 20)

    async with Upstream(greet) as upstream, House(upstream) as house:
        for _ in range(30):
            client = Http2(await house.client())
            await client.send(PREFACE, PINGED)
            assert [got.kind for got in await ended(client)] == [SETTINGS, GOAWAY]
            client.wire.close()
