"""Too much held in all: every connection reads little at a time, nothing is cut, and who is taken goes on."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from drainproxy import certificates
from drainproxy.certificates import Certificates, Files
from drainproxy.proxy.preamble import Preamble
from drainproxy.proxy.upstream.tls import UpstreamTls
from drainproxy.proxy.wire import buffers
from drainproxy.proxy.wire.buffers import KERNEL_BYTES, SMALL_BYTES
from drainproxy.proxy.wire.endpoint import SmallReads
from drainproxy.proxy.wire.sockets import RECEIVE_BYTES, TCP_NOTSENT_LOWAT, UNSENT_BYTES
from drainproxy.proxy.wire.write_batch import WriteBatch
from tests.support.authority import Authority
from tests.support.house import House
from tests.support.upstream import Upstream, answering
from tests.support.words import GET, get, ok, post

if TYPE_CHECKING:
    from pathlib import Path

    from drainproxy.proxy.downstream.client import ClientSocket
    from drainproxy.proxy.wire.buffers import Buffers
    from tests.support.client import Client
    from tests.support.upstream import Connection

LIMIT = KERNEL_BYTES + 200 * 1024
"""One stream that stalls is not too much, two are."""
MEGABYTE = bytes(range(256)) * 4096


async def stalled(house: House, upstream: Upstream) -> tuple[Client, Connection]:
    """A client that takes nothing of a long answer."""
    client = await house.client(receive_buffer=4096)
    await client.send(GET)
    application = await upstream.connection()
    await application.read_request()
    await application.send(ok(b"x" * 50_000_000)[:200])
    await application.send_until_stuck(b"x" * 100_000, 40_000_000)
    return client, application


def side_of(house: House, client: Client) -> ClientSocket:
    """The proxy's side of a client's connection."""
    name = client.wire.getsockname()
    return next(one for one in house.registry.clients if one.transport.get_extra_info("peername") == name)


async def test_a_stream_that_stalls_is_accounted_for_until_it_moves_or_ends() -> None:
    """With what the kernel holds of it."""
    async with Upstream() as upstream, House(upstream, send_buffer=4096) as house:
        client, application = await stalled(house, upstream)
        assert KERNEL_BYTES < house.buffers.held_bytes <= KERNEL_BYTES + 256 * 1024
        assert house.buffers.max_bytes == 256 * 1024 * 1024
        await client.read_to(b"x" * 1000)
        reading = asyncio.ensure_future(client.read_until_close())
        await house.until(lambda: house.buffers.held_bytes == 0)
        application.reset()
        await reading
        other, _ = await stalled(house, upstream)
        assert house.buffers.held_bytes > 0
        other.reset()
        await house.until(lambda: house.buffers.held_bytes == 0)
        assert not house.buffers.tight


async def test_too_much_held_makes_every_connection_read_little() -> None:
    """Those that stand, those that idle, and those that come."""
    async with Upstream() as upstream, House(upstream, send_buffer=4096, max_buffer_bytes=LIMIT) as house:
        idle = await house.client()
        await idle.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(ok(b"ok", "Connection: close"))
        await idle.final()
        first, _ = await stalled(house, upstream)
        assert not house.buffers.tight
        second, _ = await stalled(house, upstream)
        assert house.buffers.tight
        before = house.buffers.held_bytes
        third, _ = await stalled(house, upstream)
        transport = side_of(house, third).transport
        assert transport.get_write_buffer_size() <= 2 * SMALL_BYTES
        assert house.buffers.held_bytes - before <= KERNEL_BYTES + 2 * SMALL_BYTES
        assert isinstance(side_of(house, idle).transport.get_protocol(), SmallReads)
        wire = transport.get_extra_info("socket")
        assert wire.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT) == SMALL_BYTES
        await first.read_to(b"x" * 1000)
        for client in (first, second, third):
            client.reset()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_while_too_much_is_held_streams_that_are_taken_go_on(tmp_path: Path, tls: bool) -> None:
    """Downloads, uploads and tiny requests: every byte, in order."""

    async def echo(connection: Connection) -> None:
        while (request := await connection.read_request()).start:
            await connection.send(ok(request.body or MEGABYTE))

    doors: dict[str, object] = {}
    trust = theirs = None
    if tls:
        authority = Authority(tmp_path)
        certificate, key = map(str, authority.issue())
        own, trusted = Files(certificate=certificate, key=key), Files(authorities=str(authority.file))
        trust, theirs = certificates.for_upstream(trusted), certificates.for_clients(own)
        doors["preamble"] = Preamble(Certificates(own, certificates.for_clients))
        doors["upstream_tls"] = UpstreamTls(Certificates(trusted, certificates.for_upstream), "localhost")
    async with Upstream(echo, tls=theirs) as upstream, House(upstream, max_buffer_bytes=1, **doors) as house:
        old = await house.client(tls=trust)
        assert (await old.ask(post(b"x"))).body == b"x"
        house.buffers.hold("somebody", 2)
        assert house.buffers.tight
        for client in (old, await house.client(tls=trust)):
            for _ in range(2):
                assert (await client.ask(GET)).body == MEGABYTE
                sending = asyncio.ensure_future(client.send(post(MEGABYTE)))
                assert (await client.final()).body == MEGABYTE
                await sending
                assert (await client.ask(post(b"x"))).body == b"x"
        house.buffers.free("somebody")


async def test_while_too_much_is_held_tunnels_go_on() -> None:
    """Those that stand, and those that come."""
    ask = get("/", "Connection: Upgrade", "Upgrade: chat")
    agree = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
    async with Upstream() as upstream, House(upstream, max_buffer_bytes=1) as house:
        pairs = []
        for _ in range(2):
            client = await house.client()
            await client.send(ask)
            application = await upstream.connection()
            await application.read_request()
            await application.send(agree)
            await client.read_head()
            pairs.append((client, application))
            house.buffers.hold("somebody", 2)
        for client, application in pairs:
            for one, other in ((client, application), (application, client)):
                sending = asyncio.ensure_future(one.send(MEGABYTE))
                assert await other.read_exactly(len(MEGABYTE)) == MEGABYTE
                await sending
            client.reset()
            await application.read_until_close()
        house.buffers.free("somebody")


async def test_connections_are_as_before_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once: what comes and goes would turn everything over again and again."""
    monkeypatch.setattr(buffers, "RELAX_S", 0.05)
    async with Upstream(answering(ok(MEGABYTE))) as upstream, House(upstream, max_buffer_bytes=10) as house:
        changes = []
        house.buffers.on_change = lambda: changes.append(house.buffers.tight)
        client = await house.client()
        await client.ask(GET)
        house.buffers.hold("somebody", 11)
        house.buffers.hold("somebody", 9)
        await asyncio.sleep(0.2)
        assert house.buffers.tight, "more than half is still held"
        assert (await client.ask(GET)).body == MEGABYTE
        house.buffers.hold("somebody", 5)
        await house.until(lambda: not house.buffers.tight)
        side = side_of(house, client)
        await house.until(lambda: side.transport.get_protocol() is side)
        wire = side.transport.get_extra_info("socket")
        assert wire.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT) == UNSENT_BYTES
        assert (await client.ask(GET)).body == MEGABYTE
        house.buffers.free("somebody")
        assert changes[0] is True
        assert changes[-1] is False


async def test_uploads_that_stall_are_accounted_for() -> None:
    """The application takes nothing; the client is held back."""
    async with Upstream(receive_buffer=4096) as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(post(b"x" * 50_000_000)[:200])
        application = await upstream.connection()
        await application.read_head()
        await client.send_until_stuck(b"x" * 100_000, 40_000_000)
        assert KERNEL_BYTES < house.buffers.held_bytes <= KERNEL_BYTES + 512 * 1024
        application.reset()
        client.reset()
        await house.until(lambda: house.buffers.held_bytes == 0)


async def test_what_is_pipelined_is_accounted_for_and_less_of_it_is_read_when_it_is_tight() -> None:
    """It waits here for its turn, or else in the socket."""
    async with Upstream() as upstream, House(upstream, max_buffer_bytes=40_000) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        client.wire.send(GET * 1000)
        await house.until(lambda: house.buffers.held_bytes == len(GET) * 1000)
        assert not house.buffers.tight
        other = await house.client()
        await other.send(GET)
        await (await upstream.connection()).read_request()
        await other.send_until_stuck(GET * 1000, 30_000_000)
        assert house.buffers.tight
        assert len(side_of(house, other)._ahead) <= 40_000 + 256 * 1024
        third = await house.client()
        await third.send(GET)
        await (await upstream.connection()).read_request()
        await third.send_until_stuck(GET * 1000, 30_000_000)
        assert len(side_of(house, third)._ahead) <= 2 * SMALL_BYTES
        for one in (client, other, third):
            one.reset()
        await house.until(lambda: house.buffers.held_bytes == 0)
        await upstream.close()


async def test_a_large_head_that_does_not_end_is_refused_while_too_much_is_held() -> None:
    """A small one is waited for; and a large one is accounted for when there is room."""
    large = get("/", *(f"X-{number}: {'y' * 1000}" for number in range(8)))
    async with Upstream(answering()) as upstream, House(upstream, max_buffer_bytes=20_000) as house:
        client, small = await house.client(), await house.client()
        await client.send(large[:-10])
        # Its bytes, its fields once more, and what reads it.
        await house.until(lambda: 2 * len(large) < house.buffers.held_bytes < 3 * len(large))
        await small.send(GET[:-10])
        house.buffers.hold("somebody", 20_000)
        await client.send(large[-10:-9])
        answer = await client.final()
        assert (answer.status, answer.one(b"connection")) == (503, b"close")
        assert answer.body == b"503 Service Unavailable: out-of-buffers\n"
        await small.send(GET[-10:])
        assert (await small.final()).body == b"ok"
        house.buffers.free("somebody")
        assert house.buffers.held_bytes == 0
        assert house.refused() == {"out-of-buffers": 1}


async def test_one_stream_holds_less_than_half_a_mebibyte_with_what_the_kernel_holds() -> None:
    """Without any limit in the way."""
    async with Upstream() as upstream, House(upstream) as house:
        client, _ = await stalled(house, upstream)
        transport = side_of(house, client).transport
        assert transport.get_write_buffer_size() + KERNEL_BYTES < 512 * 1024
        wire = next(iter(house.pool._open)).transport.get_extra_info("socket")
        # The kernel doubles what it is told, for its own books (socket(7)).
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * RECEIVE_BYTES
        client.reset()


class Stuck(asyncio.Transport):
    """One that has sent all but `waiting` bytes."""

    waiting = 0

    def get_write_buffer_size(self) -> int:
        """See asyncio.WriteTransport."""
        return self.waiting


class Slow(Stuck):
    """Takes what is written to it, and has sent all but `waiting` bytes of it."""

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return False

    def write(self, data: bytes) -> None:
        """See asyncio.WriteTransport."""


class Side:
    """Either side of a stream, which counts when it was told."""

    def __init__(self, told: list[int]) -> None:
        self.transport = Stuck()
        self._told = told

    def fit(self) -> None:
        """See Fitting."""
        self._told[-1] += 1


async def test_pieces_that_a_transport_keeps_count_in_full_until_all_of_them_has_gone() -> None:
    """A part of one waits, and the next one behind it: both are here."""
    async with Upstream() as upstream, House(upstream) as house:
        account, transport = house.buffers, Stuck()
        account.hold_piece(transport, 90_000)
        assert account.held_bytes == 0
        transport.waiting = 10
        account.hold_piece(transport, 90_000)
        assert account.held_bytes == 90_000
        transport.waiting = 70_010
        account.hold_piece(transport, 70_000)
        assert account.held_bytes == 160_000
        transport.waiting = 60_000
        account.hold_piece(transport, 60_000)
        assert account.held_bytes == 60_000
        transport.waiting = 0
        account.free_stream(transport)
        assert account.held_bytes == 0


async def test_a_small_piece_behind_a_large_one_that_waits_counts_beside_all_of_it() -> None:
    """It was put off to the end of the turn; the large one is kept for the few bytes that are left of it."""
    loop, transport = asyncio.get_running_loop(), Slow()
    batch = WriteBatch(loop, lambda _, defect: pytest.fail(str(defect)))
    account = buffers.Buffers(1 << 30, batch, loop)
    if not account.keeps_pieces:
        pytest.skip("this loop's transports copy what they keep")
    transport.waiting = 10
    batch.write(transport, bytes(90_000))
    transport.waiting += 50_000
    batch.write(transport, bytes(50_000))
    assert account.held_by(transport) == 90_000
    batch.flush()
    assert account.held_by(transport) == 90_000 + 50_000
    transport.waiting = 50_000
    account.hold_stream(transport)
    assert account.held_by(transport) == 50_000 + KERNEL_BYTES


async def test_a_piece_that_has_gone_counts_no_more_while_the_next_one_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody says so: the transport has said that it has too much, and still has."""
    monkeypatch.setattr(buffers, "LOOK_S", 0.01)
    async with Upstream() as upstream, House(upstream) as house:
        account, side = house.buffers, Side([0])
        account.sides.append([side])
        side.transport.waiting = 10
        account.hold_piece(side.transport, 90_000)
        side.transport.waiting = 90_010
        account.hold_stream(side.transport)
        account.hold_piece(side.transport, 90_000)
        assert account.held_bytes == 180_000 + KERNEL_BYTES
        account.hold("somebody", buffers.WORTH_LOOKING_BYTES)
        account.free("somebody")
        side.transport.waiting = 50_000
        await house.until(lambda: account.held_bytes == 90_000 + KERNEL_BYTES)
        account.sides.pop()


async def test_what_is_left_when_a_stream_goes_on_counts_until_it_has_gone() -> None:
    """A transport says that it takes more while some of it waits, and no word when that has gone."""
    async with Upstream() as upstream, House(upstream) as house:
        account, side = house.buffers, Side([0])
        account.sides.append([side])
        side.transport.waiting = 90_000
        account.hold_stream(side.transport)
        side.transport.waiting = 10_000
        account.free_stream(side.transport)
        side.transport.waiting = 0
        await house.until(lambda: account.held_bytes == 0)
        account.sides.pop()


async def test_ten_thousand_connections_hear_in_their_turn_that_too_much_is_held() -> None:
    """To tell all of them at once takes a fifth of a second, and nobody else is served meanwhile."""
    async with Upstream() as upstream, House(upstream) as house:
        told = [0]
        sides = [Side(told) for _ in range(10_000)]
        house.buffers.sides.append(sides)
        house.buffers._switch(tight=True)
        assert told == [0]
        while sum(told) < len(sides):
            told.append(0)
            await asyncio.sleep(0)
        assert max(told) <= buffers.FITTED_A_TURN
        house.buffers._switch(tight=False)
        await asyncio.sleep(0)
        house.buffers._switch(tight=True)
        house.buffers.sides.remove(sides)
        await house.until(lambda: not house.buffers._to_fit)
        assert 2 * len(sides) <= sum(told) <= 2 * len(sides) + buffers.FITTED_A_TURN


class Stubborn:
    """One who has begun, and whose refusal fails the first time."""

    def __init__(self, account: Buffers) -> None:
        self._account = account
        self.told = 0

    def size(self, held: Buffers) -> int:
        """See Begun."""
        return held.held_by(self)

    def shed(self) -> None:
        """See Begun."""
        self.told += 1
        if self.told == 1:
            raise AssertionError("a defect")
        self._account.free(self)


async def test_a_refusal_that_fails_keeps_nobody_from_giving_way_later() -> None:
    """It is the loop's to tell of; what gives way is looked for again."""
    async with Upstream() as upstream, House(upstream) as house:
        account = house.buffers
        stubborn = Stubborn(account)
        account.begun[stubborn] = None
        account.hold(stubborn, account.max_bytes + 1)
        await house.until(lambda: stubborn.told == 1)
        await house.until(lambda: not account._shedding)
        account.hold("somebody", 1)
        await house.until(lambda: stubborn.told == 2 and not account.held_by(stubborn))
        account.begun.pop(stubborn)
        account.free("somebody")
        assert "a defect" in str(house.unseen.pop()["exception"])
