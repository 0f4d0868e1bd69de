"""Half a record of TLS is a request that has begun, like half a head in clear text: nobody closes on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy import certificates
from drainproxy.certificates import Certificates, Files
from drainproxy.proxy.preamble import Preamble
from drainproxy.proxy.wire.weights import RECORD_BYTES
from tests.support.house import House
from tests.support.upstream import Upstream, answering
from tests.support.wire import End

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.client import Client

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def preamble(authority):
    certificate, key = authority.issue()
    files = Files(certificate=str(certificate), key=str(key), authorities=str(authority.file))
    return Preamble(Certificates(files, certificates.for_clients))


@pytest.fixture
def ours(authority):
    return authority.trusted()


async def half_asked(house: House, client: Client, request: bytes = GET) -> bytes:
    """Send half a record with `request` in it, and wait until it was read; return the other half."""
    assert client.session is not None
    record = client.session.encrypt(request)
    await house.until(lambda: house.metrics.tls_handshakes.value("ok") == 1)
    (tls,) = (one.transport for one in house.registry.clients)
    await client._send(record[:20])
    await house.until(lambda: house.buffers.held_by(tls.incoming) == RECORD_BYTES)
    return record[20:]


def retire(house: House) -> None:
    assert not house.registry.retire_idle()


def grow_old(house: House) -> None:
    for client in house.registry.clients:
        client.grow_old()


def evict(house: House) -> None:
    assert not house.connection_limit._make_way(0.0)


@pytest.mark.parametrize("close_idle", [retire, grow_old, evict])
@pytest.mark.parametrize("asked", [True, False], ids=["kept", "new"])
async def test_who_has_sent_half_a_record_does_not_idle(
    preamble, ours, asked: bool, close_idle: Callable[[House], None]
) -> None:
    """Whatever closes idle connections leaves this one, and its request is answered."""
    async with Upstream(answering()) as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=ours)
        await client.shake_hands()
        if asked:
            assert (await client.ask(GET)).body == b"ok"
        rest = await half_asked(house, client)
        close_idle(house)
        await client._send(rest)
        assert (await client.final()).body == b"ok"


async def test_a_drain_waits_for_the_rest_of_a_record(preamble, ours) -> None:
    """And for the request in it."""
    async with Upstream(answering()) as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=ours)
        assert (await client.ask(GET)).body == b"ok"
        rest = await half_asked(house, client)
        (work,) = house.inflight
        assert work.describe() == {"method": "", "path": "(reading the head)"}
        house.sigterm()
        await house.until(lambda: house.controller.published.draining)
        assert not house.controller.drained
        await client._send(rest)
        answer = await client.final()
        assert (answer.body, answer.one(b"connection")) == (b"ok", b"close")
        await house.until(lambda: house.controller.drained)


async def test_a_record_that_does_not_end_is_a_408(preamble, ours) -> None:
    """It has the head's time, and a head that begins within it has no more."""
    async with (
        Upstream(answering()) as upstream,
        House(upstream, preamble=preamble, head_timeout=0.3) as house,
    ):
        client = await house.client(tls=ours)
        assert (await client.ask(GET)).body == b"ok"
        await half_asked(house, client)
        assert (await client.final()).status == 408
        assert await client.read_eof() is End.FIN


async def test_a_head_in_pieces_of_records_has_one_time(preamble, ours) -> None:
    async with Upstream(answering()) as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=ours)
        assert (await client.ask(GET)).body == b"ok"
        assert client.session is not None
        first, second = client.session.encrypt(GET[:9]), client.session.encrypt(GET[9:])
        (connection,) = house.registry.clients
        await client._send(first[:9])
        await house.until(lambda: len(house.inflight) == 1)
        (work,), by = house.inflight, connection.timer.when
        await client._send(first[9:] + second[:9])
        await house.until(lambda: connection._reader.begun)
        assert (list(house.inflight), connection.timer.when) == ([work], by)
        await client._send(second[9:])
        assert (await client.final()).body == b"ok"


async def test_a_record_that_asks_nothing_leaves_an_idle_connection(preamble, ours) -> None:
    """An empty line: it gives way again, though it never asked anything."""
    async with Upstream(answering()) as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=ours)
        await client.shake_hands()
        house.connection_limit._look()
        rest = await half_asked(house, client, b"\r\n")
        assert not house.connection_limit._make_way(0.0)
        await client._send(rest)
        await house.until(lambda: not len(house.inflight))
        assert house.connection_limit._make_way(0.0)
        assert await client.read_eof() is End.FIN
