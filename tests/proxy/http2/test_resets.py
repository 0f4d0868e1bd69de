"""How many streams a client may reset, or have reset: it is weighed against what was answered."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest

from drainproxy.proxy.http2.faults import Abuse
from drainproxy.proxy.http2.flood_limits import PROMPT_S, RESETS_AN_ANSWER, WINDOW_S, FloodLimits
from drainproxy.proxy.settings import ProxySettings
from tests.proxy.http2.test_connection import CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, asked, ended, pair
from tests.support.flavours import of_sources
from tests.support.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST,
    WINDOW,
    Http2,
    frame,
)

PROVOKING = {
    "a window update of nothing": ((WINDOW, 0, bytes(4)), 1),
    "a window update beyond the largest": ((WINDOW, 0, struct.pack(">I", 2**31 - 1)), 3),
    "data after the end": ((DATA, 0, b"late"), 5),
    "headers after the end": ((HEADERS, END_HEADERS | END_STREAM, b"\x82"), 5),
    "a priority of a wrong size": ((2, 0, bytes(4)), 6),
    "a priority below itself": ((2, 0, struct.pack(">IB", 1, 0)), 1),
}


def reset(stream: int, code: int = CANCEL) -> bytes:
    """A RST_STREAM."""
    return frame(RST, 0, stream, struct.pack(">I", code))


async def in_order(source: Http2, sink: Http2) -> None:
    """What `source` has sent so far has passed."""
    await source.send(frame(PING, 0, 0, b"in order"))
    await sink.next(PING)


async def test_of_streams_that_were_reset_so_many_are_remembered() -> None:
    """The last thousand, whose late frames may still come: a client can reset streams for ever."""
    async with pair() as (house, client, application):
        for first in range(1, 2_202, 100):
            streams = range(first, first + 100, 2)
            await client.send(*(client.request(number, end=False) for number in streams))
            for number in streams:
                application.decoder.decode((await application.next(HEADERS, number)).payload)
            await application.send(*(application.response(number) for number in streams))
            await client.next(HEADERS, streams[-1])
            await client.send(*(reset(number) for number in streams))
        await in_order(client, application)
        (ours,) = house.registry.clients
        assert ours._streams.remembered == 1000


async def test_calls_that_are_hedged_or_cancelled_pass() -> None:
    """Four of five are reset without an answer, three times as many as a flood may be."""
    async with pair(h2_max_resets=10) as (house, client, application):
        for first in range(1, 751, 10):
            streams = range(first, first + 10, 2)
            await client.send(*(client.request(number) for number in streams))
            for number in streams:
                application.decoder.decode((await application.next(HEADERS, number)).payload)
            await application.send(application.response(first, end=True))
            await client.next(HEADERS, first)
            await client.send(*(reset(number) for number in streams if number != first))
        await in_order(client, application)
        streams = house.metrics.h2_streams
        assert (streams.value("finished"), streams.value("reset")) == (75, 300)


async def test_streams_that_were_answered_are_let_go_of_without_limit() -> None:
    """As a caller does that has seen enough of a stream of events."""
    async with pair(h2_max_resets=1) as (house, client, application):
        for number in range(1, 101, 2):
            await asked(client, application, number)
            await application.send(application.response(number))
            await client.next(HEADERS, number)
            await client.send(reset(number))
        await in_order(client, application)
        assert house.metrics.h2_streams.value("reset") == 50


async def test_few_answers_do_not_pay_for_a_flood() -> None:
    """One in a hundred: the others end the connection."""
    async with pair(h2_max_resets=1) as (house, client, application):
        await asked(client, application, 1)
        await application.send(application.response(1, end=True))
        await client.next(HEADERS)
        allowed = 10 + RESETS_AN_ANSWER
        for number in range(3, 3 + 2 * allowed + 2, 2):
            await client.send(client.request(number), reset(number))
        away = [got for got in await ended(client) if got.kind == GOAWAY]
        assert [got.code for got in away] == [ENHANCE_YOUR_CALM]
        assert len([got for got in await ended(application) if got.kind == RST]) == allowed
        assert house.metrics.h2_abuse.value("reset") == 1
        assert [line["detail"] for line in house.diary.of("turned_away")] == ["too much: reset"]


@pytest.mark.parametrize("what", PROVOKING)
async def test_resets_that_a_client_provokes_count_as_its_own(what: str) -> None:
    """MadeYouReset, CVE-2025-8671: the application gives the stream up, and works on for it."""
    (kind, flags, payload), code = PROVOKING[what]
    async with pair(h2_max_resets=1) as (house, client, application):
        last = 0
        for last in range(1, 23, 2):
            await asked(client, application, last)
            await client.send(frame(kind, flags, last, payload))
            await application.next(kind, last)
            await application.send(reset(last, code))
            if last < 21:
                await client.next(RST, last)
        away = [got for got in await ended(client) if got.kind == GOAWAY]
        assert [(got.last, got.code) for got in away] == [(last, ENHANCE_YOUR_CALM)]
        assert house.metrics.h2_abuse.value("reset") == 1
        assert house.metrics.errors.value("upstream-malformed") == 0


@pytest.mark.parametrize("code", [0, INTERNAL_ERROR, 7, CANCEL, ENHANCE_YOUR_CALM])
async def test_resets_of_an_applications_own_do_not_count(code: int) -> None:
    """It is done, or has had enough, or has failed."""
    async with pair(h2_max_resets=1) as (house, client, application):
        for number in range(1, 61, 2):
            await asked(client, application, number)
            await application.send(reset(number, code))
            await client.next(RST, number)
        assert house.metrics.h2_streams.value("reset") == 30


def counted(guard: FloodLimits, now: float) -> int:
    """Reset streams that were neither answered nor waited for, until it is too much."""
    stream = SimpleNamespace(answered=False, started=now)
    for number in range(1_000_000):
        try:
            guard.reset(stream, now)
        except Abuse:
            return number
    raise AssertionError("no limit")


@of_sources("its stream is none")
def test_the_answers_of_the_window_before_count_too() -> None:
    """An application that has stopped for a moment is no reason to end its clients' connections."""
    guard = FloodLimits(ProxySettings(h2_max_resets=20), 0.0)
    guard.answered = 100
    allowed = 200 + RESETS_AN_ANSWER * 100
    assert counted(guard, WINDOW_S) == allowed
    assert counted(guard, WINDOW_S + 0.001) == pytest.approx(allowed, abs=2)
    assert counted(guard, 2 * WINDOW_S + 0.002) == 200


@of_sources("its stream is none")
def test_answers_of_long_ago_count_for_one_window() -> None:
    """A connection that has been busy for an hour has not saved up for a flood."""
    guard = FloodLimits(ProxySettings(h2_max_resets=20), 0.0)
    guard.answered = 36_000
    assert counted(guard, 3_600.0) == 200 + RESETS_AN_ANSWER * 100


@of_sources("its stream is none")
def test_a_stream_that_was_waited_for_does_not_count() -> None:
    """A call whose deadline has passed: open streams are bounded, and so is their rate."""
    guard = FloodLimits(ProxySettings(h2_max_resets=1), 0.0)
    for _ in range(1000):
        guard.reset(SimpleNamespace(answered=False, started=1.0), 1.0 + PROMPT_S)
    assert counted(guard, 2.0) == 10
