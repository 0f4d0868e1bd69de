"""Everything that is held for a client is in the account, from its first byte to its last, and gives way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.downstream.states import LINGERING
from drainproxy.proxy.wire import buffers
from drainproxy.proxy.wire.buffers import SMALL_BYTES
from drainproxy.proxy.wire.weights import (
    CLIENT_BYTES,
    PARSER_BYTES,
    SOCKET_BYTES,
    STREAM_BYTES,
    STREAM_TIMES_BYTES,
    UPSTREAM_BYTES,
    WORK_BYTES,
    transport_bytes,
)
from tests.proxy.http2.test_connection import asked, pair
from tests.support.flavours import of_sources
from tests.support.house import House
from tests.support.upstream import Upstream, answering
from tests.support.wire import End
from tests.support.words import GET, OK, get

if TYPE_CHECKING:
    from drainproxy.proxy.http1.connection import ClientConnection
    from drainproxy.proxy.wire.buffers import Buffers

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE = get("/", *(f"X-{number}: {'y' * 1000}" for number in range(8)))


def only(house: House) -> ClientConnection:
    """The one client."""
    (client,) = house.registry.clients
    return client


async def test_half_a_head_counts_with_the_objects_that_hold_it() -> None:
    """Its bytes, and once more as fields; a small one too; and nothing once it is whole and answered."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(LARGE[:-2])
        await house.until(lambda: house.buffers.held_bytes > 2 * len(LARGE))
        assert house.buffers.held_bytes < 2.5 * len(LARGE)
        await client.send(b"\r\n")
        assert (await client.final()).body == b"ok"
        await house.until(lambda: house.buffers.held_bytes == 0)
        await client.send(GET[:20])
        await house.until(lambda: 0 < house.buffers.held_bytes < 2_000)


async def test_a_refused_head_is_let_go_of_while_its_client_lingers() -> None:
    """4,000 of 63 KiB were 260 MB."""
    async with Upstream() as upstream, House(upstream, linger_s=60) as house:
        client = await house.client()
        await client.send(LARGE[:-2] + b"no field\r\n")
        assert (await client.final()).status == 400
        side = only(house)
        assert side.state is LINGERING
        assert house.buffers.held_bytes == 0
        assert (side._ahead, side._reader._partial, side._reader._head.fields) == (b"", b"", [])


async def test_a_head_of_many_tiny_fields_is_refused_before_it_is_whole() -> None:
    """64 KB of `a:` would be 444 KB here."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 5_000)
        assert (await client.final()).status == 431
        assert only(house)._reader._head.fields == []


async def test_what_is_pipelined_in_the_first_segment_counts() -> None:
    """It was accounted for with the second one only."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET + GET * 400)
        application = await upstream.connection()
        await application.read_request()
        await house.until(lambda: house.buffers.held_bytes >= 400 * len(GET))
        assert house.buffers.held_bytes < 400 * len(GET) + 2_000
        client.reset()
        await house.until(lambda: house.buffers.held_bytes == 0)


async def test_large_heads_count_while_they_are_answered() -> None:
    """They are kept, in case the request has to be sent again."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(LARGE)
        application = await upstream.connection()
        await application.read_request()
        assert len(LARGE) <= house.buffers.held_bytes < 1.3 * len(LARGE)
        await application.send(OK)
        await client.final()
        await house.until(lambda: house.buffers.held_bytes == 0)


async def test_trailers_chunk_lines_and_extensions_that_do_not_end_count() -> None:
    """And no more once the body has ended."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(CHUNKED)
        application = await upstream.connection()
        await application.read_head()
        await client.send(b"1;" + b"a" * 3_000)
        await house.until(lambda: 3_000 <= house.buffers.held_bytes < 3_200)
        await client.send(b"\r\nx\r\n0\r\n" + b"a: b\r\n" * 50 + b"c: " + b"d" * 9_000)
        await house.until(lambda: 11_000 < house.buffers.held_bytes < 13_000)
        await client.send(b"\r\n\r\n")
        await house.until(lambda: house.buffers.held_bytes == 0)
        await application.send(OK)
        assert (await client.final()).body == b"ok"


async def test_what_has_begun_gives_way_the_largest_first_until_there_is_room() -> None:
    """Each hears why; who holds little, and who is served, is left alone."""
    async with Upstream() as upstream, House(upstream, max_buffer_bytes=60_000) as house:
        served = await house.client()
        await served.send(GET)
        application = await upstream.connection()
        await application.read_request()
        small, middle, large = [await house.client() for _ in range(3)]
        await small.send(LARGE[:1_000])
        await middle.send(LARGE[:4_000])
        await large.send(LARGE[:-2])
        await house.until(lambda: house.buffers.held_bytes > 2 * (len(LARGE) + 5_000))
        house.buffers.hold("somebody", 60_500 - house.buffers.held_bytes)
        answer = await large.final()
        assert (answer.status, answer.one(b"connection")) == (503, b"close")
        assert answer.body == b"503 Service Unavailable: out-of-buffers\n"
        assert house.refused() == {"out-of-buffers": 1}
        house.buffers.free("somebody")
        await middle.send(LARGE[4_000:])
        await application.send(OK)
        assert (await served.final()).body == b"ok"
        other = await upstream.connection_with_bytes()
        await other.read_request()
        await other.send(OK)
        assert (await middle.final()).body == b"ok"


async def test_what_is_pipelined_gives_way_and_what_is_under_way_is_answered() -> None:
    """Its answer says that nothing behind it will be."""
    async with Upstream() as upstream, House(upstream, max_buffer_bytes=30_000) as house:
        client = await house.client()
        await client.send(GET + GET * 1_500)
        application = await upstream.connection()
        await application.read_request()
        await house.until(lambda: house.refused() == {"out-of-buffers": 1})
        assert house.buffers.held_bytes < SMALL_BYTES
        await client.send(GET)
        await application.send(OK)
        answer = await client.final()
        assert (answer.status, answer.one(b"connection")) == (200, b"close")
        assert await client.read_eof() is End.FIN
        assert house.diary.of("turned_away")[0]["reason"] == "out-of-buffers"


async def test_where_there_is_no_room_at_all_new_requests_are_refused_and_health_checks_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On connections that stand, too; what is under way goes on."""
    async with Upstream() as upstream, House(upstream) as house:
        busy, kept = await house.client(), await house.client()
        await busy.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await kept.send(GET)
        other = await upstream.connection()
        await other.read_request()
        await other.send(OK)
        await kept.final()
        monkeypatch.setattr(house.buffers, "room_bytes", 1)
        house.buffers.weigh()
        assert house.buffers.is_full()
        answer = await kept.ask(GET)
        assert (answer.status, answer.one(b"connection")) == (503, b"close")
        kubelet = await house.client()
        await kubelet.send(get("/", "User-Agent: kube-probe/1.36"))
        await other.read_request()
        await other.send(OK)
        assert (await kubelet.final()).status == 200
        await application.send(OK)
        assert (await busy.final()).body == b"ok"
        monkeypatch.undo()


async def test_connections_and_requests_are_in_what_is_told() -> None:
    """What they take was measured, and is no part of what waits."""
    async with Upstream() as upstream, House(upstream) as house:
        assert house.buffers.resident_bytes == 0
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        transports = 2 * transport_bytes(house.loop)
        objects = CLIENT_BYTES + PARSER_BYTES + UPSTREAM_BYTES + WORK_BYTES
        assert house.buffers.resident_bytes == objects + transports
        assert house.buffers.held_bytes == 0
        client.reset()
        await house.until(lambda: not house.buffers.resident_bytes)


@of_sources("it replaces a function")
async def test_free_memory_is_given_back_once_much_of_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library would keep it."""
    given = []
    monkeypatch.setattr(buffers, "LOOK_S", 0.01)
    monkeypatch.setattr(buffers, "give_back", lambda: given.append(True))
    async with Upstream() as upstream, House(upstream) as house:
        account: Buffers = house.buffers
        account.hold("somebody", 9_000_000)
        await house.until(lambda: account._peak_bytes > 0)
        account.hold("somebody", 6_000_000)
        account.free("somebody")
        await house.until(lambda: given)
        await house.until(lambda: not account._looking)


async def test_the_connection_that_makes_it_too_much_is_made_and_reads_little() -> None:
    """It was told to fit before it had a transport, and neither it nor those behind it ever did."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        client = await house.client()
        await house.until(lambda: len(house.registry.clients) == 1)
        before = CLIENT_BYTES + transport_bytes(house.loop) + SOCKET_BYTES
        house.buffers.room_bytes = (before + WORK_BYTES + UPSTREAM_BYTES / 2) / buffers.SOFT_SHARE
        await client.send(GET)
        assert (await client.final()).body == b"ok"
        assert house.buffers.tight


@pytest.mark.parametrize(
    ("how", "has_times"), [({}, False), ({"total_timeout": 60}, True), ({"h2_inspect": True}, True)]
)
async def test_streams_are_told_with_the_times_that_they_have(
    how: dict[str, object], has_times: bool
) -> None:
    """Most have none, and hold nothing for them."""
    async with pair(**how) as (house, client, application):
        before = house.buffers.own_bytes
        # The books are looked at with every 8th, before it is among them.
        for number in range(1, 2 * 17, 2):
            await asked(client, application, number, end=False)
        of_one = STREAM_BYTES - WORK_BYTES + STREAM_TIMES_BYTES * has_times
        assert house.buffers.own_bytes - before == 16 * of_one
        assert all((work.limits is not None) is has_times for work in house.plane.inflight)
        for work in house.plane.inflight:
            work.drain_by(house.loop.time() + 60)
        assert all(work.limits is not None for work in house.plane.inflight), "a drain has one for each"
