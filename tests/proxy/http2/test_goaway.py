"""GOAWAY by both the application and us: the last stream it names never rises (RFC 9113 section 6.8)."""

from __future__ import annotations

import struct

import pytest

from tests.proxy.http2.test_connection import (
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    LAST,
    NO_ERROR,
    SLOWLY,
    asked,
    ended,
    pair,
)
from tests.support.http2 import DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Frame, Http2, frame
from tests.support.wire import End

IN_ORDER = frame(PING, 0, 0, b"in order")
"""What comes behind something, to tell that it has passed."""


def goaway(last: int, code: int = NO_ERROR, debug: bytes = b"") -> bytes:
    """A GOAWAY as an application says it."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)


async def up_to(client: Http2, kind: int) -> list[Frame]:
    """Every frame up to the first of a kind."""
    seen = [await client.read()]
    while seen[-1].kind != kind:
        seen.append(await client.read())
    return seen


def named(seen: list[Frame]) -> list[int]:
    """The last streams that GOAWAYs have named, in order."""
    return [got.last for got in seen if got.kind == GOAWAY]


FIRST = {
    "its last one": ([goaway(1)], [1, 1]),
    "its warning": ([goaway(LAST)], [LAST, LAST, 1]),
    "both": ([goaway(LAST), goaway(1)], [LAST, 1, 1]),
    "its last one, with words": ([goaway(1, NO_ERROR, b"max_age")], [1, 1]),
    "one that rises": ([goaway(1), goaway(LAST, NO_ERROR, b"x")], [1, 1, 1]),
    "none": ([], [LAST, 1]),
}


@pytest.mark.parametrize("what", FIRST)
async def test_a_drain_after_the_applications_goaway_names_no_higher_stream(what: str) -> None:
    """And the stream that is open ends whole."""
    said, right = FIRST[what]
    async with pair(rules=SLOWLY) as (house, client, application):
        await asked(client, application, 1)
        await application.send(*said, IN_ORDER)
        before = await up_to(client, PING)
        house.sigterm()
        await application.send(application.response(1), frame(DATA, END_STREAM, 1, b"whole"))
        rest = await ended(client)
        assert named(before + rest) == right
        assert [(got.payload, got.flags) for got in rest if got.kind == DATA] == [(b"whole", END_STREAM)]
        assert house.metrics.drain_requests.value("finished") == 1
        assert house.metrics.h2_goaway.value("drain") == 1


async def test_the_applications_goaway_after_ours_passes_and_is_not_exceeded() -> None:
    """Its last one, in mid drain: ours at the end repeats it, though the client has opened more."""
    async with pair(rules=SLOWLY) as (house, client, application):
        await asked(client, application, 1)
        await asked(client, application, 3)
        house.sigterm()
        before = await up_to(client, PING)
        await application.send(
            goaway(1, NO_ERROR, b"why"), application.response(1), frame(DATA, END_STREAM, 1, b"whole")
        )
        rest = await ended(client)
        assert named(before + rest) == [LAST, 1, 1]
        assert next(got.payload for got in rest if got.kind == GOAWAY)[8:] == b"why"
        assert [got.payload for got in rest if got.kind == DATA] == [b"whole"]
        outcomes = house.metrics.drain_requests
        assert (outcomes.value("finished"), outcomes.value("refused")) == (1, 1)


@pytest.mark.parametrize("when", ["opened before", "on its way"])
async def test_a_stream_that_the_application_will_not_answer_holds_nothing(when: str) -> None:
    """It is above the last one of its GOAWAY: the client knows that it was never taken. Its frames pass on,
    since they count for header compression and windows."""
    async with pair(rules=SLOWLY) as (house, client, application):
        await asked(client, application, 1)
        if when == "opened before":
            await asked(client, application, 3, end=False)
        await application.send(goaway(1), IN_ORDER)
        await up_to(client, PING)
        if when == "on its way":
            await asked(client, application, 3, end=False)
        trailers = frame(HEADERS, END_HEADERS | END_STREAM, 3, client.block(("a", "b")))
        await client.send(frame(DATA, 0, 3, b"late"), trailers)
        assert (await application.next(DATA, 3)).payload == b"late"
        assert await application.next(HEADERS, 3)
        await house.until(lambda: len(house.inflight) == 1)
        assert house.metrics.h2_streams.value("refused") == 1
        house.sigterm()
        await application.send(application.response(1, end=True))
        assert named(await ended(client)) == [1]


@pytest.mark.parametrize("code", [NO_ERROR, ENHANCE_YOUR_CALM])
async def test_an_application_that_closes_behind_its_goaway_has_said_enough(code: int) -> None:
    """Another of ours would take back its reason and its words; the client sees both, and the end."""
    async with pair() as (house, client, application):
        await asked(client, application, 1)
        await application.send(application.response(1, end=True), goaway(1, code, b"too_many_pings"))
        application.wire.close()
        away = [got for got in await ended(client) if got.kind == GOAWAY]
        assert [(got.last, got.code, got.payload[8:]) for got in away] == [(1, code, b"too_many_pings")]
        assert client.wire.end is End.FIN
        assert house.metrics.h2_streams.value("finished") == 1


async def test_an_application_that_closes_behind_its_warning_is_spoken_for() -> None:
    """What the client has opened last is not known to it otherwise."""
    async with pair() as (house, client, application):
        await asked(client, application, 1)
        await application.send(goaway(LAST))
        application.wire.close()
        away = [got for got in await ended(client) if got.kind == GOAWAY]
        assert [(got.last, got.code) for got in away] == [(LAST, NO_ERROR), (1, INTERNAL_ERROR)]
        assert house.metrics.h2_streams.value("lost") == 1


@pytest.mark.parametrize("sent", [frame(GOAWAY, 0, 0, b"short"), frame(GOAWAY, 0, 1, bytes(8))])
async def test_a_broken_goaway_of_the_application_ends_the_connection(sent: bytes) -> None:
    """It reaches nobody."""
    async with pair() as (house, client, application):
        await application.send(sent)
        assert [got.code for got in await ended(client) if got.kind == GOAWAY] == [NO_ERROR]
        assert house.metrics.errors.value("upstream-malformed") == 1
