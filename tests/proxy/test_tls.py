"""Callers speak TLS, and everything else is as it is without."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from drainproxy import certificates
from drainproxy.certificates import Certificates, Files
from drainproxy.proxy.preamble import Preamble
from tests.proxy.test_websocket import CLOSE, frame
from tests.proxy.test_websocket_leaving import AGREE, ANSWER, ASK
from tests.support.house import House
from tests.support.upstream import OK, Upstream, answering
from tests.support.wire import End, Ended

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def files(authority):
    certificate, key = authority.issue()
    return Files(certificate=str(certificate), key=str(key), authorities=str(authority.file))


@pytest.fixture
def preamble(files):
    return Preamble(Certificates(files, certificates.for_clients))


@pytest.fixture
def ours(authority):
    return authority.trusted()


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def each_version(ours, request):
    ours.maximum_version = ssl.TLSVersion[request.param]
    return ours


async def test_a_request_is_forwarded_and_says_that_it_came_by_https(preamble, each_version):
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=each_version)
        for body in (b"x", b"y" * 300_000):
            await client.send(
                b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            if body == b"x":
                connection = await upstream.connection()
            request = await connection.read_request()
            assert request.one(b"x-forwarded-proto") == b"https"
            assert request.one(b"x-forwarded-for") == b"127.0.0.1"
            assert request.body == body
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert (await client.final("POST")).body == body
        assert house.metrics.tls_handshakes.values == {("ok",): 1, ("failed",): 0}


async def test_a_handshake_and_a_request_may_come_byte_by_byte(preamble, each_version):
    async with Upstream(answering()) as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=each_version)
        session = client.session
        assert session is not None
        assert not session.shake()
        client.session = None
        while not session.shaken:
            await client.send_bytewise(session.to_send())
            await client.need()
            session.decrypt(client.take(len(client.received)))
        await client.send_bytewise(session.to_send() + session.encrypt(GET))
        client.session = session
        assert (await client.final()).body == b"ok"


async def test_the_last_answer_is_followed_by_a_close_notify_then_a_fin(preamble, each_version):
    async with Upstream(answering()) as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=each_version)
        answer = await client.ask(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n")
        assert answer.body == b"ok"
        assert await client.read_eof() is End.FIN
        assert client.session is not None
        assert client.session.bye


async def test_an_early_answer_is_read_by_a_client_that_goes_on_sending(preamble, ours):
    """The close lingers: unread bytes would turn it into a reset, and take the answer away."""
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=ours)
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 900000\r\n\r\n")
        connection = await upstream.connection()
        await connection.read_head()
        await connection.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await client.send(b"x" * 400_000)
        await client.send(b"x" * 400_000)
        answer = await client.final("POST")
        assert (answer.status, answer.body) == (403, b"no")
        assert await client.read_eof() is End.FIN
        assert client.session is not None
        assert client.session.bye


async def test_a_cut_answer_ends_without_a_close_notify(preamble, each_version):
    """With one, a body that ends with its connection would look complete."""
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=each_version)
        await client.send(GET)
        connection = await upstream.connection()
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await client.read_to(b"half")
        connection.reset()
        assert await client.read_eof() is End.RESET
        assert client.session is not None
        assert not client.session.bye


@pytest.mark.parametrize("how", ["close_notify", "fin", "reset"])
async def test_a_client_that_leaves_takes_its_request_along(preamble, ours, how):
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=ours)
        await client.send(GET)
        connection = await upstream.connection()
        await connection.read_request()
        if how == "close_notify":
            await client.say_bye()
        elif how == "fin":
            client.half_close()
        else:
            client.reset()
        assert await connection.read_until_close() == b""
        await house.until(lambda: house.access, "no line")
        assert house.access[0]["reason"] == "client-gone"


async def test_half_closing_is_allowed_where_it_is_allowed(preamble, ours):
    async with Upstream() as upstream, House(upstream, preamble=preamble, allow_half_close=True) as house:
        client = await house.client(tls=ours)
        await client.send(GET)
        await client.say_bye()
        client.half_close()
        connection = await upstream.connection()
        await connection.read_request()
        await connection.send(OK)
        assert (await client.final()).body == b"ok"
        assert await client.read_eof() is End.FIN


async def test_a_client_that_does_not_read_holds_the_application_back(preamble, ours):
    async with Upstream() as upstream, House(upstream, preamble=preamble, send_buffer=8192) as house:
        client = await house.client(tls=ours, receive_buffer=8192)
        await client.send(GET)
        connection = await upstream.connection()
        await connection.read_request()
        size = 64 * 1024 * 1024
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sent = await connection.send_until_stuck(b"x" * 65536, size)
        assert sent < size // 2
        (held,) = (one.transport.get_write_buffer_size() for one in house.registry.clients)
        assert 0 < held < 1024 * 1024
        client.reset()


@pytest.mark.parametrize(
    "bytes_", [b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 100]
)
async def test_what_is_not_tls_is_turned_away_and_counted(preamble, bytes_):
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client()
        await client.send(bytes_)
        await client.read_until_close()
        await house.until(lambda: house.diary.of("turned_away"), "no line")
        (line,) = house.diary.of("turned_away")
        assert (line["reason"], line["client"]) == ("tls-handshake", "127.0.0.1")
        assert house.metrics.tls_handshakes.values == {("ok",): 0, ("failed",): 1}
        assert upstream.accepted == 0


async def test_a_client_that_does_not_believe_us_is_counted(preamble):
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        client = await house.client(tls=certificates.for_upstream(Files()))
        with pytest.raises(ssl.SSLCertVerificationError):
            await client.shake_hands()
        await house.until(lambda: house.diary.of("turned_away"), "no line")
        assert "unknown ca" in house.diary.of("turned_away")[0]["detail"]


async def test_a_caller_that_says_nothing_has_failed_at_nothing(preamble):
    """Balancers and kubelets look whether a port is open, all the time."""
    async with Upstream() as upstream, House(upstream, preamble=preamble) as house:
        (await house.client()).close()
        await house.until(lambda: not house.registry.clients)
        assert house.metrics.tls_handshakes.values == {("ok",): 0, ("failed",): 0}
        assert not house.diary.of("turned_away")


async def test_a_handshake_takes_no_longer_than_a_head_and_disturbs_nobody(preamble, ours):
    async with (
        Upstream(answering()) as upstream,
        House(upstream, preamble=preamble, head_timeout=0.3) as house,
    ):
        slow = await house.client()
        await slow.send(b"\x16\x03\x01\x02\x00\x01")
        await house.until(lambda: len(house.inflight) == 1, "a handshake is no work")
        (work,) = house.inflight
        assert work.describe() == {"method": "", "path": "(handshake)"}
        assert not any(one.idle for one in house.registry.clients)
        assert (await (await house.client(tls=ours)).ask(GET)).body == b"ok"
        await slow.read_until_close()
        await house.until(lambda: house.metrics.tls_handshakes.value("failed") == 1, "not counted")


async def test_a_drain_waits_for_a_handshake_and_for_the_request_behind_it(preamble, ours):
    lifecycle = {"settle": 0.4}
    async with (
        Upstream(answering()) as upstream,
        House(upstream, preamble=preamble, lifecycle=lifecycle) as house,
    ):
        client = await house.client(tls=ours)
        session = client.session
        assert session is not None
        session.shake()
        await client._send(session.to_send()[:50])
        await house.until(lambda: len(house.inflight) == 1)
        house.sigterm()
        await house.until(lambda: house.controller.published.draining)
        await asyncio.sleep(0.5)
        assert not house.controller.drained
        client.close()
        await house.until(lambda: house.controller.drained, "a handshake that is gone holds the drain")


async def test_the_drains_deadline_ends_a_handshake(preamble):
    lifecycle = {"grace_period": 4.0, "app_stop": 0.5, "reserve": 3.0}
    async with Upstream() as upstream, House(upstream, preamble=preamble, lifecycle=lifecycle) as house:
        client = await house.client()
        await client.send(b"\x16\x03\x01\x02\x00\x01")
        await house.until(lambda: len(house.inflight) == 1)
        house.sigterm()
        await client.read_until_close()
        await house.until(lambda: not len(house.inflight) and not house.registry.clients)


async def test_a_sweep_takes_over_handshakes_that_the_kernel_had_completed(preamble, ours):
    async with Upstream(answering()) as upstream, House(upstream, preamble=preamble) as house:
        clients = [await house.client(tls=ours) for _ in range(5)]
        await house.sweep()
        for client in clients:
            assert (await client.ask(GET)).body == b"ok"


async def test_a_new_certificate_is_for_new_connections_and_old_ones_live_on(authority, ours, files):
    served = Certificates(files, certificates.for_clients)
    async with Upstream(answering()) as upstream, House(upstream, preamble=Preamble(served)) as house:
        old = await house.client(tls=ours)
        assert (await old.ask(GET)).body == b"ok"
        authority.issue("new.test")
        served.reload()
        assert (await old.ask(GET)).body == b"ok"
        new = await house.client(tls=ours, name="new.test")
        assert (await new.ask(GET)).body == b"ok"
        stranger = await house.client(tls=ours, name="localhost")
        with pytest.raises(ssl.SSLCertVerificationError):
            await stranger.shake_hands()


async def test_callers_show_a_certificate_where_one_is_required(authority, files, each_version, tmp_path):
    required = Preamble(Certificates(files, lambda given: certificates.for_clients(given, "required")))
    (tmp_path / "caller").mkdir()
    certificate, key = authority.issue("caller.test", into=tmp_path / "caller")
    async with Upstream(answering()) as upstream, House(upstream, preamble=required) as house:
        with pytest.raises((ssl.SSLError, Ended)):
            await (await house.client(tls=each_version)).ask(GET)
        await house.until(lambda: house.metrics.tls_handshakes.value("failed") == 1, "not counted")
        each_version.load_cert_chain(certificate, key)
        assert (await (await house.client(tls=each_version)).ask(GET)).body == b"ok"


async def test_a_websocket_over_tls_is_told_to_leave_as_in_clear_text(preamble, each_version):
    """Its Close is encrypted like everything else, and its client's answer reaches the application."""
    lifecycle = {"leave_spread": 0.0}
    async with Upstream() as upstream, House(upstream, preamble=preamble, lifecycle=lifecycle) as house:
        client = await house.client(tls=each_version)
        await client.send(ASK)
        application = await upstream.connection()
        await application.read_request()
        await application.send(AGREE + frame(b"hello"))
        await client.read_head()
        assert await client.read_exactly(7) == frame(b"hello")
        house.sigterm()
        assert await client.read_exactly(4) == CLOSE
        await client.send(ANSWER)
        assert await application.read_exactly(len(ANSWER)) == ANSWER
        application.close()
        assert await client.read_eof() is End.FIN
        client.close()
