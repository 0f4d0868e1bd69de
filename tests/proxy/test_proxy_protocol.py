"""Connections that begin with a PROXY header, and those that should have."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy import certificates
from drainproxy.certificates import Certificates, Files
from drainproxy.proxy.message.filters import RequestFilters
from drainproxy.proxy.message.forwarding import Forwarding
from drainproxy.proxy.message.trust import Trust
from drainproxy.proxy.preamble import Preamble
from tests.proxy.test_proxy_header import BAD, GOOD
from tests.support.authority import Authority
from tests.support.house import House
from tests.support.session import Session
from tests.support.upstream import OK, Upstream, answering
from tests.support.wire import End

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
CLIENT = GOOD["v1 TCP4"][0]
HERE = Trust(("127.0.0.0/8",))


@pytest.fixture
def preamble():
    return Preamble(None, HERE)


async def asked(upstream: Upstream) -> bytes | None:
    """Answer the next request; return whose it was said to be."""
    connection = await upstream.connection()
    request = await connection.read_request()
    await connection.send(OK)
    return request.one(b"x-forwarded-for")


@pytest.mark.parametrize(("raw", "source"), GOOD.values(), ids=GOOD)
async def test_the_client_is_whom_the_header_names(preamble, raw, source):
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client()
        await client.send(raw + GET)
        assert await asked(upstream) == (source or b"127.0.0.1")
        assert (await client.final()).body == b"ok"
        assert house.access[0]["client"] == (source or b"127.0.0.1").decode()


@pytest.mark.parametrize("raw", [CLIENT, GOOD["v2 with TLVs"][0]])
async def test_a_header_may_come_byte_by_byte_and_apart_from_the_request(preamble, raw):
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client()
        await client.send_bytewise(raw)
        await house.until(lambda: not len(house.inflight), "it is still on its way in")
        await client.send(GET)
        assert await asked(upstream) == b"203.0.113.7"
        assert (await client.final()).body == b"ok"
        await client.send(GET)
        assert await upstream.connections[0].read_head()
        await upstream.connections[0].send(OK)
        assert (await client.final()).body == b"ok"


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
async def test_what_does_not_begin_with_one_is_hung_up_on(preamble, raw):
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client()
        await client.send(raw + GET)
        assert await client.read_until_close() == b""
        await house.until(lambda: house.metrics.refused.value("proxy-header-refused") == 1, "not counted")
        (line,) = house.diary.of("turned_away")
        assert (line["reason"], line["client"]) == ("proxy-header-refused", "127.0.0.1")
        assert upstream.accepted == 0


async def test_nobody_else_is_believed():
    async with (
        Upstream() as upstream,
        House(upstream, preamble=Preamble(None, Trust(("10.0.0.0/8",)))) as house,
    ):
        client = await house.client()
        assert await client.read_until_close() == b""
        await house.until(lambda: house.metrics.refused.value("proxy-header-refused") == 1, "not counted")
        assert house.diary.of("turned_away")[0]["detail"] == "not from a trusted proxy"
        assert house.metrics.client_connections_accepted.value() == 0


async def test_half_a_header_is_waited_for_no_longer_than_a_head(preamble):
    async with Upstream() as upstream, House(upstream, preamble=preamble, head_timeout=0.2) as house:
        client = await house.client()
        await client.send(CLIENT[:20])
        assert await client.read_until_close() == b""
        await house.until(lambda: house.metrics.refused.value("proxy-header-refused") == 1, "not counted")


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_who_only_looks_whether_the_port_is_open_is_not_refused(preamble, leave):
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client()
        await house.until(lambda: len(house.registry.clients) == 1)
        getattr(client, leave)()
        await house.until(lambda: not house.registry.clients)
        assert house.metrics.refused.value("proxy-header-refused") == 0


@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "a segment each"])
async def test_where_there_is_no_room_a_whole_header_is_read_and_what_follows_is_answered(preamble, apart):
    """A health check got a reset, as half a header still does, and a caller no word."""
    async with Upstream(answering()) as upstream, House(upstream, preamble=preamble) as house:
        before, house.buffers.room_bytes = house.buffers.room_bytes, 1
        house.buffers.weigh()
        for agent, status in ((b"kube-probe/1.36", 200), (b"person", 503)):
            client = await house.client()
            asked = GET[:-2] + b"User-Agent: " + agent + b"\r\n\r\n"
            await client.send(CLIENT if apart else CLIENT + asked)
            if apart:
                await house.until(lambda: any(one.peer == b"203.0.113.7" for one in house.registry.clients))
                await client.send(asked)
            answer = await client.final()
            assert answer.status == status
            assert status == 200 or answer.one(b"connection") == b"close"
            client.close()
            await house.until(lambda: not house.registry.clients)
        half = await house.client()
        await half.send(CLIENT[:20])
        assert await half.read_until_close() == b""
        await house.until(lambda: house.metrics.refused.value("out-of-buffers") == 2)
        house.buffers.room_bytes = before


async def test_the_limit_for_each_client_is_for_whom_the_header_names(preamble):
    """All of them come from one balancer."""
    async with (
        Upstream(answering()) as upstream,
        House(upstream, preamble=preamble, max_connections_per_ip=2) as house,
    ):
        clients = [await house.client() for _ in range(5)]
        for number, client in enumerate(clients):
            source = b"203.0.113.%d" % (number // 3)
            await client.send(CLIENT.replace(b"203.0.113.7", source) + GET)
        statuses = [(await client.final()).status for client in clients]
        assert statuses == [200, 200, 503, 200, 200]
        assert house.metrics.refused.value("too-many-per-client") == 1
        clients[0].close()
        await house.until(lambda: len(house.registry.clients) == 3)
        again = await house.client()
        await again.send(CLIENT.replace(b"203.0.113.7", b"203.0.113.0") + GET)
        assert (await again.final()).status == 200


async def test_trust_goes_on_from_the_client_that_the_header_names(preamble):
    """A CDN before the balancer is believed if it is trusted too."""
    trust = Trust(("203.0.113.0/24",))
    speaker = RequestFilters(trust, [Forwarding("append", trust, lambda: b"id")])
    async with Upstream() as upstream, House(upstream, preamble=preamble, filters=speaker) as house:
        client = await house.client()
        await client.send(CLIENT + b"GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
        connection = await upstream.connection()
        request = await connection.read_request()
        assert request.one(b"x-forwarded-for") == b"9.9.9.9, 203.0.113.7"
        assert request.one(b"x-real-ip") == b"9.9.9.9"
        await connection.send(OK)
        await client.final()


async def test_tls_comes_after_it(tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue()
    files = Files(certificate=str(certificate), key=str(key))
    preamble = Preamble(Certificates(files, certificates.for_clients), HERE)
    ours = authority.trusted()
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        for apart in (True, False):
            client = await house.client()
            if apart:
                await client.send(CLIENT)
            session = Session(ours, name="localhost")
            session.shake()
            await client.send((b"" if apart else CLIENT) + session.to_send())
            client.session = session
            await client.send(GET)
            if apart:
                assert await asked(upstream) == b"203.0.113.7"
            else:
                await upstream.connections[0].read_head()
                await upstream.connections[0].send(OK)
            assert (await client.final()).body == b"ok"
            assert house.access[-1]["client"] == "203.0.113.7"
        assert house.metrics.tls_handshakes.value("ok") == 2


async def test_a_drain_waits_for_the_rest_of_a_header_and_for_the_request(preamble):
    async with (
        Upstream(answering()) as upstream,
        House(upstream, preamble=preamble, lifecycle={"settle": 0.3}) as house,
    ):
        client = await house.client()
        await client.send(CLIENT[:10])
        await house.until(lambda: len(house.inflight) == 1, "half a header is no work")
        house.sigterm()
        await asyncio.sleep(0.4)
        assert not house.controller.drained
        await client.send(CLIENT[10:] + GET)
        assert (await client.final()).body == b"ok"
        assert await client.read_eof() is End.FIN
        await house.until(lambda: house.controller.drained, "it does not drain")


async def test_the_sweep_reads_headers_too(preamble):
    async with Upstream(answering()) as upstream, House(upstream, preamble=preamble) as house:
        clients = [await house.client() for _ in range(5)]
        for client in clients:
            await client.send(CLIENT + GET)
        await house.sweep()
        for client in clients:
            assert (await client.final()).body == b"ok"
