"""TLS on both sides at once: tunnels, cuts and tight buffers are as they are without."""

from __future__ import annotations

import pytest

from drainproxy import certificates
from drainproxy.certificates import Certificates, Files
from drainproxy.proxy.message.trust import Trust
from drainproxy.proxy.preamble import Preamble
from drainproxy.proxy.upstream.tls import UpstreamTls
from tests.proxy.test_proxy_header import GOOD
from tests.proxy.test_tunnel import AGREE, ASK
from tests.support.authority import Authority
from tests.support.house import House
from tests.support.session import Session
from tests.support.upstream import OK, Upstream
from tests.support.wire import End

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
HEADER = GOOD["v2 with TLVs"][0]


class Ends:
    """What both sides need."""

    def __init__(self, directory) -> None:
        authority = Authority(directory)
        certificate, key = authority.issue()
        served = Files(certificate=str(certificate), key=str(key))
        believed = Files(authorities=str(authority.file))
        self.client = certificates.for_upstream(believed)
        self.application = certificates.for_clients(served)
        self.house = {
            "preamble": Preamble(Certificates(served, certificates.for_clients)),
            "upstream_tls": UpstreamTls(Certificates(believed, certificates.for_upstream), "localhost"),
        }

    async def tunnel(self, house, upstream):
        """Open one; return both of its far ends."""
        client = await house.client(tls=self.client)
        await client.send(ASK)
        application = await upstream.connection()
        assert (await application.read_request()).one(b"upgrade") == b"chat/2"
        await application.send(AGREE)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        return client, application


@pytest.fixture
def ends(tmp_path):
    return Ends(tmp_path)


async def test_a_tunnel_passes_bytes_and_half_closes_both_ways(ends):
    async with Upstream(tls=ends.application) as upstream, House(upstream, **ends.house) as house:
        client, application = await ends.tunnel(house, upstream)
        await client.send(b"x" * 200_000)
        assert await application.read_exactly(200_000) == b"x" * 200_000
        await application.send(b"y" * 200_000)
        assert await client.read_exactly(200_000) == b"y" * 200_000
        await client.send(b"last words")
        await client.say_bye()
        client.half_close()
        assert await application.read_until_close() == b"last words"
        assert (application.end, application.session.bye) == (End.FIN, True)
        await application.send(b"and mine")
        await application.say_bye()
        application.half_close()
        assert await client.read_until_close() == b"and mine"
        assert (client.end, client.session.bye) == (End.FIN, True)


async def test_a_tunnel_that_breaks_off_is_seen_to_be_broken(ends):
    async with Upstream(tls=ends.application) as upstream, House(upstream, **ends.house) as house:
        client, application = await ends.tunnel(house, upstream)
        application.reset()
        assert await client.read_until_close() == b""
        assert not client.session.bye
        client, application = await ends.tunnel(house, upstream)
        client.reset()
        assert await application.read_until_close() == b""
        assert not application.session.bye


async def test_with_too_much_held_connections_are_still_let_in_and_read_in_small_pieces(ends):
    """Nobody may be read from in place of the door that he has to pass."""
    ends.house["preamble"]._trust = Trust(("127.0.0.0/8",))
    seen = []

    async def handle(connection) -> None:
        while (request := await connection.read_request()).start:
            seen.append((request.one(b"x-forwarded-for"), len(request.body)))
            await connection.send(OK)

    async with Upstream(handle, tls=ends.application) as upstream, House(upstream, **ends.house) as house:
        waiting = await house.client()
        await house.until(lambda: len(house.registry.clients) == 1)
        house.buffers._switch(tight=True)
        for client in (waiting, await house.client()):
            await client.send_bytewise(HEADER)
            client.session = Session(ends.client, name="localhost")
            await client.send(POST + b"z" * 100_000)
            assert (await client.final("POST")).body == b"ok"
        house.buffers._switch(tight=False)
        await waiting.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await waiting.final()).body == b"ok"
        assert seen == [(b"203.0.113.7", 100_000)] * 2 + [(b"203.0.113.7", 0)]
