"""Beyond the limit of connections the longest idle one gives way, and who works is left alone."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.acceptor import Acceptor
from drainproxy.proxy.http1.connection import ClientConnection
from drainproxy.proxy.limits.connection_limit import MAX_CHECKS
from drainproxy.proxy.wire import sockets
from drainproxy.proxy.wire.listening_socket import BACKLOG
from tests.support.house import House
from tests.support.upstream import Upstream, answering
from tests.support.wire import End
from tests.support.words import GET, OK, get

if TYPE_CHECKING:
    from tests.support.client import Client
    from tests.support.message import Message
    from tests.support.upstream import Connection

LIMIT = 3


async def idle_clients(house: House, count: int) -> list[Client]:
    """Connect, ask once each, and idle: the first is the longest idle."""
    clients = []
    for _ in range(count):
        clients.append(await house.client())
        assert (await clients[-1].ask(GET)).body == b"ok"
    return clients


async def busy_clients(house: House, upstream: Upstream, count: int) -> list[tuple[Client, Connection]]:
    """Connect and ask; the application holds each request."""
    pairs = []
    for _ in range(count):
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        pairs.append((client, application))
    return pairs


def assert_refused(answer: Message, reason: bytes = b"too-many-connections") -> None:
    """The client is told to come again, on another connection."""
    assert (answer.status, answer.one(b"retry-after"), answer.one(b"connection")) == (503, b"1", b"close")
    assert answer.body == b"503 Service Unavailable: " + reason + b"\n"


async def test_the_longest_idle_connection_gives_way() -> None:
    """With a FIN and no byte; whoever was used since stays."""
    async with Upstream(answering()) as upstream, House(upstream, max_connections=LIMIT) as house:
        first, second, third = await idle_clients(house, LIMIT)
        await first.ask(GET)
        newcomer = await house.client()
        assert await second.read_eof() is End.FIN
        second.close()
        assert (await newcomer.ask(GET)).body == b"ok"
        assert house.metrics.client_connections_evicted.value() == 1
        # The order is kept from now on.
        await third.ask(GET)
        await first.ask(GET)
        another = await house.client()
        assert await newcomer.read_eof() is End.FIN
        for client in (third, first, another):
            assert (await client.ask(GET)).body == b"ok"
        assert house.metrics.client_connections_limit.value() == LIMIT
        assert house.metrics.refused.value("too-many-connections") == 0


async def test_at_the_limit_nobody_gives_way() -> None:
    """One fewer than one too many."""
    async with Upstream(answering()) as upstream, House(upstream, max_connections=LIMIT) as house:
        for client in await idle_clients(house, LIMIT):
            assert (await client.ask(GET)).body == b"ok"
        assert house.metrics.client_connections_evicted.value() == 0


async def test_where_nobody_is_idle_a_newcomer_gets_503() -> None:
    """Work under way goes on; once one of them idles, the next newcomer is served."""
    async with Upstream() as upstream, House(upstream, max_connections=LIMIT) as house:
        busy = await busy_clients(house, upstream, LIMIT)
        newcomer = await house.client()
        assert_refused(await newcomer.ask(GET))
        assert await newcomer.read_eof() is End.FIN
        newcomer.close()
        assert upstream.accepted == LIMIT
        assert house.metrics.refused.value("too-many-connections") == 1
        client, application = busy[0]
        await application.send(OK)
        assert (await client.final()).body == b"ok"
        later = await house.client()
        await later.send(GET)
        await application.read_request()
        assert await client.read_eof() is End.FIN
        for _, application in busy:
            await application.send(OK)
        assert (await later.final()).body == b"ok"
        for client, _ in busy[1:]:
            assert (await client.final()).body == b"ok"


async def test_who_speaks_wins_over_who_is_silent() -> None:
    """A connection that never asked anything keeps its place only until somebody asks."""
    async with Upstream(answering()) as upstream, House(upstream, max_connections=LIMIT) as house:
        silent = [await house.client() for _ in range(LIMIT)]
        newcomer = await house.client()
        await house.until(lambda: len(house.registry.clients) == LIMIT + 1)
        assert house.metrics.client_connections_evicted.value() == 0
        assert (await newcomer.ask(GET)).body == b"ok"
        assert await silent[0].read_eof() is End.FIN
        assert (await silent[1].ask(GET)).body == b"ok"


async def test_a_connection_with_a_request_on_its_way_does_not_give_way() -> None:
    """It lies in the socket, and the loop has not been told."""
    async with Upstream(answering()) as upstream, House(upstream, max_connections=2) as house:
        first, second = await idle_clients(house, 2)
        idle = next(
            one
            for one in house.registry.clients
            if one.transport.get_extra_info("peername")[1] == first.wire.getsockname()[1]
        )
        idle.transport.pause_reading()
        await first.send(GET)
        await house.client()
        assert await second.read_eof() is End.FIN
        idle.transport.resume_reading()
        assert (await first.final()).body == b"ok"


async def test_a_slow_head_is_no_idle_connection() -> None:
    """Half a head is work that has begun."""
    async with Upstream(answering()) as upstream, House(upstream, max_connections=1) as house:
        client = await house.client()
        await client.ask(GET)
        await client.send(GET[:10])
        await house.until(lambda: len(house.inflight) == 1)
        assert_refused(await house.ask(GET))
        await client.send(GET[10:])
        assert (await client.final()).body == b"ok"


async def test_newcomers_that_say_nothing_are_refused_unasked_once_there_are_many() -> None:
    """Those who wait to be refused are bounded, too, and so are those who do not go then."""
    async with Upstream() as upstream, House(upstream, max_connections=8, linger_s=60) as house:
        busy = await busy_clients(house, upstream, 8)
        crowd = [await house.client() for _ in range(20)]
        await house.until(lambda: house.metrics.refused.value("too-many-connections") == 20 - 4)
        await house.until(lambda: len(house.registry.clients) == 8 + 4 + 4)
        for client in crowd[12:16]:
            assert_refused(await client.final())
        assert_refused(await crowd[16].ask(GET))
        for client in crowd:
            client.close()
        for client, application in busy:
            await application.send(OK)
            assert (await client.final()).body == b"ok"


async def test_a_newcomer_that_was_answered_already_is_not_refused_as_well() -> None:
    """One that did not finish its head in time is on its way out when its turn to be refused comes."""
    limits = {"max_connections": 8, "head_timeout": 0.05, "linger_s": 60}
    async with Upstream() as upstream, House(upstream, **limits) as house:
        busy = await busy_clients(house, upstream, 8)
        slow = await house.client()
        await slow.send(b"GET / HT")
        assert (await slow.final()).status == 408
        crowd = [await house.client() for _ in range(5)]
        await house.until(lambda: len(house.registry.clients) == 8 + 1 + 5)
        for client, application in busy:
            await application.send(OK)
            assert (await client.final()).body == b"ok"
        assert await slow.read_eof() is End.FIN
        for client in crowd:
            client.close()


async def test_connections_that_do_not_go_are_not_waited_for() -> None:
    """An idle client that was told to go and stays connected holds nothing for long."""
    async with Upstream(answering()) as upstream, House(upstream, max_connections=8, linger_s=60) as house:
        clients = await idle_clients(house, 30)
        await house.until(lambda: len(house.registry.clients) <= 8 + 4)
        for client in clients[-8:]:
            assert (await client.ask(GET)).body == b"ok"


async def test_the_order_is_forgotten_once_there_is_room() -> None:
    """What nobody needs costs nothing."""
    async with Upstream(answering()) as upstream, House(upstream, max_connections=4) as house:
        assert house.connection_limit.idle is None
        clients = await idle_clients(house, 2)
        assert house.connection_limit.idle is None
        clients += await idle_clients(house, 3)
        assert house.connection_limit.idle is not None
        for client in clients[:4]:
            client.close()
        await house.until(lambda: house.connection_limit.idle is None)
        assert (await clients[4].ask(GET)).body == b"ok"


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
async def test_one_address_gets_so_many_connections(again: bool) -> None:
    """`max_connections_per_ip`: the next is refused before it asks, and served once there are fewer."""
    async with (
        Upstream(answering()) as upstream,
        House(upstream, max_connections_per_ip=2, max_connections=20) as house,
    ):
        for _ in range(2 if again else 1):
            clients = await idle_clients(house, 2)
            newcomer = await house.client()
            assert_refused(await newcomer.final(), b"too-many-per-client")
            assert await newcomer.read_eof() is End.FIN
            newcomer.close()
            clients[0].close()
            await house.until(lambda: len(house.registry.clients) == 1)
            assert (await house.ask(GET)).body == b"ok"
            clients[1].close()
            await house.until(lambda: not house.registry.clients)
        assert not house.connection_limit._by_ip
        assert house.metrics.refused.value("too-many-per-client") == (2 if again else 1)


async def test_a_connection_to_the_application_is_worth_more_than_an_idle_client() -> None:
    """Where descriptors are scarce, an idle client gives way to a request."""
    async with Upstream() as upstream, House(upstream, descriptors=12) as house:
        assert house.capacity.max_connections == 4
        ((client, application),) = await busy_clients(house, upstream, 1)
        await application.send(OK.replace(b"200 OK\r\n", b"200 OK\r\nConnection: close\r\n"))
        await client.final()
        silent = [await house.client() for _ in range(3)]
        await house.until(lambda: len(house.registry.clients) == 4)
        for one in silent:
            await one.send(get("/held"))
        held = [await upstream.connection() for _ in silent]
        assert await client.read_eof() is End.FIN
        for connection in held:
            await connection.read_request()
            await connection.send(OK)
        assert [(await one.final()).body for one in silent] == [b"ok"] * 3


async def test_newcomers_at_a_full_house_cost_no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is looked at once, when the limit is first reached, and then only who has to go."""
    looked = 0
    idle = ClientConnection.idle

    def counted(client: ClientConnection) -> bool:
        nonlocal looked
        looked += 1
        return idle.__get__(client)

    monkeypatch.setattr(ClientConnection, "idle", property(counted))
    async with Upstream(answering()) as upstream, House(upstream, max_connections=300) as house:
        await idle_clients(house, 150)
        assert looked == 0
        await idle_clients(house, 150)
        for client in await idle_clients(house, 200):
            client.close()
        assert house.metrics.client_connections_evicted.value() == 200
        assert looked <= 300 + 200 * 4


async def test_a_health_check_gets_in_where_every_place_is_taken_by_work() -> None:
    """A pod that is full is not dead: who asks how it is gets an answer, on a connection for it alone."""
    check = get("/", "User-Agent: kube-probe/1.36")
    async with (
        Upstream() as upstream,
        House(upstream, max_connections=LIMIT, health_paths=("/healthz",)) as house,
    ):
        await busy_clients(house, upstream, LIMIT)
        application = None
        for request in (check, get("/healthz")):
            kubelet = await house.client()
            await kubelet.send(request)
            application = application or await upstream.connection()
            await application.read_request()
            await application.send(OK)
            answer = await kubelet.final()
            assert (answer.status, answer.one(b"connection")) == (200, b"close")
            assert await kubelet.read_eof() is End.FIN
        assert_refused(await (await house.client()).ask(GET))
        assert house.refused() == {"too-many-connections": 1}


@pytest.mark.parametrize(("count", "says"), [(40, b""), (12, GET)], ids=["silent", "asking"])
async def test_a_health_check_that_comes_before_a_crowd_is_read_before_anybody_is_refused(
    count: int, says: bytes
) -> None:
    """A loop that is late accepts all of them at once. It was the first one who was told 503, unread."""
    async with Upstream() as upstream, House(upstream, max_connections=8) as house:
        await busy_clients(house, upstream, 8)
        wires = []
        for words in (get("/", "User-Agent: kube-probe/1.36"), *[says] * count):
            wires.append(socket.create_connection(("127.0.0.1", house.port)))
            wires[-1].sendall(words)
        application = await upstream.connection()
        await application.read_request()
        await application.send(OK)
        wires[0].setblocking(False)
        assert (await house.loop.sock_recv(wires[0], 100)).startswith(b"HTTP/1.1 200 ")
        # While it was not read it was one of four who are waited for.
        expected = {count} if says else {count - 4, count - 3}
        await house.until(lambda: sum(house.refused().values()) in expected)
        for wire in wires:
            wire.close()


async def test_what_would_become_a_tunnel_is_no_health_check() -> None:
    """It would stay, in a place that is nobody's; and what was agreed to was left behind for good."""
    asked = get("/", "User-Agent: kube-probe/1.36", "Connection: Upgrade", "Upgrade: chat")
    async with Upstream() as upstream, House(upstream, max_connections=LIMIT) as house:
        await busy_clients(house, upstream, LIMIT)
        client = await house.client()
        await client.send(asked)
        assert_refused(await client.final())
        assert house.pool.open_count == len(house.inflight) == LIMIT


async def test_so_many_health_checks_get_in_and_no_more() -> None:
    """Anybody can say that it is one."""
    check = get("/", "User-Agent: kube-probe/1.36")
    async with Upstream() as upstream, House(upstream, max_connections=MAX_CHECKS) as house:
        await busy_clients(house, upstream, MAX_CHECKS)
        held = []
        for _ in range(MAX_CHECKS):
            held.append(await house.client())
            await held[-1].send(check)
            await (await upstream.connection()).read_request()
        assert_refused(await house.ask(check))
        held[0].reset()
        await house.until(lambda: len(house.connection_limit._checks) == MAX_CHECKS - 1)
        again = await house.client()
        await again.send(check)
        await (await upstream.connection()).read_request()


async def test_somebody_hears_that_most_places_are_taken() -> None:
    """Before anybody is turned away; once, until it is over."""
    told = []
    async with Upstream(answering()) as upstream, House(upstream, max_connections=10) as house:
        house.connection_limit.on_crowd = lambda taken, most: told.append(
            (house.connection_limit.crowded, taken, most)
        )
        clients = await idle_clients(house, 8)
        assert not told
        clients += await idle_clients(house, 2)
        assert told == [(True, 9, 10)]
        assert house.metrics.client_connections_crowded.value() == 1
        for client in clients[:4]:
            client.close()
        await house.until(lambda: len(told) == 2)
        assert told[1] == (False, 6, 10)
        assert house.metrics.client_connections_crowded.value() == 0


@pytest.mark.parametrize(
    ("descriptors", "scarce"), [(2 * 100 + 1024 + 512, False), (2 * 100 + 1024 + 511, True)]
)
async def test_a_turn_of_callers_that_could_take_the_last_descriptors_is_accepted_in_parts(
    descriptors: int, *, scarce: bool
) -> None:
    """Each listener may bring a whole backlog, beside all who have a place and their connections."""
    async with Upstream() as upstream, House(upstream, max_connections=100, descriptors=descriptors) as house:
        assert isinstance(house.listener._accepting, Acceptor) is scarce
        house.connection_limit._pools = [house.pool, house.pool]
        assert house.connection_limit.overrun_by(BACKLOG)


class Gone(asyncio.BaseTransport):
    """One whose socket is closed, and whose protocol has not heard of it."""

    def get_extra_info(self, name: str, default: object = None) -> socket.socket:
        """See asyncio.BaseTransport."""
        wire = socket.socket()
        wire.close()
        return wire


def test_of_a_connection_that_has_gone_unheard_there_is_nothing_to_read() -> None:
    """Who looks for one that idles meets it, and a poll knows no descriptor of -1."""
    assert not sockets.has_bytes(Gone())
    assert sockets.hung_up(Gone(), half=False)
