"""Any protocol over TCP: every byte both ways, and a drain that waits for connections until its deadline."""

from __future__ import annotations

import asyncio
import gc
import math
import struct

import pytest

from drainproxy import config
from drainproxy.errors import ConfigError
from drainproxy.lifecycle.propagation import Rules
from drainproxy.proxy.downstream.states import HALF_CLOSED
from drainproxy.proxy.downstream.unfinished import Unfinished
from drainproxy.proxy.relay.tcp import MAX_EARLY_BYTES
from tests.support.flavours import of_sources
from tests.support.house import House
from tests.support.upstream import Upstream
from tests.support.wire import End, turns

SLOWLY = Rules(min_s=60, margin_s=60, quiet_s=0, max_s=60, hold_min=True)


def tcp(upstream: Upstream) -> str:
    """The same application, written tcp://."""
    return upstream.address.replace("http://", "tcp://")


def held_up(house: House) -> asyncio.Event:
    """Have nobody go on with a connection to the application that was made before the event is set."""
    reach, go_on = house.plane.connector.connect, asyncio.Event()

    async def slowly(*asked, **more):
        reached = await reach(*asked, **more)
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            house.pool.discard(reached)
            raise
        return reached

    house.plane.connector.connect = slowly
    return go_on


async def test_an_application_that_speaks_first_is_heard() -> None:
    """Its greeting may come in the very moment it is reached; the client need not say a word."""

    async def greet(connection) -> None:
        await connection.send(b"220 ready\r\n")
        assert await connection.read_exactly(6) == b"QUIT\r\n"
        await connection.send(b"221 bye\r\n")

    async with Upstream(greet) as upstream, House(tcp(upstream)) as house:
        for _ in range(20):
            client = await house.client()
            assert await client.read_exactly(11) == b"220 ready\r\n"
            await client.send(b"QUIT\r\n")
            assert await client.read_until_close() == b"221 bye\r\n"


async def test_an_application_that_says_one_thing_and_leaves_is_heard() -> None:
    """It may have gone in the very moment it is reached, as daytime does (RFC 867)."""

    async def tell(connection) -> None:
        await connection.send(b"noon\r\n")
        connection.close()

    async with Upstream(tell) as upstream, House(tcp(upstream)) as house:
        for _ in range(50):
            client = await house.client()
            assert await client.read_until_close() == b"noon\r\n"
            assert client.end is End.FIN


@of_sources("it replaces the connector's method")
@pytest.mark.parametrize("client_too", [False, True], ids=["it alone", "both"])
async def test_an_application_that_has_left_before_anybody_goes_on_is_heard(client_too: bool) -> None:
    """What it said and its half-close wait for the client's end, which gets both and may say something."""
    async with Upstream() as upstream, House(tcp(upstream)) as house:
        go_on = held_up(house)
        client = await house.client()
        application = await upstream.connection()
        await application.send(b"noon\r\n")
        application.half_close()
        if client_too:
            await client.send(b"thanks")
            client.half_close()
        (relay,) = house.registry.clients
        await house.until(lambda: relay._upstream_done and (relay.state is HALF_CLOSED) is client_too)
        go_on.set()
        assert await client.read_until_close() == b"noon\r\n"
        assert client.end is End.FIN
        if not client_too:
            await client.send(b"thanks")
            client.half_close()
        assert await application.read_until_close() == b"thanks"
        assert application.end is End.FIN
        await house.until(lambda: not len(house.inflight) and not house.pool.open_count)


@of_sources("it replaces the connector's method")
@pytest.mark.parametrize("how", ["reset", "says too much"])
async def test_an_application_that_is_no_use_before_anybody_goes_on_is_a_reset(how: str) -> None:
    """It has hung up, or says more than is kept for a client that is not there yet."""
    async with Upstream() as upstream, House(tcp(upstream)) as house:
        go_on = held_up(house)
        client = await house.client()
        application = await upstream.connection()
        if how == "reset":
            application.reset()
        else:
            await application.send(b"x" * 2 * MAX_EARLY_BYTES)
        assert await client.read_until_close() == b""
        assert client.end is End.RESET
        go_on.set()
        await house.until(lambda: not len(house.inflight) and not house.pool.open_count)


async def test_bytes_that_look_like_http_are_bytes() -> None:
    """Nothing is added, nothing refused; a half-close is passed on, and the answer after it."""
    async with Upstream() as upstream, House(tcp(upstream)) as house:
        client = await house.client()
        raw = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n\0\xff"
        await client.send(raw)
        client.half_close()
        application = await upstream.connection()
        assert await application.read_until_close() == raw
        await application.send(b"answer")
        application.half_close()
        assert await client.read_until_close() == b"answer"


async def test_a_client_is_held_back_until_the_application_is_reached() -> None:
    """What it says first is kept, so much and no more."""
    async with Upstream() as upstream:
        address = tcp(upstream)
    async with House(address, up=False, connect_timeout=60.0) as house:
        client = await house.client()
        # Most of what is taken is in the kernel.
        assert await client.send_until_stuck(b"x" * 65_536, limit=50_000_000) < 30_000_000
        client.reset()


async def test_nothing_is_kept_of_the_connecting() -> None:
    """Its timer was for connecting: it would hold that for as long as a client may idle."""
    async with Upstream() as upstream, House(tcp(upstream), max_connection_age=3600.0) as house:
        client = await house.client()
        await client.send(b"x")
        application = await upstream.connection()
        assert await application.read_exactly(1) == b"x"
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each) is Unfinished]
        assert [each.timer.when for each in house.registry.clients] == [math.inf]
        client.reset()


async def test_a_megabyte_each_way_is_not_all_held() -> None:
    """A side that does not read holds the other back."""
    async with Upstream() as upstream, House(tcp(upstream), send_buffer=8192) as house:
        client = await house.client(receive_buffer=8192)
        await client.send(b"x")
        application = await upstream.connection()
        await application.read_exactly(1)
        taken = await application.send_until_stuck(b"y" * 65536, 64 * 1024 * 1024)
        assert taken < 16 * 1024 * 1024


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_an_end_is_passed_on_as_what_it_was(how: str) -> None:
    """A reset as a reset."""
    async with Upstream() as upstream, House(tcp(upstream)) as house:
        client = await house.client()
        await client.send(b"x")
        application = await upstream.connection()
        await application.read_exactly(1)
        application.close() if how == "fin" else application.reset()
        await client.read_until_close()
        assert client.end is (End.FIN if how == "fin" else End.RESET) or how == "fin"


async def test_an_application_that_is_down_is_a_reset() -> None:
    """There is no other word; it is counted."""
    async with Upstream() as upstream, House(tcp(upstream)) as house:
        await upstream.close()
        client = await house.client()
        await client.read_until_close()
        assert client.end is End.RESET
        assert house.metrics.errors.value("upstream-refused") == 1


async def test_a_connection_beyond_the_limit_is_turned_away_and_leaves_nothing() -> None:
    """Tunnels never idle, so nobody gives way; the application is not even asked."""
    async with Upstream() as upstream, House(tcp(upstream), max_connections=1) as house:
        first = await house.client()
        await first.send(b"x")
        application = await upstream.connection()
        assert await application.read_exactly(1) == b"x"
        late = await house.client()
        await late.read_until_close()
        assert late.end is End.RESET
        assert house.refused() == {"too-many-connections": 1}
        assert house.pool.open_count == 1
        assert not house.diary.of("defect")
        first.reset()


async def test_a_crowd_beyond_the_limit_in_one_moment_is_turned_away_as_one_caller_is() -> None:
    """Those who had been hung up on already asked for a place all the same."""
    async with Upstream() as upstream, House(tcp(upstream), max_connections=1) as house:
        first = await house.client()
        await first.send(b"x")
        application = await upstream.connection()
        assert await application.read_exactly(1) == b"x"
        late = await asyncio.gather(*(house.client() for _ in range(12)))
        for each in late:
            await each.read_until_close()
        assert house.refused() == {"too-many-connections": len(late)}
        assert not house.task_failures
        first.reset()


@of_sources("it replaces the connector's method")
async def test_what_a_client_says_while_the_application_is_awaited_is_in_the_account() -> None:
    """That is as long as the client waits, and 64 KiB of each."""
    async with Upstream() as upstream, House(tcp(upstream)) as house:
        reach, reached = house.plane.connector.connect, asyncio.Event()

        async def slowly(*asked, **more):
            await reached.wait()
            return await reach(*asked, **more)

        house.plane.connector.connect = slowly
        client = await house.client()
        await client.send(b"x" * 5_000)
        await house.until(lambda: house.buffers.held_bytes >= 5_000)
        reached.set()
        assert await (await upstream.connection()).read_exactly(5_000) == b"x" * 5_000
        await house.until(lambda: house.buffers.held_bytes == 0)
        client.reset()


async def test_a_drain_waits_for_a_connection_and_cuts_it_at_its_deadline() -> None:
    """With a reset that both sides see."""
    async with (
        Upstream() as upstream,
        House(tcp(upstream), rules=SLOWLY, lifecycle={"drain_timeout": 0.4}) as house,
    ):
        client = await house.client()
        await client.send(b"one")
        application = await upstream.connection()
        assert await application.read_exactly(3) == b"one"
        house.sigterm()
        await application.send(b"two")
        assert await client.read_exactly(3) == b"two"
        assert len(house.inflight) == 1
        await client.read_until_close()
        await application.read_until_close()
        assert (client.end, application.end) == (End.RESET, End.RESET)
        await turns(5)
        assert not len(house.inflight)


async def test_a_connection_that_says_something_late_is_a_late_arrival() -> None:
    """One that says nothing is a probe, and tells nothing of where callers are sent."""
    async with Upstream() as upstream, House(tcp(upstream), rules=SLOWLY) as house:
        house.sigterm()
        await house.client()
        silent = await upstream.connection()
        client = await house.client()
        await client.send(b"x")
        speaking = await upstream.connection()
        await speaking.read_exactly(1)
        assert house.metrics.late_requests.value() == 1
        assert house.metrics.late_connections.value("request") == 1
        for application in (silent, speaking):
            application.reset()


async def test_a_client_that_leaves_while_the_application_is_reached_leaves_nothing() -> None:
    """No connection on either side, no work."""
    async with Upstream() as upstream, House(tcp(upstream)) as house:
        for _ in range(10):
            (await house.client()).reset()
        await asyncio.sleep(0.05)
        await house.until(lambda: not len(house.inflight) and not house.registry.clients)


def test_tls_is_not_taken_off_what_is_passed_on_unread() -> None:
    """It would be read."""
    with pytest.raises(ConfigError, match="write its `listen` without https"):
        config.load({}, {"listen": "https://:1", "upstream": "tcp://127.0.0.1:2"})


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_application_is_told_who_the_client_is(version: str) -> None:
    """Before anything else, said by the client or not; the header alone is no arrival."""
    async with (
        Upstream() as upstream,
        House(tcp(upstream), upstream_proxy_protocol=version, rules=SLOWLY) as house,
    ):
        house.sigterm()
        client = await house.client()
        port = client.wire.getsockname()[1]
        application = await upstream.connection()
        header = {
            "v1": b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (port, house.port),
            "v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\1\x7f\0\0\1"
            + struct.pack(">HH", port, house.port),
        }[version]
        assert await application.read_exactly(len(header)) == header
        assert house.metrics.late_requests.value() == 0
        await client.send(b"hello")
        assert await application.read_exactly(5) == b"hello"
        assert house.metrics.late_requests.value() == 1
        await application.send(b"220\r\n")
        assert await client.read_exactly(5) == b"220\r\n"
        application.reset()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"upstream": "http://127.0.0.1:2"}, "write tcp:// in `upstream`"),
        (
            {"upstream": "tcp://127.0.0.1:2", "proxy_protocol": "true", "trusted_proxies": "10.0.0.0/8"},
            "a second header",
        ),
    ],
)
def test_a_header_that_nobody_would_read_is_refused(settings, complaint) -> None:
    """Where no upstream is passed on unread, and where one comes already."""
    with pytest.raises(ConfigError, match=complaint):
        config.load({}, {"upstream_proxy_protocol": "v2", **settings})
