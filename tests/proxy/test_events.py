"""Event streams end between two events, cleanly, so that their clients go on elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.events import CUT, EventStream
from drainproxy.proxy.framing import ChunkedBody, UntilCloseBody
from drainproxy.proxy.heads import ResponseHead
from tests.proxy.test_tunnel import outcomes
from tests.proxy.words import GET, GET_1_0
from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import Connection, Upstream
from tests.support.wire import End

if TYPE_CHECKING:
    from tests.support.client import Client

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
GZIP = HEAD.replace(b"Transfer", b"Content-Encoding: gzip\r\nTransfer")
QUICK = {"leave_spread": 0.0}


def stream(*, coded: bool = False, chunked: bool = False) -> EventStream:
    """Return one whose bytes are payload as they are."""
    response = ResponseHead()
    response.fields = [b"content-encoding: gzip\r\n"] if coded else []
    return EventStream(ChunkedBody() if chunked else UntilCloseBody(), response)


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


async def listening(
    house: House, upstream: Upstream, head: bytes = HEAD, ask: bytes = GET
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
    assert outcomes(house, "stream") == {"finished": 1}
    assert house.diary.of("drain_report")[0]["requests"]["finished"] == 0


@pytest.mark.parametrize("ask", [GET, GET_1_0], ids=["1.1", "1.0"])
@pytest.mark.parametrize("head", [HEAD, GZIP, HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"")])
async def test_a_silent_stream_ends_at_its_turn(ask: bytes, head: bytes) -> None:
    """Nobody knows when its next event comes."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client, application = await listening(house, upstream, head, ask)
        house.sigterm()
        last = b"0\r\n\r\n" if ask is GET else b""
        assert await client.read_until_close() == last
        assert client.end is End.FIN
        await application.read_until_close()
    assert outcomes(house, "stream") == {"finished": 1}


async def test_a_stream_that_begins_while_others_leave_is_ended_too() -> None:
    """It is answered, with close."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        house.sigterm()
        await application.send(HEAD)
        response = await client.final()
        assert (response.status, response.body, response.ending) == (200, b"", Ending.COMPLETE)
        assert response.one(b"connection") == b"close"


async def test_an_event_without_an_end_is_cut_at_the_deadline() -> None:
    """The client sees that it is not whole."""
    lifecycle = {"grace_period": 2.5, "leave_spread": 0.0}
    async with Upstream() as upstream, House(upstream, lifecycle=lifecycle) as house:
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
