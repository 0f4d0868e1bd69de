"""HTTP/2 connections over real sockets: what passes, how a drain ends them, what abuse costs its sender."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING

import pytest

from drainproxy.lifecycle.propagation import Rules
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
    RST,
    SETTINGS,
    WINDOW,
    Http2,
    frame,
    settings,
)
from tests.support.upstream import Upstream
from tests.support.wire import End, Ended, turns
from tests.support.words import GET, OK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLOWLY = Rules(min_s=60, margin_s=60, quiet_s=0, max_s=60, hold_min=True)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FRAME_SIZE_ERROR = 0, 1, 2, 6
REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM, HTTP_1_1_REQUIRED = 7, 8, 11, 13
LAST = 2**31 - 1


@contextlib.asynccontextmanager
async def pair(**how: object) -> AsyncIterator[tuple[House, Http2, Http2]]:
    """A house, a client and the application it reaches, both past their SETTINGS."""
    async with Upstream() as upstream, House(upstream, **how) as house:
        client = Http2(await house.client())
        await client.introduce()
        application = Http2(await upstream.connection())
        await application.greet()
        await client.next(SETTINGS)
        await application.send(frame(SETTINGS, ACK))
        await client.send(frame(SETTINGS, ACK))
        yield house, client, application


async def asked(client: Http2, application: Http2, stream: int, *, end: bool = True) -> None:
    """Open a stream; return when the application has it."""
    await client.send(client.request(stream, end=end))
    application.decoder.decode((await application.next(HEADERS, stream)).payload)


async def read_fields(client: Http2, stream: int) -> dict[str, str]:
    """The fields of a stream's next HEADERS."""
    return dict(client.decoder.decode((await client.next(HEADERS, stream)).payload))


async def ended(peer: Http2) -> list:
    """Every frame until the connection closes."""
    seen = []
    with contextlib.suppress(Ended):
        while True:
            seen.append(await peer.read())
    return seen


async def test_a_connection_idles_no_longer_than_others_whatever_was_open_on_it_before() -> None:
    """A stream was open when the time for the handshake was over: nothing else had a time then."""
    async with pair(head_timeout=0.2, keepalive_idle=0.5) as (house, client, application):
        await asked(client, application, 1)
        await asyncio.sleep(0.4)
        await application.send(application.response(1, end=True))
        await client.next(HEADERS)
        assert (await client.next(GOAWAY)).code == NO_ERROR
        assert house.metrics.h2_goaway.value("idle") == 1


async def test_one_that_asks_nothing_gives_way_beyond_the_limit() -> None:
    """As one of HTTP/1.1 does, though an order of who has idled longest is kept already."""
    async with Upstream() as upstream, House(upstream, max_connections=4) as house:
        mute = []
        for _ in range(4):
            client = Http2(await house.client())
            await client.introduce()
            await Http2(await upstream.connection()).greet()
            await client.next(SETTINGS)
            mute.append(client)
        await asyncio.sleep(1.1)
        newcomers = []
        for _ in range(4):
            newcomers.append(await house.client())
            await turns(5)
        assert house.metrics.client_connections_evicted.value() == 4
        for client in mute:
            assert (await client.next(GOAWAY)).code == NO_ERROR


async def test_frames_pass_as_they_are_both_ways() -> None:
    """Header blocks, padding, priorities, trailers and frames nobody knows: byte for byte."""
    async with pair() as (house, client, application):
        sent = [
            frame(
                HEADERS, END_HEADERS | 0x20, 1, struct.pack(">IB", 0, 9) + client.block((":method", "GET"))
            ),
            frame(2, 0, 3, struct.pack(">IB", 1, 200)),
            frame(DATA, 0x8, 1, b"\x03abc\0\0\0"),
            frame(0x77, 0xFF, 1, b"unknown"),
            frame(WINDOW, 0, 1, struct.pack(">I", 1000)),
            frame(PING, 0, 0, b"12345678"),
            frame(HEADERS, END_STREAM | END_HEADERS, 1, client.block(("trailer", "x"))),
        ]
        await client.send(*sent)
        await application.next(SETTINGS, ack=True)
        raw = b"".join(sent)
        assert await application.wire.read_exactly(len(raw)) == raw
        answer = [
            application.response(1),
            frame(DATA, 0, 1, b"hello"),
            frame(PING, ACK, 0, b"12345678"),
            frame(HEADERS, END_STREAM | END_HEADERS, 1, application.block(("grpc-status", "0"))),
        ]
        await application.send(*answer)
        raw = b"".join(answer)
        await client.next(SETTINGS, ack=True)
        assert await client.wire.read_exactly(len(raw)) == raw
        await house.until(lambda: house.metrics.h2_streams.value("finished") == 1)


async def test_bytes_that_come_one_by_one_arrive_as_whole_frames() -> None:
    """However a client's segments are cut, the preface too."""
    async with Upstream() as upstream, House(upstream) as house:
        client = Http2(await house.client())
        await client.wire.send_bytewise(PREFACE + settings() + client.request(1))
        application = Http2(await upstream.connection())
        await application.greet()
        assert (await application.next(HEADERS)).stream == 1


async def test_a_frame_that_is_not_complete_is_not_passed_on() -> None:
    """It is held until it is."""
    async with pair() as (_, client, application):
        whole = client.request(1)
        await client.send(frame(PING, 0, 0, b"12345678"), whole[:-1])
        await application.next(PING)
        await asyncio.sleep(0.05)
        assert not application.wire.received
        await client.send(whole[-1:])
        assert (await application.next(HEADERS)).stream == 1


async def test_a_large_frame_that_is_not_complete_counts_as_held() -> None:
    """On either side, whole, until it is or its connection ends; a small one does not."""
    whole = frame(DATA, 0, 1, bytes(10_000))
    size = len(whole)
    async with pair() as (house, client, application):
        await asked(client, application, 1, end=False)
        for peer in (client, application):
            await peer.send(whole[:100])
            await house.until(lambda: house.buffers.held_bytes == size)
            await peer.send(whole[100:] + frame(DATA, 0, 1, bytes(1_000))[:-1])
            await house.until(lambda: house.buffers.held_bytes == 0)
            await peer.send(b"\0")
        await client.send(whole[:5_000])
        await application.send(whole[:5_000])
        await house.until(lambda: house.buffers.held_bytes == 2 * size)
        client.wire.reset()
        await house.until(lambda: house.buffers.held_bytes == 0)


async def test_settings_are_bounded_and_pushes_refused() -> None:
    """A frame must fit into the buffer; nobody pushes; streams are limited where the application does not."""
    async with Upstream() as upstream, House(upstream, h2_max_frame_bytes=65536, h2_max_streams=50) as house:
        client = Http2(await house.client())
        await client.send(PREFACE, settings(enable_push=1, max_frame_size=1 << 24 - 1))
        application = Http2(await upstream.connection())
        await application.wire.read_exactly(len(PREFACE))
        got = await application.next(SETTINGS)
        assert dict(struct.iter_unpack(">HI", got.payload)) == {2: 0, 5: 65536}
        await application.send(settings(max_frame_size=20_000))
        got = await client.next(SETTINGS)
        assert dict(struct.iter_unpack(">HI", got.payload)) == {3: 50, 5: 20_000}


# The drain.


async def test_a_drain_tells_the_client_and_serves_what_raced() -> None:
    """GOAWAY for no stream yet, a PING, streams opened before its answer, then GOAWAY and close."""
    async with pair(rules=SLOWLY) as (house, client, application):
        await asked(client, application, 1)
        house.sigterm()
        away = await client.next(GOAWAY)
        assert (away.last, away.code) == (LAST, NO_ERROR)
        ping = await client.next(PING)
        await asked(client, application, 3)
        await client.send(frame(PING, ACK, 0, ping.payload))
        await application.send(application.response(1, end=True), application.response(3, end=True))
        assert (await client.next(HEADERS)).stream == 1
        assert (await client.next(HEADERS)).stream == 3
        away = await client.next(GOAWAY)
        assert (away.last, away.code) == (3, NO_ERROR)
        await client.wire.read_eof()
        assert not [seen for seen in await ended(application) if seen.kind == PING], "our PING is ours"
        assert house.metrics.h2_goaway.value("drain") == 1
        assert house.metrics.drain_requests.value("finished") == 2


async def test_an_event_stream_over_http2_runs_to_its_end() -> None:
    """Whoever asked for it: frames are passed on unread, and nobody knows where an event ends."""
    async with pair(lifecycle={"leave_spread": 0.0}) as (house, client, application):
        events = [(":status", "200"), ("content-type", "text/event-stream")]
        for stream, accept in ((1, "text/event-stream"), (3, "*/*")):
            ask = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
            ask.append(("accept", accept))
            await client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, client.block(*ask)))
            await application.next(HEADERS, stream)
            await application.send(frame(HEADERS, END_HEADERS, stream, application.block(*events)))
            await application.send(frame(DATA, 0, stream, b"data: 1\n\n"))
            assert (await client.next(DATA)).payload == b"data: 1\n\n"
        house.sigterm()
        await client.next(GOAWAY)
        await house.until(lambda: house.controller.published.phase == "draining")
        for stream in (1, 3):
            await application.send(frame(DATA, END_STREAM, stream, b"data: [DONE]\n\n"))
            last = await client.next(DATA)
            assert (last.stream, last.flags, last.payload) == (stream, END_STREAM, b"data: [DONE]\n\n")
        await house.until(lambda: house.controller.report is not None)
        assert house.metrics.drain_requests.value("finished") == 2


async def test_a_stream_refused_shortly_before_the_deadline_is_so_after_the_settings() -> None:
    """Nor is RST_STREAM a server's first frame; its HEADERS reach the application all the same."""
    async with (
        Upstream() as upstream,
        House(upstream, rules=SLOWLY, lifecycle={"drain_timeout": 0.9}) as house,
    ):
        house.sigterm()
        client = Http2(await house.client())
        await client.introduce()
        await client.send(client.request(1))
        application = Http2(await upstream.connection())
        assert await application.wire.read_exactly(len(PREFACE)) == PREFACE
        assert (await application.next(HEADERS)).stream == 1
        assert (await application.next(RST)).code == CANCEL
        await turns(5)
        assert not client.wire.received
        await application.send(settings(max_concurrent_streams=100))
        assert (await client.read()).kind == SETTINGS
        reset = await client.next(RST)
        assert (reset.stream, reset.code) == (1, REFUSED_STREAM)


async def test_a_client_that_does_not_answer_the_ping_is_not_waited_for_long() -> None:
    """A second, and what it has opened."""
    async with pair(rules=SLOWLY) as (house, client, _):
        house.sigterm()
        seen = await ended(client)
        assert [got.last for got in seen if got.kind == GOAWAY] == [LAST, 0]


async def test_the_deadline_ends_streams_so_that_clients_know_whether_to_try_again() -> None:
    """A 503 where nothing was answered, as over HTTP/1.1: the application may have acted on it, so it is not
    refused (RFC 9113 section 8.7). CANCEL where something was; the application hears CANCEL of both."""
    lifecycle = {"drain_timeout": 0.2}
    async with pair(rules=SLOWLY, lifecycle=lifecycle) as (house, client, application):
        await asked(client, application, 1)
        await asked(client, application, 3)
        await application.send(application.response(3))
        await read_fields(client, 3)
        house.sigterm()
        assert await read_fields(client, 1) == {
            ":status": "503",
            "cache-control": "no-store",
            "proxy-status": 'drainproxy; error=proxy_internal_response; details="drain-deadline"',
            "retry-after": "1",
        }
        reset = await client.next(RST)
        assert (reset.stream, reset.code) == (3, CANCEL)
        codes = {got.stream: got.code for got in [await application.next(RST), await application.next(RST)]}
        assert codes == {1: CANCEL, 3: CANCEL}
        outcomes = house.metrics.drain_requests
        assert (outcomes.value("timed_out"), outcomes.value("cut")) == (1, 1)


async def test_late_frames_of_a_stream_that_was_cut_go_nowhere_and_cost_no_window() -> None:
    """Their size is given back to their sender, since nobody else will."""
    async with pair(rules=SLOWLY, lifecycle={"drain_timeout": 0.2}) as (house, client, application):
        await asked(client, application, 1, end=False)
        house.sigterm()
        await client.next(RST)
        await application.next(RST)
        await client.send(frame(DATA, 0, 1, b"late!"))
        got = await client.next(WINDOW)
        assert (got.stream, got.payload) == (0, struct.pack(">I", 5))
        await application.send(frame(DATA, 0, 1, b"later"), frame(RST, 0, 1, struct.pack(">I", CANCEL)))
        assert (await application.next(WINDOW)).payload == struct.pack(">I", 5)
        assert not [seen for seen in await ended(client) if seen.kind in {DATA, RST}]


async def test_a_frame_of_ours_waits_for_the_end_of_a_header_block() -> None:
    """Nothing may come between HEADERS and its CONTINUATION."""
    async with pair(rules=SLOWLY) as (house, client, application):
        await asked(client, application, 1)
        block = application.block((":status", "200"), ("a", "b"))
        await application.send(frame(HEADERS, END_STREAM, 1, block[:1]))
        assert (await client.next(HEADERS)).payload == block[:1]
        house.sigterm()
        await asyncio.sleep(0.05)
        assert not client.wire.received
        await application.send(frame(CONTINUATION, END_HEADERS, 1, block[1:]))
        assert [(await client.read()).kind for _ in range(3)] == [CONTINUATION, GOAWAY, PING]


# Other ends.


async def test_an_application_without_http2_is_found_out_once() -> None:
    """Its client is told to speak HTTP/1.1, no stream counts as taken, and the next one is told at once."""
    async with Upstream() as upstream, House(upstream) as house:
        client = Http2(await house.client())
        await client.introduce()
        await client.send(client.request(1))
        application = await upstream.connection()
        await application.read_exactly(len(PREFACE))
        await application.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        application.close()
        assert (await client.next(SETTINGS)).payload == b""
        away = await client.next(GOAWAY)
        assert (away.last, away.code) == (0, HTTP_1_1_REQUIRED)
        second = Http2(await house.client())
        await second.introduce()
        assert (await second.next(GOAWAY)).code == HTTP_1_1_REQUIRED
        assert upstream.accepted == 1


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_an_application_that_hangs_up_before_its_settings_has_said_nothing_of_http2(how: str) -> None:
    """It was killed, or is not up yet. The stream was not taken, and the next connection is served."""
    async with Upstream() as upstream, House(upstream) as house:
        client = Http2(await house.client())
        await client.introduce()
        await client.send(client.request(1))
        application = Http2(await upstream.connection())
        assert (await application.wire.read_exactly(len(PREFACE))) == PREFACE
        await application.next(HEADERS)
        getattr(application.wire, how)()
        first, away = await ended(client)
        assert (first.kind, away.kind, away.last, away.code) == (SETTINGS, GOAWAY, 0, NO_ERROR)
        assert house.metrics.h2_streams.value("refused") == 1
        second = Http2(await house.client())
        await second.introduce()
        application = Http2(await upstream.connection())
        await application.greet()
        await asked(second, application, 1)
        await application.send(application.response(1, end=True))
        assert (await second.next(HEADERS)).stream == 1


@pytest.mark.parametrize(
    "said", [b"no\n", b"HTTP/1.0 400 Bad Request\r\n\r\n", b"\x15\x03\x01\0\x02\x02\x46"]
)
async def test_a_few_bytes_that_are_no_settings_are_enough(said: bytes) -> None:
    """However short: no SETTINGS begin like that."""
    async with Upstream() as upstream, House(upstream) as house:
        client = Http2(await house.client())
        await client.introduce()
        application = await upstream.connection()
        await application.send(said)
        application.close()
        assert (await client.next(GOAWAY)).code == HTTP_1_1_REQUIRED
        second = Http2(await house.client())
        await second.introduce()
        assert (await second.next(GOAWAY)).code == HTTP_1_1_REQUIRED
        assert upstream.accepted == 1


@pytest.mark.parametrize("setting", ["auto", "on"])
async def test_an_application_that_has_spoken_http2_is_asked_again_at_once(setting: str) -> None:
    """Whatever it says on one connection; also where the operator says that it does."""
    async with Upstream() as upstream, House(upstream, upstream_http2=setting) as house:
        if setting == "auto":
            spoken = Http2(await house.client())
            await spoken.introduce()
            await Http2(await upstream.connection()).greet()
            await spoken.next(SETTINGS)
        client = Http2(await house.client())
        await client.introduce()
        application = await upstream.connection()
        await application.send(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        assert (await client.next(GOAWAY)).code == HTTP_1_1_REQUIRED
        second = Http2(await house.client())
        await second.introduce()
        await Http2(await upstream.connection()).greet()
        await second.next(SETTINGS)


async def test_settings_on_one_connection_end_the_doubt_that_another_has_left() -> None:
    """Both were under way when the first answer came."""
    async with Upstream() as upstream, House(upstream) as house:
        peers = []
        for _ in range(2):
            client = Http2(await house.client())
            await client.introduce()
            peers.append((client, await upstream.connection()))
        await peers[0][1].send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert (await peers[0][0].next(GOAWAY)).code == HTTP_1_1_REQUIRED
        await Http2(peers[1][1]).greet()
        await peers[1][0].next(SETTINGS)
        third = Http2(await house.client())
        await third.introduce()
        await Http2(await upstream.connection()).greet()
        await third.next(SETTINGS)


async def test_an_application_that_is_slow_with_its_settings_is_waited_for() -> None:
    """The time for a head is the client's: who has said what is due waits as long as it likes."""
    async with Upstream() as upstream, House(upstream, head_timeout=0.2) as house:
        client = Http2(await house.client())
        await client.introduce()
        await client.send(client.request(1))
        application = Http2(await upstream.connection())
        late = Http2(await house.client())
        await late.send(PREFACE)
        await late.next(GOAWAY)
        await application.greet()
        await client.next(SETTINGS)
        await application.send(application.response(1, end=True))
        assert (await client.next(HEADERS)).stream == 1


async def test_http2_can_be_switched_off() -> None:
    """The application hears nothing of it."""
    async with Upstream() as upstream, House(upstream, upstream_http2="off") as house:
        client = Http2(await house.client())
        await client.introduce()
        assert (await client.next(GOAWAY)).code == HTTP_1_1_REQUIRED
        assert upstream.accepted == 0


async def test_a_preface_after_a_request_is_none() -> None:
    """A connection speaks one protocol."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(OK)
        await client.final()
        await client.send(PREFACE)
        assert (await client.final()).status == 505


async def test_an_application_that_is_down_refuses_every_stream_safely() -> None:
    """GOAWAY says that none was taken."""
    async with Upstream() as upstream, House(upstream) as house:
        await upstream.close()
        client = Http2(await house.client())
        await client.introduce()
        await client.send(client.request(1))
        away = await client.next(GOAWAY)
        assert (away.last, away.code) == (0, NO_ERROR)


async def test_who_comes_while_the_breaker_is_open_is_counted_as_refused() -> None:
    """By policy and not by an error, as a request of HTTP/1.1 is."""
    async with Upstream() as upstream, House(upstream, breaker_cooldown=60.0) as house:
        await upstream.close()
        for _ in range(6):
            client = Http2(await house.client())
            await client.introduce()
            assert (await client.next(GOAWAY)).last == 0
        assert house.metrics.errors.value("upstream-refused") == 5
        assert house.refused() == {"breaker-open": 1}


async def test_an_application_that_dies_ends_its_clients_connection_alone() -> None:
    """With INTERNAL_ERROR; another connection goes on."""
    async with Upstream() as upstream, House(upstream) as house:
        peers = []
        for _ in range(2):
            client = Http2(await house.client())
            await client.introduce()
            application = Http2(await upstream.connection())
            await application.greet()
            await asked(client, application, 1)
            peers.append((client, application))
        peers[0][1].wire.reset()
        away = await peers[0][0].next(GOAWAY)
        assert (away.last, away.code) == (1, INTERNAL_ERROR)
        await peers[1][1].send(peers[1][1].response(1, end=True))
        assert (await peers[1][0].next(HEADERS)).stream == 1
        assert house.metrics.h2_streams.value("lost") == 1


async def test_an_answer_that_is_whole_comes_before_the_fault_behind_it() -> None:
    """The application sends both in one piece: what is counted as finished has reached its client."""
    async with pair() as (house, client, application):
        await asked(client, application, 1)
        await asked(client, application, 3)
        await application.send(
            application.response(1), frame(DATA, END_STREAM, 1, b"whole"), frame(RST, 0, 3, b"short")
        )
        await client.next(HEADERS, 1)
        assert (await client.next(DATA, 1)).payload == b"whole"
        assert (await client.next(GOAWAY)).code == INTERNAL_ERROR
        streams = house.metrics.h2_streams
        assert (streams.value("finished"), streams.value("lost")) == (1, 1)


async def test_a_request_that_is_whole_reaches_the_application_before_the_fault_behind_it() -> None:
    """GOAWAY says that it may have been taken."""
    async with pair() as (_, client, application):
        await client.send(client.request(1), frame(RST, 0, 5, b"\0\0\0\0"))
        assert (await application.next(HEADERS, 1)).flags & END_STREAM
        away = await client.next(GOAWAY)
        assert (away.last, away.code) == (1, PROTOCOL_ERROR)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_client_that_leaves_takes_its_connection_along(how: str) -> None:
    """The application sees it end; nothing is in flight any more."""
    async with pair() as (house, client, application):
        await asked(client, application, 1)
        getattr(client.wire, how)()
        await ended(application)
        await house.until(lambda: not len(house.inflight))
        assert application.wire.end in {End.FIN, End.RESET}


async def test_whoever_logs_in_over_http_2_has_a_connection_to_the_application_of_its_own() -> None:
    """NTLM and Negotiate authenticate the connection: it is no other client's, and ends with this one."""
    async with pair() as (house, client, application):
        await asked(client, application, 1)
        before = house.pool.open_count
        other = await house.client()
        await other.send(GET)
        await house.until(lambda: house.pool.open_count == before + 1)
        assert house.pool.idle_count == 0
        client.wire.close()
        other.close()
        await house.until(lambda: not house.pool.open_count)


async def test_half_a_frame_gives_way_while_too_much_is_held_and_is_let_go_of() -> None:
    """As long as no stream is open; the connection hears it, and lingers with nothing in it."""
    async with pair() as (house, client, _):
        house.buffers.max_bytes = 1
        house.buffers.hold("somebody", 2)
        (side,) = house.registry.clients
        await client.send(frame(DATA, 0, 1, bytes(10_000))[:-1])
        await house.until(lambda: house.refused() == {"out-of-buffers": 1})
        assert side.from_client.pieces == []
        assert house.buffers.held_bytes == 2
        house.buffers.free("somebody")
        client.wire.reset()
