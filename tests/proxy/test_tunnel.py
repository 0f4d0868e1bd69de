"""After a 101 every byte passes both ways, and every end is passed on as what it was."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from drainproxy.lifecycle.propagation import PRESETS
from drainproxy.proxy.limits.routes import Route, Timeouts
from tests.support.flavours import of_sources
from tests.support.house import House
from tests.support.upstream import Connection, Upstream
from tests.support.wire import End, turns
from tests.support.words import GET, OK, get, ok

if TYPE_CHECKING:
    from tests.support.client import Client

ASK = get("/talk?secret=1", "Connection: keep-alive, Upgrade", "Upgrade: chat/2", "Sec-Thing: 7")
AGREE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat/2\r\nSec-Other: 8\r\n\r\n"
ROOM_BYTES = 512 * 1024
READ_BYTES = 256 * 1024


async def tunnel(house: House, upstream: Upstream, **how: int) -> tuple[Client, Connection]:
    """Open one; return both of its far ends."""
    client = await house.client(**how)
    await client.send(ASK)
    application = await upstream.connection()
    await application.read_request()
    await application.send(AGREE)
    assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
    return client, application


def outcomes(house: House, kind: str = "other") -> dict[str, float]:
    """Return how tunnels ended in a drain."""
    counts = house.metrics.drain_tunnels.by_kind.items()
    return {outcome: count for (of, outcome), count in counts if of == kind and count}


# What is asked, and what is agreed to.


async def test_both_sides_hear_of_the_upgrade_and_bytes_pass_from_then_on() -> None:
    """The fields of the other protocol are left alone; the bytes behind the two heads are not lost."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(ASK)
        application = await upstream.connection()
        request = await application.read_request()
        assert request.one(b"upgrade") == b"chat/2"
        assert request.one(b"connection") == b"Upgrade"
        assert request.one(b"sec-thing") == b"7"
        await client.send(b"early ")
        await turns(10)
        assert not application.received
        await application.send(AGREE + b"hello")
        assert await client.read_head() == AGREE.replace(
            b"Connection: upgrade\r\nUpgrade: chat/2\r\nSec-Other: 8\r\n",
            b"Sec-Other: 8\r\nConnection: Upgrade\r\nUpgrade: chat/2\r\n",
        )
        assert await client.read_exactly(5) == b"hello"
        assert await application.read_exactly(6) == b"early "
        await client.send(b"GET / HTTP/1.1\r\n\r\n\x00\xff")
        assert await application.read_exactly(20) == b"GET / HTTP/1.1\r\n\r\n\x00\xff"
        assert house.inflight.count("tunnel") == len(house.inflight) == 1
        (work,) = house.inflight
        assert work.describe() == {"method": "GET", "path": "/talk", "protocol": "chat/2"}
        await application.send(b"bye")
        assert await client.read_exactly(3) == b"bye"
        client.close()
        await application.read_until_close()
        application.close()
    assert house.requests() == {("GET", "101", "serving"): 1.0}
    assert house.metrics.bytes.value("to_upstream") == 26
    assert house.metrics.bytes.value("to_client") == 8
    assert [line["status"] for line in house.access] == [101]
    (line,) = house.diary.of("tunnel")
    assert (line["path"], line["bytes"], line["bytes_received"]) == ("/talk", 8, 26)


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
async def test_an_interim_response_may_come_before_the_101(bytewise: bool) -> None:
    """103, then 101, then bytes, however they are cut up."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(ASK)
        application = await upstream.connection()
        await application.read_request()
        answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + AGREE + b"hi"
        await (application.send_bytewise if bytewise else application.send)(answer)
        assert b"103" in await client.read_head()
        assert b"101" in await client.read_head()
        assert await client.read_exactly(2) == b"hi"
        client.reset()


@pytest.mark.parametrize(
    ("asked", "sent_on"),
    [
        (b"h2c, websocket", b"websocket"),
        (b"WebSocket ,, chat/1", b"WebSocket, chat/1"),
        (b"h2c", None),
        (b"H2C", None),
        (b"", None),
        (b"web socket", None),
        (b"a/b/c", None),
        (b"websocket, {x}", None),
    ],
)
async def test_what_is_asked_for_is_a_list_of_protocols(asked: bytes, sent_on: bytes | None) -> None:
    """h2c is taken out, and what is no such list is no upgrade: the request goes on as one."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(get("/", "Connection: upgrade", f"Upgrade: {asked.decode()}"))
        application = await upstream.connection()
        request = await application.read_request()
        assert request.one(b"upgrade") == sent_on
        await application.send(OK)
        assert (await client.final()).body == b"ok"


BODY = b"{}"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE", "HEAD", "REPORT"])
@pytest.mark.parametrize(
    ("lines", "body", "comes"),
    [
        ((), b"", b""),
        (("Content-Length: 0",), b"", b""),
        (("Content-Length: 2",), BODY, BODY),
        (("Transfer-Encoding: chunked",), b"2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    ],
    ids=["no length", "length 0", "length", "chunked"],
)
async def test_any_method_may_upgrade_with_a_body_or_without(
    method: str, lines: tuple[str, ...], body: bytes, comes: bytes
) -> None:
    """RFC 9110 section 7.8 has no rule about either: tailscale posts with length 0, docker exec with JSON,
    kubectl's SPDY with nothing. What follows the body is kept until the 101."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        head = get("/exec", "Connection: Upgrade", "Upgrade: SPDY/3.1", *lines).replace(
            b"GET", method.encode(), 1
        )
        await client.send(head + body + b"early")
        application = await upstream.connection()
        assert b"\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n" in await application.read_head()
        assert await application.read_exactly(len(comes)) == comes
        await turns(10)
        assert not application.received
        await application.send(AGREE.replace(b"chat/2", b"SPDY/3.1") + b"hello")
        assert b" 101 " in await client.read_head()
        assert await client.read_exactly(5) == b"hello"
        assert await application.read_exactly(5) == b"early"
        (work,) = house.inflight
        assert work.describe() == {"method": method, "path": "/exec", "protocol": "spdy/3.1"}
        client.reset()
        await application.read_until_close()


async def test_an_upgrade_with_a_body_that_is_refused_ends_both_connections() -> None:
    """Its body went on as any other; the bytes behind it nobody reads as a request."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        ask = get("/", "Connection: upgrade", "Upgrade: tcp", "Content-Length: 2").replace(b"GET", b"POST", 1)
        await client.send(ask + BODY + GET)
        application = await upstream.connection()
        assert (await application.read_request()).body == BODY
        await application.send(ok(b"no"))
        response = await client.final("POST")
        assert (response.body, response.one(b"connection")) == (b"no", b"close")
        assert await client.read_eof() is End.FIN
        assert house.pool.idle_count == 0
        assert upstream.accepted == 1


async def test_a_101_before_the_end_of_a_body_of_known_length_is_passed_on() -> None:
    """Its rest and what follows go the same way, in order."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        ask = get("/", "Connection: upgrade", "Upgrade: chat/2", "Content-Length: 6").replace(
            b"GET", b"POST", 1
        )
        await client.send(ask + b"abc")
        application = await upstream.connection()
        await application.read_head()
        assert await application.read_exactly(3) == b"abc"
        await application.send(AGREE)
        assert b" 101 " in await client.read_head()
        await client.send(b"defchat")
        assert await application.read_exactly(7) == b"defchat"
        client.reset()
        await application.read_until_close()


async def test_a_101_in_the_middle_of_a_chunked_body_is_no_answer() -> None:
    """Chunks are written anew: nobody could say where the body ends and the protocol begins."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        ask = get("/", "Connection: upgrade", "Upgrade: chat/2", "Transfer-Encoding: chunked")
        await client.send(ask.replace(b"GET", b"POST", 1) + b"3\r\nabc\r\n")
        application = await upstream.connection()
        await application.read_head()
        assert await application.read_exactly(8) == b"3\r\nabc\r\n"
        await application.send(AGREE)
        assert (await client.final("POST")).status == 502
        await application.read_until_close()


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (get("/", "Connection: upgrade", "Upgrade: h2c"), "h2c"),
        (get("/", "Connection: upgrade", "Upgrade: two words"), "malformed"),
        (get("/", "Upgrade: websocket"), "not_nominated"),
        (b"GET / HTTP/1.0\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "http_1_0"),
    ],
)
async def test_an_upgrade_that_is_ignored_is_counted_and_told(head: bytes, why: str) -> None:
    """Whose client waits for a 101 in vain finds the reason."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(head)
        application = await upstream.connection()
        assert (await application.read_request()).one(b"upgrade") is None
        await application.send(OK)
        assert (await client.final()).body == b"ok"
        assert house.metrics.upgrades_ignored.value(why) == 1
        (line,) = house.diary.of("upgrade_ignored")
        assert line["reason"] == why


async def test_a_refused_upgrade_is_an_answer_after_which_both_connections_end() -> None:
    """What the client has sent already may be in the other protocol: nobody reads it as a request."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(ASK + GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(ok(b"no"))
        response = await client.final()
        assert (response.status, response.body, response.one(b"connection")) == (200, b"no", b"close")
        assert await client.read_eof() is End.FIN
        assert await application.read_until_close() == b""
        assert house.pool.idle_count == 0
        assert upstream.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\nhi",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: chat/2, other\r\n\r\nhi",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n\r\nhi",
        b"HTTP/1.0 101 Switching\r\nConnection: upgrade\r\nUpgrade: chat/2\r\n\r\nhi",
    ],
    ids=["another", "one more", "none", "1.0"],
)
async def test_a_101_must_name_what_was_asked_for(answer: bytes) -> None:
    """Otherwise nobody knows what is spoken: 502, and no byte of it passes."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(ASK + b"early")
        application = await upstream.connection()
        await application.read_request()
        await application.send(answer)
        response = await client.final()
        assert (response.status, response.one(b"connection")) == (502, b"close")
        assert await client.read_eof() is End.FIN
        assert await application.read_until_close() == b""


async def test_an_upgrade_takes_no_pooled_connection_and_leaves_none() -> None:
    """The pool's connection stays for others."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        first = await upstream.connection()
        await first.read_request()
        await first.send(OK)
        await client.final()
        assert house.pool.idle_count == 1
        await client.send(ASK)
        second = await upstream.connection()
        await second.read_request()
        await second.send(AGREE)
        await client.read_head()
        assert house.pool.idle_count == 1
        second.close()
        assert await client.read_eof() is End.FIN
        client.close()
        await house.until(lambda: house.pool.open_count == 1)


# Ends.


async def test_a_half_close_is_passed_on_and_the_other_half_goes_on() -> None:
    """A client may be done and still be answered; the application the other way round."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await tunnel(house, upstream)
        await client.send(b"question")
        client.half_close()
        assert await application.read_until_close() == b"question"
        await asyncio.sleep(0.05)
        await application.send(b"answer")
        assert await client.read_exactly(6) == b"answer"
        application.half_close()
        assert await client.read_eof() is End.FIN
        await house.until(lambda: not len(house.inflight))

        client, application = await tunnel(house, upstream)
        application.half_close()
        assert await client.read_eof() is End.FIN
        await client.send(b"still here")
        assert await application.read_exactly(10) == b"still here"
        client.half_close()
        assert await application.read_until_close() == b""
        assert application.end is End.FIN


async def test_a_reset_stays_a_reset() -> None:
    """From either side, before and after a half-close of the other."""
    async with Upstream() as upstream, House(upstream) as house:
        for halved in (False, True):
            client, application = await tunnel(house, upstream)
            if halved:
                client.half_close()
            client.reset()
            await house.until(lambda: not house.pool.open_count)
            await application.read_until_close()
            if application.end is End.FIN:  # the kernel tells a reset after an end only to who sends
                assert halved
                with pytest.raises(BrokenPipeError):
                    await application.send(b"x")

            client, application = await tunnel(house, upstream)
            if halved:
                client.half_close()
                await application.read_until_close()
            application.reset()
            await client.read_until_close()
            assert client.end is End.RESET


async def test_a_client_that_half_closed_before_the_101_may_do_so_where_that_is_allowed() -> None:
    """`allow_half_close` counts before the 101; its end is passed on after it."""
    async with Upstream() as upstream, House(upstream, allow_half_close=True) as house:
        client = await house.client()
        await client.send(ASK + b"all")
        client.half_close()
        application = await upstream.connection()
        await application.read_request()
        await application.send(AGREE)
        assert await application.read_until_close() == b"all"
        await application.send(b"answer")
        application.close()
        assert (await client.read_until_close()).endswith(b"\r\n\r\nanswer")


async def test_what_was_said_last_arrives_after_both_have_closed() -> None:
    """A slow client gets every byte of an application that is long gone; a drain would wait for it."""
    body = bytes(range(256)) * 8192
    async with Upstream() as upstream, House(upstream, send_buffer=4096) as house:
        client, application = await tunnel(house, upstream, receive_buffer=4096)
        client.half_close()
        await application.read_until_close()
        sending = asyncio.ensure_future(application.send(body))
        await turns(50)
        assert len(house.inflight) == 1
        reading = asyncio.ensure_future(client.read_until_close())
        await sending
        application.close()
        assert await reading == body
        assert client.end is End.FIN
        await house.until(lambda: not len(house.inflight))


# Bounds.


async def test_who_does_not_read_holds_the_other_back() -> None:
    """Both ways: within one turn of the loop, and with every byte in the end."""
    async with Upstream(receive_buffer=4096) as upstream, House(upstream, send_buffer=4096) as house:
        client, application = await tunnel(house, upstream, receive_buffer=4096)
        inner, outer = next(iter(house.pool._open)), next(iter(house.registry.clients))
        for source, sink in ((inner, outer), (outer, inner)):
            while not sink.transport.get_write_buffer_size():
                source.data_received(b"x" * READ_BYTES)
                await asyncio.sleep(0)
            taken = 0
            while taken < 32 * READ_BYTES and source.transport.is_reading():
                source.data_received(b"x" * READ_BYTES)
                taken += READ_BYTES
            assert taken <= ROOM_BYTES
        client.half_close()
        application.half_close()
        to_client, to_application = await asyncio.gather(
            client.read_until_close(), application.read_until_close()
        )
        assert set(to_client) == set(to_application) == {ord("x")}
    assert house.requests() == {("GET", "101", "serving"): 1.0}
    assert len(to_client) == house.metrics.bytes.value("to_client")
    assert len(to_application) == house.metrics.bytes.value("to_upstream")


async def test_a_client_that_leaves_while_it_is_held_back_is_noticed() -> None:
    """A paused socket reports neither FIN nor RST: it is looked at."""
    async with Upstream(receive_buffer=4096) as upstream, House(upstream) as house:
        client, application = await tunnel(house, upstream)
        await client.send_until_stuck(b"x" * 65536, limit=100_000_000)
        client.reset()
        await application.read_until_close()
        assert application.end is End.RESET


# Time.


async def test_idle_ends_a_tunnel_and_total_does_not() -> None:
    """Nobody knows how long a conversation takes; how long a silence may last, a route can say."""
    routes = (Route(b"/", frozenset(), Timeouts(idle=0.5, total=0.2, response_head=0.2)),)
    async with Upstream() as upstream, House(upstream, routes=routes) as house:
        client, application = await tunnel(house, upstream)
        for _ in range(4):
            await asyncio.sleep(0.2)
            await client.send(b"x")
            await application.read_exactly(1)
        await asyncio.gather(client.read_until_close(), application.read_until_close())
        assert client.end is End.RESET
        assert application.end is End.RESET
    assert house.metrics.errors.value("idle-timeout") == 1


@pytest.mark.parametrize("last", ["application", "client"])
@of_sources("it replaces a constant")
async def test_who_does_not_take_what_was_said_last_is_waited_for_so_long(
    last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have said that they are done, and one of them does not read the rest: then it sees a reset."""
    monkeypatch.setattr("drainproxy.proxy.relay.tunnel.UNREAD_LINGER_S", 0.3)
    async with Upstream(receive_buffer=4096) as upstream, House(upstream, send_buffer=4096) as house:
        client, application = await tunnel(house, upstream, receive_buffer=4096)
        speaks, deaf = (application, client) if last == "application" else (client, application)
        inner, outer = next(iter(house.pool._open)), next(iter(house.registry.clients))
        to_deaf = outer if deaf is client else inner
        # More than the kernel will take later, less than holds back who sends it: its end is to be read.
        while to_deaf.transport.get_write_buffer_size() < ROOM_BYTES // 16:
            await speaks.send(b"x" * 4096)
            await turns(10)
        deaf.half_close()
        await speaks.read_until_close()
        speaks.half_close()
        await house.until(lambda: not len(house.inflight))
        assert set(await deaf.read_until_close()) <= {ord("x")}
        assert deaf.end is End.RESET
    assert [line["outcome"] for line in house.diary.of("tunnel")] == ["finished"]


async def test_an_upgrade_waits_for_an_application_that_starts() -> None:
    """As any request: it is told 503 only after the connect timeout."""
    async with Upstream() as upstream:
        address = upstream.address
    house = House(address, up=False)
    async with house:
        client = await house.client()
        await client.send(ASK)
        await house.until(lambda: house.metrics.upstream_connects.value("refused") == 1)
        assert not client.received
        client.reset()
        await house.until(lambda: not len(house.inflight))


# The drain.


async def test_while_the_cluster_forgets_upgrades_are_served_and_then_refused() -> None:
    """Tunnels are told to leave once propagation is over, so that they come back elsewhere."""
    async with Upstream() as upstream, House(upstream, rules=PRESETS["cluster"][0]) as house:
        house.sigterm()
        client, _ = await tunnel(house, upstream)
        client.reset()
    assert outcomes(house) == {"finished": 1}
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await tunnel(house, upstream)
        house.sigterm()
        late = await house.ask(ASK)
        assert (late.status, late.one(b"connection"), late.one(b"retry-after")) == (503, b"close", b"1")
        assert upstream.accepted == 1
        await client.send(b"goes on")
        assert await application.read_exactly(7) == b"goes on"
        application.close()
        assert await client.read_eof() is End.FIN
        client.close()
        await house.until(lambda: house.controller.report is not None)
    assert outcomes(house) == {"refused": 1, "finished": 1}
    report = house.diary.of("drain_report")[0]
    assert report["tunnels"]["other"]["finished"] == 1
    assert report["requests"]["finished"] == 0


async def test_a_tunnel_without_a_word_for_leaving_runs_to_its_deadline() -> None:
    """Then both sides see that it was cut."""
    lifecycle = {"grace_period": 2.5, "leave_spread": 0.0}
    async with Upstream() as upstream, House(upstream, lifecycle=lifecycle) as house:
        client, application = await tunnel(house, upstream)
        house.sigterm()
        began = house.loop.time()
        await asyncio.gather(client.read_until_close(), application.read_until_close())
        assert house.loop.time() - began > 1.0
        assert (client.end, application.end) == (End.RESET, End.RESET)
        await house.until(lambda: house.controller.report is not None)
    assert outcomes(house) == {"cut": 1}


async def test_a_half_close_to_a_client_that_has_gone_disturbs_nobody() -> None:
    """It has read what there was and closed; the rest goes out, is answered with a reset, and that is all."""
    async with Upstream() as upstream, House(upstream, send_buffer=4096) as house:
        client, application = await tunnel(house, upstream, receive_buffer=4096)
        (ours,) = house.registry.clients
        while not ours.transport.get_write_buffer_size():
            await application.send(b"x" * 500)
            await turns(10)
        application.half_close()
        await house.until(lambda: all(each._upstream_done for each in house.inflight))
        with contextlib.suppress(BlockingIOError):
            # Without a turn of the loop in between: it closes with nothing unread.
            while client.wire.recv(65536):
                pass
        # Its last word is read before its end is: the rest is written in between.
        client.wire.send(b"bye")
        client.close()
        assert await application.read_until_close() == b"bye"
        await house.until(lambda: not house.registry.clients)
