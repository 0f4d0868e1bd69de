"""The application speaks TLS, and everything else is as it is without."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy import certificates
from drainproxy.certificates import Certificates, Files
from drainproxy.proxy.upstream.probe import Answer, ask
from drainproxy.proxy.upstream.tls import UpstreamTls
from tests.support.authority import Authority
from tests.support.flavours import of_sources
from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import OK, Upstream, answering
from tests.support.wire import Ended

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture
def theirs(authority):
    """The application's context."""
    certificate, key = authority.issue()
    return certificates.for_clients(Files(certificate=str(certificate), key=str(key)))


@pytest.fixture
def ours(authority):
    files = Files(authorities=str(authority.file))
    return UpstreamTls(Certificates(files, certificates.for_upstream), "localhost")


async def test_requests_go_over_one_connection_with_bodies_of_any_size(theirs, ours):
    async with Upstream(tls=theirs) as upstream, House(upstream, upstream_tls=ours) as house:
        client = await house.client()
        for size in (1, 300_000):
            await client.send(POST % size + b"y" * size)
            if size == 1:
                connection = await upstream.connection()
            request = await connection.read_request()
            assert request.body == b"y" * size
            assert request.all(b"x-forwarded-proto") == []
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"z" * size)
            assert (await client.final("POST")).body == b"z" * size
        assert upstream.accepted == 1


@pytest.mark.parametrize("wrong", ["authority", "name", "plain", "version"])
async def test_a_handshake_that_fails_is_a_502_with_a_reason_of_its_own(
    authority, theirs, ours, wrong, tmp_path
):
    expected = ("upstream-untrusted", b"tls_certificate_error")
    if wrong == "authority":
        (tmp_path / "other").mkdir()
        other = Files(authorities=str(Authority(tmp_path / "other").file))
        ours = UpstreamTls(Certificates(other, certificates.for_upstream), "localhost")
    elif wrong == "name":
        ours.server_name = "other.test"
    else:
        expected = ("upstream-handshake-failed", b"tls_protocol_error")
    if wrong == "version":
        ours.context.maximum_version = ours.context.minimum_version
        theirs.minimum_version = theirs.maximum_version = 0x0304

    async def plain(connection):
        await connection.more()
        await connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    application = Upstream(plain) if wrong == "plain" else Upstream(answering(), tls=theirs)
    async with application as upstream, House(upstream, upstream_tls=ours) as house:
        answer = await house.ask(GET)
        assert answer.status == 502
        assert answer.one(b"proxy-status") == b'drainproxy; error=%b; details="%b"' % (
            expected[1],
            expected[0].encode(),
        )
        assert house.access[0]["reason"] == expected[0]
        assert house.access[0]["detail"]
        assert await ask(house.pool, house.loop.time() + 5) is Answer.REFUSES
        await house.until(lambda: not house.pool.open_count, "a connection was left")


async def test_an_application_that_does_not_answer_the_hello_is_a_connect_timeout(theirs, ours):
    async with (
        Upstream(tls=theirs) as upstream,
        House(upstream, upstream_tls=ours, connect_timeout=0.3) as house,
    ):
        answer = await house.ask(GET)
        assert answer.status == 504
        assert house.access[0]["reason"] == "connect-timeout"
        await house.until(lambda: not house.pool.open_count, "a connection was left")


@pytest.mark.parametrize(("bye", "ending"), [(True, Ending.COMPLETE), (False, Ending.RESET)])
async def test_a_body_that_ends_with_its_connection_needs_a_close_notify(theirs, ours, bye, ending):
    """RFC 9112 section 9.8: without it, somebody may have cut it."""
    async with Upstream(tls=theirs) as upstream, House(upstream, upstream_tls=ours) as house:
        client = await house.client()
        await client.send(GET)
        connection = await upstream.connection()
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        if bye:
            await connection.say_bye()
        connection.half_close()
        answer = await client.final()
        assert (answer.body, answer.ending) == (b"all of it", ending)


async def test_a_request_that_meets_the_close_of_an_idle_connection_is_sent_again(theirs, ours):
    async with Upstream(tls=theirs) as upstream, House(upstream, upstream_tls=ours) as house:
        client = await house.client()
        await client.send(GET)
        first = await upstream.connection()
        await first.read_request()
        await first.send(OK)
        assert (await client.final()).body == b"ok"
        await client.send(GET)
        await first.read_request()
        first.reset()
        second = await upstream.connection()
        await second.read_request()
        await second.send(OK)
        assert (await client.final()).body == b"ok"
        assert house.metrics.retries.value() == 1
        await second.say_bye()
        await house.until(lambda: not house.pool.idle_count, "a closed connection is lent again")


async def test_an_application_that_does_not_read_holds_the_client_back(theirs, ours):
    async with (
        Upstream(tls=theirs, receive_buffer=8192) as upstream,
        House(upstream, upstream_tls=ours) as house,
    ):
        client = await house.client()
        size = 64 * 1024 * 1024
        await client.send(POST % size)
        connection = await upstream.connection()
        await connection.read_head()
        assert await client.send_until_stuck(b"x" * 65536, size) < size // 2
        client.reset()


async def test_the_last_words_of_an_application_that_hung_up_are_heard(theirs, ours):
    """It answers early and closes with bytes of the upload unread: what it said comes all the same."""
    async with Upstream(tls=theirs) as upstream, House(upstream, upstream_tls=ours) as house:
        client = await house.client()
        await client.send(POST % 5_000_000)
        connection = await upstream.connection()
        await connection.read_head()
        await client.send_until_stuck(b"x" * 65536, 4_000_000)
        await connection.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        connection.close()
        answer = await client.final("POST")
        assert (answer.status, answer.body) == (413, b"no")


async def test_the_application_is_shown_a_certificate_if_it_asks(authority, tmp_path):
    certificate, key = authority.issue()
    served = Files(certificate=str(certificate), key=str(key), authorities=str(authority.file))
    (tmp_path / "own").mkdir()
    certificate, key = authority.issue("proxy.test", into=tmp_path / "own")
    own = Files(certificate=str(certificate), key=str(key), authorities=str(authority.file))
    async with Upstream(answering(), tls=certificates.for_clients(served, "required")) as upstream:
        shown = UpstreamTls(Certificates(own, certificates.for_upstream), "localhost")
        async with House(upstream, upstream_tls=shown) as house:
            assert (await house.ask(GET)).status == 200
        silent = UpstreamTls(
            Certificates(Files(authorities=own.authorities), certificates.for_upstream), "localhost"
        )
        async with House(upstream, upstream_tls=silent) as house:
            assert (await house.ask(GET)).status == 502


async def test_both_ways_at_once_stay_apart(theirs, ours):
    """What one side says is decrypted with its own keys only; an application cut short is a visible cut."""
    async with Upstream(tls=theirs) as upstream, House(upstream, upstream_tls=ours) as house:
        client = await house.client()
        await client.send(GET)
        connection = await upstream.connection()
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await client.read_to(b"half")
        await connection._send(b"not a record of this session, and long enough to be looked at")
        with pytest.raises(Ended):
            await client.read_exactly(1)


async def test_an_application_that_is_not_there_leaves_no_session_in_the_account(theirs, ours):
    """18 KiB for each connect that was refused, or given up, filled the account for good: 503 to all."""
    async with Upstream(tls=theirs) as upstream, House(upstream, upstream_tls=ours) as house:
        await upstream.close()
        for _ in range(3):
            assert await ask(house.pool, house.loop.time() + 5) is Answer.REFUSES
        assert house.buffers.own_bytes == 0


async def test_a_handshake_that_is_given_up_leaves_no_session_in_the_account(theirs, ours):
    """Its time is up, or its client has gone."""
    async with Upstream() as upstream, House(upstream, upstream_tls=ours) as house:
        client = await house.client()
        await client.send(GET)
        await (await upstream.connection()).more()
        assert house.buffers.own_bytes > 0
        client.reset()
        await house.until(lambda: not house.pool.open_count)
        assert house.buffers.own_bytes == 0


@of_sources("it replaces a pool's method")
async def test_a_connect_that_is_given_up_as_it_stands_leaves_no_session_in_the_account(theirs, ours):
    """uvloop closes such a connection without a word."""
    async with Upstream(tls=theirs) as upstream, House(upstream, upstream_tls=ours) as house:
        opened, connecting = house.pool.opened, None

        def given_up(connection):
            opened(connection)
            connecting.cancel()

        house.pool.opened = given_up
        connecting = house.loop.create_task(house.pool.connect(house.loop.time() + 5))
        await asyncio.gather(connecting, return_exceptions=True)
        assert connecting.cancelled()
        await house.until(lambda: not house.pool.open_count)
        assert house.buffers.own_bytes == house.buffers.held_bytes == 0
