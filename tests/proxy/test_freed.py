"""A connection is free at once however it ends: what waits for the collector is in no account."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING

import pytest

from drainproxy import certificates
from drainproxy.certificates import Certificates, Files
from drainproxy.proxy.downstream.unfinished import Unfinished
from drainproxy.proxy.http1.exchange import Exchange
from drainproxy.proxy.http2.stream import Stream
from drainproxy.proxy.http2.streams import Streams
from drainproxy.proxy.limits.routes import Route, Timeouts
from drainproxy.proxy.preamble import Preamble
from drainproxy.proxy.wire.endpoint import Endpoint
from drainproxy.proxy.wire.tls import Tls
from tests.support.house import House
from tests.support.http2 import DATA, GOAWAY, HEADERS, PING, RST, SETTINGS, Http2, frame
from tests.support.upstream import Connection, Upstream
from tests.support.wire import End, Ended
from tests.support.words import GET, OK, asks, get, post, switching, upgrade

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.support.authority import Authority
    from tests.support.client import Client

    Play = Callable[[House, Upstream], Awaitable[None]]

KINDS = (Endpoint, Tls, Exchange, Stream, Streams, Unfinished)
"""What there is of each connection."""
ROUTES = (Route(b"/soon", frozenset(), Timeouts(total=0.05, idle=0.05)),)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nobody looks for circles meanwhile, and what is here already is not looked at."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def alive(house: House) -> list[object]:
    """Everything of connections, but those that wait for the next request."""
    waiting = house.pool._idle
    return [one for one in gc.get_objects() if isinstance(one, KINDS) and one not in waiting]


async def freed(house: House) -> None:
    """Nothing of any connection is left."""
    await house.until(lambda: not house.registry.clients, "it has not ended")
    await house.until(lambda: not alive(house), "it has ended, and was not freed")


async def gone(end: Awaitable[object]) -> None:
    """Somebody's end is an end."""
    with contextlib.suppress(Ended):
        await end


# HTTP/1.


async def silent(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await house.until(lambda: bool(house.registry.clients))
    client.reset()


async def half_a_head(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(GET[:-3])
    await house.until(lambda: len(house.inflight) == 1)
    client.reset()


async def idle(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(GET)
    await (await served(upstream)).send(OK)
    await client.final()
    client.reset()


async def closed(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(get("/", "Connection: close"))
    await (await served(upstream)).send(OK)
    await client.final()
    assert await client.read_eof() is End.FIN
    client.close()


async def waiting(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(GET)
    await served(upstream)
    client.reset()


async def refused(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(b"GET / HTTP/1.1\r\nno field\r\n\r\n")
    assert (await client.final()).status == 400
    client.close()


async def unanswered(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(GET)
    (await served(upstream)).reset()
    assert (await client.final()).status == 502
    client.close()


async def garbled(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(GET)
    await (await served(upstream)).send(b"no answer\r\n\r\n")
    assert (await client.final()).status == 502
    client.close()


async def garbled_body(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(asks("POST", "/", "Transfer-Encoding: chunked") + b"no size\r\n")
    assert (await client.final()).status == 400
    client.close()


async def too_late(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(get("/soon"))
    await served(upstream)
    assert (await client.final()).status == 504
    client.close()


async def half_a_body(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(post(b"x" * 100)[:-1])
    await (await upstream.connection()).read_head()
    client.reset()


async def half_an_answer(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(GET)
    application = await served(upstream)
    await application.send(OK[:-1])
    await client.read_head()
    await client.read_exactly(1)
    application.reset()
    assert await client.read_eof() is End.RESET


async def trailers(house: House, upstream: Upstream) -> None:
    client = await house.client()
    await client.send(asks("POST", "/", "Transfer-Encoding: chunked") + b"0\r\na: b\r\n")
    await (await upstream.connection()).read_head()
    client.reset()


class Silence:
    """An application that does not take its connections."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def dial(self, make: Callable[[], asyncio.Protocol], *, small: bool = False) -> asyncio.Transport:
        """See Dials."""
        self.asked.set()
        return await asyncio.get_running_loop().create_future()


async def connecting(house: House, upstream: Upstream) -> None:
    house.pool.dialer = silence = Silence()
    client = await house.client()
    await client.send(GET)
    await silence.asked.wait()
    client.reset()


async def connecting_too_long(house: House, upstream: Upstream) -> None:
    house.pool.dialer = Silence()
    client = await house.client()
    assert (await client.ask(get("/soon"))).status == 504
    client.close()


async def served(upstream: Upstream) -> Connection:
    """The application has a request."""
    application = await upstream.connection()
    await application.read_request()
    return application


HTTP1 = (
    silent, half_a_head, idle, closed, waiting, refused, unanswered, garbled, garbled_body, too_late,
    half_a_body, half_an_answer, trailers, connecting, connecting_too_long,
)  # fmt: skip


@pytest.mark.parametrize("play", HTTP1, ids=lambda play: play.__name__)
async def test_a_connection_of_http_1_is_freed_without_the_collector(no_collector: None, play: Play) -> None:
    """Whatever it was in the middle of, and whoever ended it."""
    async with Upstream() as upstream, House(upstream, routes=ROUTES) as house:
        await play(house, upstream)
        await freed(house)


# HTTP/2.


async def pair(house: House, upstream: Upstream) -> tuple[Http2, Http2]:
    """A client and the application it reaches, both past their SETTINGS."""
    client = Http2(await house.client())
    await client.introduce()
    application = Http2(await upstream.connection())
    await application.greet()
    await client.next(SETTINGS)
    return client, application


async def asked(house: House, upstream: Upstream, path: str = "/") -> tuple[Http2, Http2]:
    """The same, with a stream that the application has."""
    client, application = await pair(house, upstream)
    await client.send(client.request(1, path))
    await application.next(HEADERS, 1)
    return client, application


async def not_greeted(house: House, upstream: Upstream) -> None:
    client = Http2(await house.client())
    await client.introduce()
    await (await upstream.connection()).more()
    client.wire.reset()


async def no_application(house: House, upstream: Upstream) -> None:
    await upstream.close()
    client = Http2(await house.client())
    await client.introduce()
    await client.next(GOAWAY)
    client.wire.close()


async def another_protocol(house: House, upstream: Upstream) -> None:
    client = Http2(await house.client())
    await client.introduce()
    await (await upstream.connection()).send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await client.next(GOAWAY)
    client.wire.close()


async def idle_client_leaves(house: House, upstream: Upstream) -> None:
    client, _ = await pair(house, upstream)
    client.wire.reset()


async def client_leaves(house: House, upstream: Upstream) -> None:
    client, _ = await asked(house, upstream)
    client.wire.reset()


async def client_closes(house: House, upstream: Upstream) -> None:
    client, _ = await asked(house, upstream)
    client.wire.close()


async def many_streams(house: House, upstream: Upstream) -> None:
    client, application = await pair(house, upstream)
    await client.send(*(client.request(number) for number in range(1, 121, 2)))
    await application.next(HEADERS, 119)
    client.wire.reset()


async def half_a_frame(house: House, upstream: Upstream) -> None:
    client, _ = await asked(house, upstream)
    await client.send(frame(DATA, 0, 1, b"x" * 9_000)[:-1])
    await house.until(lambda: house.buffers.held_bytes > 0)
    client.wire.reset()


async def half_a_block(house: House, upstream: Upstream) -> None:
    client, application = await pair(house, upstream)
    await client.send(client.request(1, end=False))
    await application.next(HEADERS, 1)
    await client.send(frame(HEADERS, 0, 1, b""))
    await application.next(HEADERS, 1)
    client.wire.reset()


async def a_stream_ends(house: House, upstream: Upstream) -> None:
    client, application = await asked(house, upstream)
    await application.send(application.response(1, end=True))
    await client.next(HEADERS, 1)
    client.wire.reset()


async def a_stream_is_reset(house: House, upstream: Upstream) -> None:
    client, application = await asked(house, upstream)
    await client.send(frame(RST, 0, 1, bytes(4)))
    await application.next(RST)
    client.wire.reset()


async def a_stream_is_late(house: House, upstream: Upstream) -> None:
    client, _ = await asked(house, upstream, "/soon")
    if house.settings.h2_inspect:
        await client.next(HEADERS, 1)
    client.wire.reset()


async def application_resets(house: House, upstream: Upstream) -> None:
    client, application = await asked(house, upstream)
    application.wire.reset()
    await client.next(GOAWAY)
    client.wire.close()


async def application_closes(house: House, upstream: Upstream) -> None:
    client, application = await pair(house, upstream)
    application.wire.close()
    await client.next(GOAWAY)
    client.wire.close()


async def abuse(house: House, upstream: Upstream) -> None:
    client, _ = await asked(house, upstream)
    await client.send(frame(DATA, 0, 9, b"x"))
    await client.next(GOAWAY)
    client.wire.close()


async def no_place(house: House, upstream: Upstream) -> None:
    house.connection_limit._max = 0
    client = Http2(await house.client())
    await client.introduce()
    await client.wire.read_until_close()
    client.wire.close()


async def given_way(house: House, upstream: Upstream) -> None:
    client, _ = await pair(house, upstream)
    await client.send(frame(DATA, 0, 1, b"x" * 9_000)[:-1])
    await house.until(lambda: house.buffers.held_bytes > 0)
    for one in list(house.buffers.begun):
        one.shed()
    await client.next(GOAWAY)
    client.wire.close()


async def grown_old(house: House, upstream: Upstream) -> None:
    client, application = await asked(house, upstream)
    (ours,) = house.registry.clients
    ours.grow_old()
    ping = await client.next(PING)
    await client.send(frame(PING, 1, 0, ping.payload))
    await application.send(application.response(1, end=True))
    await client.wire.read_until_close()
    client.wire.close()


async def drained(house: House, upstream: Upstream) -> None:
    client, _ = await asked(house, upstream)
    house.sigterm()
    for work in house.inflight:
        work.cut("drain-deadline")
    await client.next(HEADERS, 1)
    client.wire.close()


HTTP2 = (
    not_greeted, no_application, another_protocol, idle_client_leaves, client_leaves, client_closes,
    many_streams, half_a_frame, half_a_block, a_stream_ends, a_stream_is_reset, a_stream_is_late,
    application_resets, application_closes, abuse, no_place, given_way, grown_old, drained,
)  # fmt: skip


@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("play", HTTP2, ids=lambda play: play.__name__)
async def test_a_connection_of_http_2_is_freed_without_the_collector(
    no_collector: None, play: Play, read: bool
) -> None:
    """With its streams; `read`: with `h2_inspect`."""
    async with Upstream() as upstream, House(upstream, routes=ROUTES, h2_inspect=read) as house:
        await play(house, upstream)
        await freed(house)


# Tunnels.


async def tunnel(house: House, upstream: Upstream, path: str = "/") -> tuple[Client, Connection]:
    """Both far ends of one, whatever is spoken."""
    client = await house.client()
    if house.pool.address.tcp:
        await client.send(b"hello")
        application = await upstream.connection()
        await application.read_exactly(5)
        return client, application
    await client.send(upgrade(path, "websocket"))
    application = await upstream.connection()
    await application.read_request()
    await application.send(switching("websocket"))
    await client.read_head()
    return client, application


async def resets(house: House, upstream: Upstream) -> None:
    client, _ = await tunnel(house, upstream)
    client.reset()


async def hangs_up(house: House, upstream: Upstream) -> None:
    client, application = await tunnel(house, upstream)
    client.close()
    await gone(application.read_exactly(1))
    application.close()


async def both_end(house: House, upstream: Upstream) -> None:
    client, application = await tunnel(house, upstream)
    application.close()
    assert await client.read_eof() is End.FIN
    client.close()


async def is_reset(house: House, upstream: Upstream) -> None:
    client, application = await tunnel(house, upstream)
    application.reset()
    assert await client.read_eof() is End.RESET


def expire(house: House) -> None:
    """Have each tunnel idle for too long. Not where a reset is awaited: its traceback would hold what was
    looked at here, for as long as the exception lives."""
    for one in house.registry.clients:
        one._deadlines.idle = 0.0
        one.expired()


def cut(house: House) -> None:
    """Have the drain's deadline pass for each request in flight, likewise."""
    for work in house.inflight:
        work.drain_by(0.0)
        work.cut("drain-deadline")


async def idles(house: House, upstream: Upstream) -> None:
    client, _ = await tunnel(house, upstream, "/soon")
    expire(house)
    assert await client.read_eof() is End.RESET


async def is_cut(house: House, upstream: Upstream) -> None:
    client, _ = await tunnel(house, upstream)
    cut(house)
    assert await client.read_eof() is End.RESET


async def is_not_read(house: House, upstream: Upstream) -> None:
    client, application = await tunnel(house, upstream)
    await application.send_until_stuck(bytes(65_536), 64 << 20)
    application.close()
    client.reset()


TUNNELS = (resets, hangs_up, both_end, is_reset, idles, is_cut, is_not_read)


@pytest.mark.parametrize("tcp", [False, True], ids=["websocket", "tcp"])
@pytest.mark.parametrize("play", TUNNELS, ids=lambda play: play.__name__)
async def test_a_tunnel_is_freed_without_the_collector(no_collector: None, play: Play, tcp: bool) -> None:
    """Both of its sides."""
    async with Upstream() as upstream:
        address = upstream.address.replace("http:", "tcp:") if tcp else upstream
        async with House(address, routes=ROUTES) as house:
            await play(house, upstream)
            await freed(house)


def tell_to_leave(house: House) -> None:
    for work in house.inflight:
        work.leave()


async def test_a_websocket_that_was_told_to_leave_is_freed_without_the_collector(no_collector: None) -> None:
    """With what was to become of it."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await tunnel(house, upstream)
        tell_to_leave(house)
        close = await client.read_exactly(4)
        assert close[:2] == b"\x88\x02"
        await client.send(b"\x88\x82\0\0\0\0" + close[2:])
        await application.read_exactly(8)
        application.close()
        await client.read_until_close()
        client.close()
        await freed(house)


async def test_a_client_whose_application_is_not_there_is_freed_without_the_collector(
    no_collector: None,
) -> None:
    """The error of a connect holds everybody who waited for it."""
    async with Upstream() as upstream:
        address = upstream.address
        await upstream.close()
        for scheme in ("http", "tcp"):
            async with House(address.replace("http", scheme)) as house:
                client = await house.client()
                await client.send(get("/", "Connection: close"))
                await client.read_until_close()
                client.close()
                await freed(house)


# TLS.


@pytest.mark.parametrize("said", ["nothing", "hello", "request", "answered"])
async def test_a_connection_of_tls_is_freed_without_the_collector(
    no_collector: None, authority: Authority, said: str
) -> None:
    """Its session too."""
    certificate, key = authority.issue()
    preamble = Preamble(
        Certificates(Files(certificate=str(certificate), key=str(key)), certificates.for_clients)
    )
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=authority.trusted())
        if said == "hello":
            assert client.session is not None
            client.session.shake()
            await client._send(client.session.to_send()[:-1])
        elif said != "nothing":
            await client.send(GET)
            application = await served(upstream)
            if said == "answered":
                await application.send(OK)
                await client.final()
        await house.until(lambda: bool(house.registry.clients))
        client.reset()
        await freed(house)
