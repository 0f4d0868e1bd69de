"""A socket that goes on in another protocol leaves nothing behind in the connection that had it before."""

from __future__ import annotations

import math

import pytest

from drainproxy.proxy.http1.connection import ClientConnection
from drainproxy.proxy.wire import endpoint
from tests.support.flavours import of_sources
from tests.support.house import House
from tests.support.http2 import PING, PREFACE, SETTINGS, Http2, frame, settings
from tests.support.upstream import Upstream
from tests.support.wire import turns
from tests.support.words import get

ASK = get("/talk", "Connection: Upgrade", "Upgrade: chat/2")
LARGE_ASK = get(
    "/talk", "Connection: Upgrade", "Upgrade: chat/2", *(f"X-{n}: {'y' * 900}" for n in range(30))
)
AGREE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat/2\r\n\r\n"
BODY = 64 * 1024
POST = (
    b"POST /talk HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat/2\r\nContent-Length: %d\r\n\r\n"
)


@pytest.mark.parametrize("ask", [ASK + b"early", LARGE_ASK], ids=["early bytes", "a large head"])
async def test_what_an_upgrade_held_is_in_the_account_no_longer_than_it_is_held(ask: bytes) -> None:
    """Early bytes were counted for ever, and the old connection was kept as the one that holds them."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(ask)
        application = await upstream.connection()
        await application.read_request()
        await house.until(lambda: house.buffers.held_bytes > 0)
        await application.send(AGREE)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        await house.until(lambda: house.buffers.held_bytes == 0)
        assert not [who for who in house.buffers._held if isinstance(who, ClientConnection)]
        client.reset()


@of_sources("it replaces a constant")
async def test_a_connection_whose_turn_comes_after_its_upgrade_reads_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large read was its turn's last when the 101 came: what was read behind the body is the tunnel's, and
    was taken for a request as well."""
    monkeypatch.setattr(endpoint, "LARGE_READ_BYTES", BODY // 2)
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(POST % BODY)
        application = await upstream.connection()
        await application.read_head()
        (old,) = house.registry.clients
        assert isinstance(old, ClientConnection)
        queue = house.buffers.run_queue
        queue._scheduled = True  # it stands still
        hidden = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
        await client.send(b"b" * BODY + hidden)
        assert await application.read_exactly(BODY) == b"b" * BODY
        await house.until(lambda: old.yielding)
        await application.send(AGREE)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        queue._run()
        assert await application.read_exactly(len(hidden)) == hidden
        await client.send(b"hello")
        assert await application.read_exactly(5) == b"hello"
        await turns(10)
        assert upstream.accepted == 1
        assert old.timer.when == math.inf
        await application.send(b"hello to you")
        assert await client.read_exactly(12) == b"hello to you"
        client.reset()


@pytest.mark.parametrize("tight", [True, False], ids=["little room", "room again"])
async def test_a_socket_that_is_handed_over_before_it_was_fitted_stays_where_it_is(*, tight: bool) -> None:
    """Thousands are fitted in many turns, as they were when room became scarce. The old connection took its
    socket back: what came for the tunnel was read as another request."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(ASK)
        application = await upstream.connection()
        await application.read_request()
        (old,) = house.registry.clients
        await application.send(AGREE)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        house.buffers.tight = tight
        old.fit()
        await client.send(b"hello")
        assert await application.read_exactly(5) == b"hello"
        client.reset()


@pytest.mark.parametrize("tight", [True, False], ids=["little room", "room again"])
async def test_so_does_one_that_goes_on_in_http2(*, tight: bool) -> None:
    """It was answered 400 for its next frame, and half-closed."""
    async with Upstream() as upstream, House(upstream) as house:
        client = Http2(await house.client())
        await house.until(lambda: bool(house.registry.clients))
        (old,) = house.registry.clients
        await client.send(PREFACE, settings())
        application = Http2(await upstream.connection())
        await application.wire.read_exactly(len(PREFACE))
        await application.next(SETTINGS)
        assert old not in house.registry.clients
        house.buffers.tight = tight
        old.fit()
        await client.send(frame(PING, payload=b"still me"))
        assert (await application.next(PING)).payload == b"still me"
        client.wire.reset()
