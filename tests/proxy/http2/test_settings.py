"""SETTINGS with values that they must not have (RFC 9113 section 6.5.2): refused, not cured on the way."""

from __future__ import annotations

import struct

import pytest

from tests.proxy.http2.test_connection import (
    FRAME_SIZE_ERROR,
    INTERNAL_ERROR,
    PROTOCOL_ERROR,
    asked,
    ended,
    pair,
)
from tests.support.house import House
from tests.support.http2 import ACK, DATA, GOAWAY, HEADERS, PREFACE, SETTINGS, Frame, Http2, frame, settings
from tests.support.upstream import Upstream

FLOW_CONTROL_ERROR = 3
WRONG = {
    "a push that is neither": (settings(enable_push=2), PROTOCOL_ERROR),
    "a large push": (settings(enable_push=2**32 - 1), PROTOCOL_ERROR),
    "a window too large": (settings(initial_window_size=2**31), FLOW_CONTROL_ERROR),
    "the largest number as a window": (settings(initial_window_size=2**32 - 1), FLOW_CONTROL_ERROR),
    "a frame size too small": (settings(max_frame_size=16_383), PROTOCOL_ERROR),
    "no frame size": (settings(max_frame_size=0), PROTOCOL_ERROR),
    "a frame size too large": (settings(max_frame_size=2**24), PROTOCOL_ERROR),
    "a wrong one before a right one": (
        frame(SETTINGS, 0, 0, struct.pack(">HIHI", 2, 2, 2, 0)),
        PROTOCOL_ERROR,
    ),
    "of one stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "an acknowledgement of one stream": (frame(SETTINGS, ACK, 1), PROTOCOL_ERROR),
    "an acknowledgement that says something": (frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
}
RIGHT = {
    "the least": {"enable_push": 0, "initial_window_size": 0, "max_frame_size": 16_384},
    "the most": {"enable_push": 0, "initial_window_size": 2**31 - 1, "max_frame_size": 2**24 - 1},
}


async def last_goaway(client: Http2) -> Frame:
    """The GOAWAY before the end."""
    return [got for got in await ended(client) if got.kind == GOAWAY][-1]


@pytest.mark.parametrize("what", WRONG)
async def test_a_clients_wrong_settings_end_its_connection(what: str) -> None:
    """With the code for it; they reach nobody, and the call before them does."""
    sent, code = WRONG[what]
    async with pair() as (_, client, application):
        await asked(client, application, 1)
        await client.send(sent)
        away = await last_goaway(client)
        assert (away.last, away.code) == (1, code)
        assert not [got for got in await ended(application) if got.kind == SETTINGS and got.payload]


@pytest.mark.parametrize("what", WRONG)
async def test_a_clients_first_settings_are_looked_at_alike(what: str) -> None:
    """SETTINGS come before our GOAWAY all the same, as a server's first frame (section 3.4)."""
    sent, code = WRONG[what]
    if sent[4] & ACK:
        code = PROTOCOL_ERROR
    async with Upstream() as upstream, House(upstream) as house:
        client = Http2(await house.client())
        await client.send(PREFACE, sent)
        first, away = await ended(client)
        assert (first.kind, away.kind, away.code) == (SETTINGS, GOAWAY, code)


@pytest.mark.parametrize("what", [*WRONG, "a push that is on"])
async def test_an_applications_wrong_settings_end_the_connection(what: str) -> None:
    """A push that is switched on is wrong from a server. The client hears that it is not to blame."""
    sent = WRONG[what][0] if what in WRONG else settings(enable_push=1)
    async with pair() as (house, client, application):
        await asked(client, application, 1)
        await application.send(sent)
        away = await last_goaway(client)
        assert (away.last, away.code) == (1, INTERNAL_ERROR)
        assert house.metrics.errors.value("upstream-malformed") == 1


@pytest.mark.parametrize("what", RIGHT)
async def test_what_is_within_the_range_passes(what: str) -> None:
    """Up to what is lowered for our own sake."""
    values = RIGHT[what]
    async with pair() as (house, client, application):
        bound = min(values["max_frame_size"], house.settings.h2_max_frame_bytes)
        right = settings(**{**values, "max_frame_size": bound})
        for peer, other in ((client, application), (application, client)):
            await peer.send(settings(**values))
            assert frame(*await other.next(SETTINGS)) == right
        await asked(client, application, 1)
        await application.send(application.response(1, end=True))
        await client.next(HEADERS)


async def test_a_setting_that_is_said_twice_is_said_twice() -> None:
    """The application's encoder has to know of the least header table in between (RFC 7541 section 4.2)."""
    sent = frame(SETTINGS, 0, 0, struct.pack(">HIHIHI", 1, 0, 0x77, 5, 1, 4096))
    async with pair() as (_, client, application):
        await client.send(sent)
        assert frame(*await application.next(SETTINGS)) == sent


@pytest.mark.parametrize("who", ["client", "application"])
async def test_frames_on_their_way_pass_though_smaller_ones_were_asked_for(who: str) -> None:
    """Whoever takes large frames and then asks for smaller ones gets what was made before its peer heard of
    that; what it will not have is for it to refuse."""
    large = frame(DATA, 0, 1, b"x" * 40_000)
    async with pair() as (_, client, application):
        receiver, sender = (client, application) if who == "client" else (application, client)
        await asked(client, application, 1, end=False)
        await application.send(application.response(1))
        for size in (40_000, 16_384):
            await receiver.send(settings(max_frame_size=size))
            assert frame(*await sender.next(SETTINGS)) == settings(max_frame_size=size)
        await sender.send(large)
        assert frame(*await receiver.next(DATA)) == large


@pytest.mark.parametrize("who", ["client", "application"])
async def test_a_frame_larger_than_was_ever_agreed_ends_the_connection(who: str) -> None:
    """By one byte, at each agreement: the least, and what SETTINGS made of it."""
    for agreed in (16_384, 40_000):
        async with pair() as (_, client, application):
            receiver, sender = (client, application) if who == "client" else (application, client)
            await asked(client, application, 1, end=False)
            await receiver.send(settings(max_frame_size=agreed))
            await sender.next(SETTINGS)
            fits = frame(DATA, 0, 1, b"x" * agreed)
            await sender.send(fits)
            assert frame(*await receiver.next(DATA)) == fits
            await sender.send(frame(DATA, 0, 1, b"x" * (agreed + 1)))
            code = INTERNAL_ERROR if who == "client" else FRAME_SIZE_ERROR
            assert (await last_goaway(client)).code == code
