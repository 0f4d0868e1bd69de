"""An EventSource's stream ends between two events, so that it goes on elsewhere; any other is a request."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.lifecycle import reconnect_spread
from drainproxy.proxy.limits.routes import Route, Timeouts
from drainproxy.proxy.message.event_stream import CUT, EventStream, Position, comes_back
from drainproxy.proxy.message.framing import ChunkedBody, UntilCloseBody
from drainproxy.proxy.message.parser import RequestHead, ResponseHead
from tests.proxy.test_tunnel import outcomes
from tests.proxy.test_websocket import pieces
from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import Connection, Upstream
from tests.support.wire import End
from tests.support.words import GET, OK, get, post

if TYPE_CHECKING:
    from tests.support.client import Client

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
GZIP = HEAD.replace(b"Transfer", b"Content-Encoding: gzip\r\nTransfer")
QUICK = {"leave_spread": 0.0}
BRIEF = {"grace_period": 2.5, "leave_spread": 0.0}
"""A drain of 1.5 s."""
EVENTS = get("/", "Accept: text/event-stream", "Last-Event-ID: 7")
"""As an EventSource asks."""
EVENTS_1_0 = b"GET / HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n"
COMPLETION = post(b'{"stream":true}', "Accept: text/event-stream", path="/v1/chat/completions")
"""As who wants tokens asks: finite, read by fetch, asked once."""


def chunk(data: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"
TOKENS = [b'data: {"token":%d}\n\n' % number for number in range(5)]
DONE = b"data: [DONE]\n\n"


def stream(*, coded: bool = False, chunked: bool = False, silent: bool = True) -> EventStream:
    """Return one whose bytes are payload as they are."""
    response = ResponseHead()
    response.fields = [b"content-encoding: gzip\r\n"] if coded else []
    return EventStream(ChunkedBody() if chunked else UntilCloseBody(), response, silent=silent)


def accepting(*values: str, method: bytes = b"GET") -> RequestHead:
    """Return a request that says so."""
    head = RequestHead()
    head.method = method
    head.fields = [b"Host: a\r\n", *(f"aCCept:{value}\r\n".encode() for value in values)]
    return head


@pytest.mark.parametrize(
    ("values", "is_one"),
    [
        ([" text/event-stream"], True),
        (["Text/Event-Stream \t"], True),
        ([" application/json, text/event-stream"], True),
        ([" application/json", " text/event-stream;q=0.1"], True),
        ([" text/event-stream; charset=utf-8 ; Q=1.000"], True),
        ([' a/b;x="text/event-stream, text/event-stream;q=0", text/event-stream'], True),
        ([], False),
        ([" */*"], False),
        ([" text/*"], False),
        ([" text/event-streams"], False),
        ([" application/json;x=text/event-stream"], False),
        ([' application/json;x=", text/event-stream"'], False),
        ([" text/event-stream;q=0"], False),
        ([" text/event-stream ; Q=0.000, */*"], False),
    ],
)
def test_an_event_source_is_known_by_what_it_accepts(values: list[str], is_one: bool) -> None:
    """Accept is a list with parameters, whose weight 0 means "not this" (RFC 9110 section 12.5.1)."""
    assert comes_back(accepting(*values)) is is_one


@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"get", b"QUERY"])
def test_only_a_get_is_asked_again_by_itself(method: bytes) -> None:
    """An EventSource sends nothing else (HTML section 9.2.2)."""
    assert not comes_back(accepting(" text/event-stream", method=method))


def all_ways(data: bytes) -> list[list[bytes]]:
    """Return `data` whole, in two pieces of every size, and byte by byte."""
    halves = [[data[:place], data[place:]] for place in range(1, len(data))]
    return [[data], *halves, [data[place : place + 1] for place in range(len(data))]]


BETWEEN = [
    b"",
    b":\n",
    b": ping\r\n",
    b":\r",
    b"\xef\xbb\xbf: hello\n",
    b"data: a\n\n:\n",
    b"data: a\r\r: ping\r",
    b"data: a\r\n\r\n: ping\r\n: pong\r\n",
    b"data: a\n\n: ping\n\n",
    b"retry: 10\nid: 1\n\n",
    b"data: a\n: inside\n\n",
    b"data: a\n\n\n",
    b"\n",
]
WITHIN = [
    b":",
    b": pi",
    b"data: a\n",
    b"data: a\r\n",
    b"data: a\n: inside\n",
    b"data: a\r: inside\r",
    b"data: a\n\nretry: 10\n",
    b"data: a\n\nid: 7\r\n",
    b"data: a\n\nretry: 10\n: ping\n",
    b"data: a\n\n:\nd",
    b"field\n",
    b" :\n",
]


@pytest.mark.parametrize("said", BETWEEN)
def test_a_comment_outside_an_event_is_a_boundary(said: bytes) -> None:
    """It dispatches nothing and is thrown away at once (HTML sections 9.2.5 and 9.2.6)."""
    for way in all_ways(said):
        position = Position()
        for piece in way:
            assert position.follow(piece) == len(piece)
        assert position.between_events, way


@pytest.mark.parametrize("said", WITHIN)
def test_a_field_is_within_an_event_until_an_empty_line(said: bytes) -> None:
    """`retry` and `id` too, and a comment behind one changes nothing."""
    for way in all_ways(said):
        position = Position()
        for piece in way:
            position.follow(piece)
        assert not position.between_events, way


@pytest.mark.parametrize(
    ("said", "anything"),
    [
        (b"data: a\n\n", True),
        (b"data\r\r", True),
        (b"\xef\xbb\xbfdata: a\n\n", True),
        (b"event: x\nid: 1\ndata:a\n\n", True),
        (b": hello\n\n", False),
        (b"retry: 10\n\n", False),
        (b"data: a\n", False),
        (b"database: a\n\n", False),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", False),
        (b"\n\xef\xbb\xbfdata: a\n\n", False),
    ],
)
def test_an_event_has_been_said_once_its_data_was_dispatched(said: bytes, anything: bool) -> None:
    """Without data nothing is; a byte order mark is one only at the beginning."""
    for way in all_ways(said):
        position = Position()
        for piece in way:
            position.follow(piece)
        assert position.said is anything, way


def read_whole(said: bytes) -> tuple[bool, bool]:
    """Read a stream as HTML 9.2.5 and 9.2.6 say, all of it at once: is it between events, was one said?"""
    *lines, rest = re.split(rb"\r\n|\n|\r", said)
    event, anything = [], False
    for number, line in enumerate(lines):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
        if not text:
            anything = anything or b"data" in event
            event = []
        elif text[:1] != b":":
            event.append(text.split(b":")[0])
    return not rest and not event, anything


LINES = st.sampled_from([b"data", b"data:", b": ", b":", b"id: 1", b"x", b"", b"\xef\xbb\xbf"])
SAID = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n", b""]))).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


@given(
    said=SAID, cuts=st.lists(st.integers(0, 200), max_size=6), told_at=st.integers(0, 6), silent=st.booleans()
)
def test_however_it_is_cut_up_it_ends_where_a_reader_is_between_events(
    said: bytes, cuts: list[int], told_at: int, silent: bool
) -> None:
    """Everything passes until it is told, and then no byte beyond the first such place."""
    events, got, told, ended = stream(silent=silent), b"", False, False
    for number, piece in enumerate(pieces(said, cuts)):
        if number == told_at:
            told = True
            between, anything = read_whole(got)
            ended = events.leave()
            assert ended == (between and (silent or anything))
        if ended:
            break
        payload, rest = events.feed(piece)
        got += payload
        ended = rest is not None
        assert piece.startswith(payload)
        between, anything = read_whole(got)
        assert ended == (told and between and (silent or anything) and bool(piece))
        if ended:
            earlier = got[: -len(payload)]
            for place in range(1, len(payload)):
                between, anything = read_whole(earlier + payload[:place])
                first = between and (silent or anything) and payload[place - 1 : place + 1] != b"\r\n"
                assert not first, "it went on"
    if not ended:
        assert got == said


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n", b"\r\n\n", b"\n\r", b"\r\r\n"])
@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_every_form_of_an_empty_line_ends_an_event(end: bytes, step: int) -> None:
    """LF, CR and CRLF in any mixture, however it is cut up; nothing of the next event passes."""
    before, data = b"data: a\r\ndata: b\rid: 1\nda", b"ta: c" + end + b"data: next\n\n"
    events = stream()
    events.feed(before)
    assert not events.leave()
    got = b""
    for place in range(0, len(data), step):
        payload, rest = events.feed(data[place : place + step])
        got += payload
        if rest is not None:
            break
    assert rest == CUT
    # The LF of a last CRLF may be left out: CR ends a line too.
    assert got in {b"ta: c" + end, b"ta: c" + end[:-1]}


@pytest.mark.parametrize("end", [b":\n", b": ping\r\n", b":\r"])
def test_a_stream_that_was_told_ends_behind_a_comment_too(end: bytes) -> None:
    """It was in the middle of a comment; nothing of what follows passes."""
    for way in all_ways(end[1:] + b"data: next\n\n"):
        events = stream()
        events.feed(b"data: a\n\n:")
        assert not events.leave()
        got = b""
        for piece in way:
            payload, rest = events.feed(piece)
            got += payload
            if rest is not None:
                break
        assert rest == CUT
        assert events.told
        assert got in {end[1:], end[1:-1]}


def test_what_must_say_something_first_does_not_end_before() -> None:
    """Comments, and events without data, are nothing that a reader sees."""
    events = stream(silent=False)
    assert not events.leave()
    assert events.feed(b": hello\n\nretry: 10\n\n:\n") == (b": hello\n\nretry: 10\n\n:\n", None)
    assert events.feed(b":\ndata: 1\n\ndata: 2\n\n") == (b":\ndata: 1\n\n", CUT)
    events = stream(silent=False)
    events.feed(b"data: 1\n\n:")
    assert not events.leave()
    assert events.feed(b"\n:\n") == (b"\n", CUT)


def test_an_idle_stream_is_at_an_end_already() -> None:
    """Before the first event, and behind each one; not behind the first of its lines."""
    assert stream().leave()
    for end, at_end in (
        (b"\n\n", True),
        (b"\r\n\r\n", True),
        (b"\r\n", False),
        (b"\n", False),
        (b"a", False),
    ):
        events = stream()
        events.feed(b"data: a" + end)
        assert events.leave() is at_end


def test_a_coded_stream_ends_with_a_chunk() -> None:
    """Its payload cannot be read."""
    events = stream(coded=True, chunked=True)
    assert events.feed(b"5\r\nab") == (b"ab", None)
    assert not events.leave()
    assert events.feed(b"c") == (b"c", None)
    assert events.feed(b"\n\n\r\n3\r\nx") == (b"\n\nx", None)
    assert events.feed(b"yz\r\n") == (b"yz", CUT)
    events = stream(coded=True, chunked=True)
    events.feed(b"3\r\nxyz\r\n")
    assert events.leave()
    events = stream(coded=True, chunked=True, silent=False)
    assert not events.leave()
    assert events.feed(b"3\r\nxyz\r\n") == (b"xyz", CUT)


async def listening(
    house: House, upstream: Upstream, head: bytes = HEAD, ask: bytes = EVENTS
) -> tuple[Client, Connection]:
    """Open an event stream; return both of its far ends, after its head."""
    client = await house.client()
    await client.send(ask)
    application = await upstream.connection()
    await application.read_request()
    await application.send(head)
    await client.read_head()
    return client, application


async def test_an_event_that_has_begun_is_finished_first() -> None:
    """Then the last chunk and a close, and the application's connection is not used again."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client, application = await listening(house, upstream)
        assert house.inflight.count("stream") == 1
        await application.send(b"8\r\ndata: 1\n\r\n")
        await client.read_to(b"data: 1\n\r\n")
        house.sigterm()
        await application.send(b"b\r\ndata: 2\n\nda\r\n")
        assert await client.read_until_close() == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"
        assert client.end is End.FIN
        await application.read_until_close()
        await house.until(lambda: house.controller.report is not None)
        assert house.pool.idle_count == 0
    assert outcomes(house, "stream") == {"told_to_leave": 1}
    assert house.diary.of("drain_report")[0]["requests"]["finished"] == 0
    assert [line["outcome"] for line in house.access] == ["told_to_leave"]


async def test_a_stream_that_ends_by_itself_while_others_leave_has_finished() -> None:
    """It was told, and its application was quicker."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client, application = await listening(house, upstream)
        await application.send(b"3\r\nda:\r\n")
        await client.read_to(b"da:\r\n")
        house.sigterm()
        await application.send(b"0\r\n\r\n")
        assert await client.read_until_close() == b"0\r\n\r\n"
    assert outcomes(house, "stream") == {"finished": 1}
    assert [line["outcome"] for line in house.access] == ["finished"]


@pytest.mark.parametrize("ask", [EVENTS, EVENTS_1_0], ids=["1.1", "1.0"])
@pytest.mark.parametrize("head", [HEAD, GZIP, HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"")])
async def test_a_silent_stream_ends_at_its_turn(ask: bytes, head: bytes) -> None:
    """Nobody knows when its next event comes."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client, application = await listening(house, upstream, head, ask)
        house.sigterm()
        last = b"0\r\n\r\n" if ask is EVENTS else b""
        assert await client.read_until_close() == last
        assert client.end is End.FIN
        await application.read_until_close()
    assert outcomes(house, "stream") == {"told_to_leave": 1}


async def test_a_stream_with_heartbeats_of_one_line_ends_at_its_turn() -> None:
    """Rocket and others send `:` and a line end: between two events all the time."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client, application = await listening(house, upstream)
        await application.send(chunk(b"data: a\n\n:\n"))
        await client.read_to(b":\n\r\n")
        house.sigterm()
        assert await client.read_until_close() == b"0\r\n\r\n"
    assert outcomes(house, "stream") == {"told_to_leave": 1}


async def test_a_stream_that_begins_while_others_leave_says_something_first() -> None:
    """It is answered, with close; after one event it goes on elsewhere, and was not empty."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client = await house.client()
        await client.send(EVENTS)
        application = await upstream.connection()
        await application.read_request()
        house.sigterm()
        await application.send(HEAD)
        assert b"Connection: close\r\n" in await client.read_head()
        await application.send(chunk(b": hello\n\n"))
        assert await client.read_to(b"\n\n\r\n") == chunk(b": hello\n\n")
        await application.send(chunk(b"data: 1\n\ndata: 2\n\n"))
        assert await client.read_until_close() == chunk(b"data: 1\n\n") + LAST
        assert client.end is End.FIN
    assert outcomes(house, "stream") == {"told_to_leave": 1}


@pytest.mark.parametrize("beats", [0, 3])
async def test_one_that_begins_then_and_says_nothing_is_cut_so_that_it_shows(
    beats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a 200 with an empty stream, nor a drain that waits for it: an EventSource comes back from this."""
    monkeypatch.setattr(reconnect_spread, "AGAIN_S", 0.2)
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client = await house.client()
        await client.send(EVENTS)
        application = await upstream.connection()
        await application.read_request()
        house.sigterm()
        await application.send(HEAD + beats * chunk(b":\n"))
        assert (await client.read_head()).startswith(b"HTTP/1.1 200 OK\r\n")
        assert re.sub(rb"\d\r\n|\r\n", b"", await client.read_until_close()) == beats * b":\n"
        assert client.end is End.RESET
        await house.until(lambda: house.controller.report is not None)
        assert house.controller.report.unused_s > 5
    assert outcomes(house, "stream") == {"cut": 1}
    assert house.metrics.errors.value("leave-overdue") == 1


async def test_an_event_that_stands_still_is_cut_long_before_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that comes on is waited for; half an event is thrown away by who reads it (HTML section 9.2.6)."""
    monkeypatch.setattr(reconnect_spread, "AGAIN_S", 0.5)
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client, application = await listening(house, upstream)
        await application.send(chunk(b"da"))
        await client.read_to(b"da\r\n")
        house.sigterm()
        began = house.loop.time()
        for _ in range(15):
            await application.send(chunk(b"ta"))
            await client.read_to(b"ta\r\n")
            await asyncio.sleep(0.1)
        assert house.loop.time() - began > 2 * reconnect_spread.AGAIN_S
        assert await client.read_until_close() == b""
        assert client.end is End.RESET
        await house.until(lambda: house.controller.report is not None)
        assert house.controller.report.unused_s > 5
    assert outcomes(house, "stream") == {"cut": 1}


async def test_an_event_without_an_end_is_cut_at_the_deadline() -> None:
    """The client sees that it is not whole."""
    async with Upstream() as upstream, House(upstream, lifecycle=BRIEF) as house:
        client, application = await listening(house, upstream)
        await application.send(b"3\r\nda:\r\n")
        await client.read_to(b"da:\r\n")
        house.sigterm()
        await client.read_until_close()
        assert client.end is End.RESET
    assert outcomes(house, "stream") == {"cut": 1}


async def test_what_only_looks_like_one_is_a_request() -> None:
    """A length says where it ends, and other types know no events."""
    for head in (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: text/event-stream\r\nContent-Type: text/plain\r\n\r\n",
    ):
        async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
            client, application = await listening(house, upstream, head)
            assert house.inflight.count("http") == 1
            house.sigterm()
            await application.send(b"ok")
            application.close()
            await client.read_to(b"ok")
        assert outcomes(house, "stream") == {}


# Whoever does not come back by itself.


@pytest.mark.parametrize(
    "ask",
    [
        COMPLETION,
        post(b"{}", "Accept: application/json, text/event-stream", path="/mcp"),
        GET,
        get("/", "Accept: */*"),
        EVENTS.replace(b"GET", b"PUT"),
        COMPLETION.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["POST", "MCP", "fetch", "any", "PUT", "1.0"],
)
async def test_a_finite_stream_is_a_request_and_ends_as_one(ask: bytes) -> None:
    """Its tokens all come, [DONE] too, though the drain has long begun to tell others to leave."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client, application = await listening(house, upstream, ask=ask)
        last = chunk if b"HTTP/1.1" in ask else bytes
        assert house.inflight.count("http") == 1
        await application.send(chunk(TOKENS[0]))
        await client.read_to(last(TOKENS[0]))
        house.sigterm()
        for token in TOKENS[1:]:
            await application.send(chunk(token))
            await client.read_to(last(token))
        assert house.controller.report is None
        await application.send(chunk(DONE) + b"0\r\n\r\n")
        whole = chunk(DONE) + LAST if last is chunk else DONE
        assert await client.read_to(whole[-5:]) == whole
        await house.until(lambda: house.controller.report is not None)
    assert house.controller.report.requests.finished == 1
    assert outcomes(house, "stream") == {}


@pytest.mark.parametrize("head", [HEAD, HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"")])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_a_finite_stream_is_cut_at_the_deadline_so_that_it_shows(head: bytes, version: bytes) -> None:
    """A reset and no last chunk: half an answer is not to look whole, to a 1.0 client neither."""
    async with Upstream() as upstream, House(upstream, lifecycle=BRIEF) as house:
        ask = COMPLETION.replace(b"HTTP/1.1", version)
        client, application = await listening(house, upstream, head, ask)
        await application.send(chunk(TOKENS[0]) if head is HEAD else TOKENS[0])
        await client.read_to(TOKENS[0])
        house.sigterm()
        rest = await client.read_until_close()
        assert rest in {b"", b"\r\n"}
        assert client.end is End.RESET
        await house.until(lambda: house.controller.report is not None)
    assert house.controller.report.requests.cut == 1
    assert outcomes(house, "stream") == {}


async def test_a_finite_stream_that_comes_while_others_leave_is_answered_whole() -> None:
    """Not with 200 and nothing."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        held, client = await house.client(), await house.client()
        await held.send(GET)
        holding = await upstream.connection()
        await holding.read_request()
        house.sigterm()
        await house.until(lambda: house.controller.published.phase == "draining")
        await client.send(COMPLETION)
        application = await upstream.connection()
        await application.read_request()
        await application.send(HEAD + b"".join(map(chunk, TOKENS)) + chunk(DONE) + b"0\r\n\r\n")
        response = await client.final("POST")
        assert (response.status, response.body) == (200, b"".join(TOKENS) + DONE)
        assert response.ending is Ending.COMPLETE
        await holding.send(OK)
        assert (await held.final()).status == 200


async def test_an_answer_that_an_event_source_does_not_come_back_from_is_a_request() -> None:
    """After any other status than 200 it stays away (HTML section 9.2.2): nothing is gained by ending it."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client, application = await listening(house, upstream, HEAD.replace(b"200 OK", b"503 Busy"))
        house.sigterm()
        await application.send(chunk(TOKENS[0]) + b"0\r\n\r\n")
        assert await client.read_to(LAST) == chunk(TOKENS[0]) + LAST
    assert house.metrics.drain_requests.value("finished") == 1


# What the settings say.


def route(**words: str) -> dict[str, object]:
    """Return a house's one route."""
    return {"routes": (Route(b"/", frozenset(), Timeouts(**words)),)}


@pytest.mark.parametrize(
    ("ask", "how", "leaves"),
    [
        (EVENTS, {"streams": "finish"}, False),
        (EVENTS, {"streams": "leave"}, True),
        (EVENTS, route(streams="finish"), False),
        (EVENTS, {"streams": "finish", **route(streams="leave")}, True),
        (EVENTS, {"streams": "finish", **route()}, True),
        (EVENTS, route(websockets="finish"), True),
        (COMPLETION, {"streams": "leave"}, True),
        (COMPLETION, route(streams="leave"), True),
        (COMPLETION, {"streams": "leave", **route(streams="finish")}, False),
        (GET, {"streams": "leave"}, True),
    ],
)
async def test_streams_says_who_leaves_and_a_route_says_it_better(
    ask: bytes, how: dict[str, object], leaves: bool
) -> None:
    """For GETs that are read by fetch, and for POSTs that are taken up again."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK, **how) as house:
        client, application = await listening(house, upstream, ask=ask)
        await application.send(chunk(TOKENS[0]))
        await client.read_to(TOKENS[0] + b"\r\n")
        house.sigterm()
        if leaves:
            assert await client.read_until_close() == b"0\r\n\r\n"
        else:
            await house.until(lambda: house.controller.published.phase == "draining")
            await application.send(chunk(DONE) + b"0\r\n\r\n")
            assert await client.read_to(LAST) == chunk(DONE) + LAST
    assert outcomes(house, "stream") == ({"told_to_leave": 1} if leaves else {})
    assert house.metrics.drain_requests.value("finished") == (0 if leaves else 1)


# What comes too late.


async def test_an_event_source_that_comes_too_late_is_closed_and_not_refused() -> None:
    """A browser stays away for good after a 503, and comes back after a close (HTML section 9.2.3).

    Others that come then get their 503.
    """
    lifecycle = {"grace_period": 30.0, "refuse_window": 30.0}
    async with Upstream() as upstream, House(upstream, lifecycle=lifecycle) as house:
        held, client, other = [await house.client() for _ in range(3)]
        await held.send(GET)
        holding = await upstream.connection()
        await holding.read_request()
        house.sigterm()
        await house.until(lambda: house.controller.published.phase == "draining")
        await client.send(EVENTS)
        assert await client.read_eof() is End.FIN
        assert (await other.ask(get("/"))).status == 503
        await holding.send(OK)
        assert (await held.final()).status == 200
    assert house.metrics.drain_requests.value("refused") == 2


async def test_an_event_source_without_an_answer_at_the_deadline_is_closed_too() -> None:
    """The same: its 503 would be for good."""
    async with Upstream() as upstream, House(upstream, lifecycle=BRIEF) as house:
        client = await house.client()
        await client.send(EVENTS)
        application = await upstream.connection()
        await application.read_request()
        house.sigterm()
        assert await client.read_eof() is End.FIN
    assert house.metrics.drain_requests.value("timed_out") == 1


async def test_an_event_source_whose_application_is_not_there_is_closed_as_without_us() -> None:
    """Gone before it has answered, or refusing: EventSource comes back from that, and not from 502 or 503."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(EVENTS)
        application = await upstream.connection()
        await application.read_request()
        application.close()
        assert await client.read_until_close() == b""
        await upstream.close()
        client = await house.client()
        await client.send(EVENTS)
        assert await client.read_until_close() == b""
    assert house.metrics.errors.value("upstream-gone") == 1
    assert house.metrics.errors.value("upstream-refused") == 1
