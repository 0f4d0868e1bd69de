"""Who logs in over a connection owns it: NTLM and Negotiate authenticate connections (RFC 4559 section 6)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.upstream.pool import UNSAFE_IDLE_S
from tests.support.clock import over_sockets
from tests.support.house import House
from tests.support.upstream import Upstream
from tests.support.wire import End
from tests.support.words import GET, OK, get, ok, post

if TYPE_CHECKING:
    from tests.support.client import Client
    from tests.support.message import Message
    from tests.support.upstream import Connection

SCHEMES = ["NTLM", "Negotiate", "negotiate", "nTlM", "Kerberos", "CredSSP"]


def ntlm(scheme: str):
    """An application that knows whoever logged in over a connection, and asks everybody else to."""

    async def handle(connection: Connection) -> None:
        user = b""
        while (request := await connection.read_request()).start:
            kind, _, token = (request.one(b"authorization") or b"").partition(b" ")
            if kind == scheme.encode() and token.startswith(b"user:"):
                user = token[5:]
            if user:
                await connection.send(ok(user))
                continue
            more = " type2" if kind == scheme.encode() else ""
            challenge = f"WWW-Authenticate: Basic realm=x\r\nWWW-Authenticate: {scheme}{more}"
            await connection.send(f"HTTP/1.1 401 No\r\n{challenge}\r\nContent-Length: 0\r\n\r\n".encode())

    return handle


async def who(client: Client) -> bytes:
    """Ask without credentials; return the user who is answered."""
    return (await client.ask(GET)).body


async def login(client: Client, scheme: str, user: str) -> Message:
    """Log in, in three steps over one connection."""
    assert (await client.ask(GET)).status == 401
    assert (await client.ask(get("/", f"Authorization: {scheme} type1"))).status == 401
    return await client.ask(get("/", f"Authorization: {scheme} user:{user}"))


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_stranger_is_not_answered_as_the_user_who_logged_in(scheme: str) -> None:
    """And that one stays logged in, whatever others ask meanwhile."""
    async with Upstream(ntlm(scheme)) as upstream, House(upstream) as house:
        alice, stranger = await house.client(), await house.client()
        assert (await login(alice, scheme, "alice")).body == b"alice"
        for _ in range(3):
            assert await who(stranger) == b""
            assert await who(await house.client()) == b""
            assert await who(alice) == b"alice"


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_two_logins_at_a_time_are_not_mixed_up(scheme: str) -> None:
    """Each goes over a connection of its own from the challenge on."""
    async with Upstream(ntlm(scheme)) as upstream, House(upstream) as house:
        anna, max_ = await house.client(), await house.client()
        for client in (anna, max_):
            await client.ask(get("/", f"Authorization: {scheme} type1"))
        for client, name in ((anna, b"anna"), (max_, b"max")):
            assert (await client.ask(get("/", f"Authorization: {scheme} user:{name.decode()}"))).body == name
        assert (await who(anna), await who(max_)) == (b"anna", b"max")


@pytest.mark.parametrize("field", ["WWW-Authenticate: Negotiate oRQ=", "Persistent-Auth: true"])
async def test_a_login_in_one_step_is_its_clients_alone(field: str) -> None:
    """Kerberos needs no challenge; what says that it holds may be the answer alone."""
    async with Upstream() as upstream, House(upstream) as house:
        alice, stranger = await house.client(), await house.client()
        await alice.send(post(b"x"))
        first = await upstream.connection()
        await first.read_request()
        await first.send(ok(b"a", field))
        assert (await alice.final()).status == 200
        await stranger.send(GET)
        second = await upstream.connection()
        await second.read_request()
        await second.send(OK)
        await stranger.final()
        await alice.send(GET)
        await first.read_request()
        await first.send(OK)
        assert (await alice.final()).body == b"ok"


@pytest.mark.parametrize(
    "field", ["Authorization: Basic Tlk=", "Authorization: Bearer Negotiate", "X-A: NTLM"]
)
async def test_other_credentials_leave_a_connection_to_everybody(field: str) -> None:
    """They are sent with each request."""
    async with Upstream(ntlm("Negotiate-not")) as upstream, House(upstream) as house:
        for _ in range(3):
            client = await house.client()
            await client.ask(get("/", field))
            client.close()
        assert upstream.accepted == 1


@over_sockets
async def test_a_post_goes_over_its_clients_own_connection_however_long_that_idled() -> None:
    """A fresh one would be nobody's; one of the pool that idled so long is not trusted with it."""
    async with Upstream(ntlm("NTLM")) as upstream, House(upstream) as house:
        alice = await house.client()
        await login(alice, "NTLM", "alice")
        await asyncio.sleep(house.settings.upstream_idle + UNSAFE_IDLE_S)
        assert (await alice.ask(post(b"order"))).body == b"alice"
        assert upstream.accepted == 1
        assert (house.pool.idle_count, house.pool.active_count, house.pool.open_count) == (1, 0, 1)


async def test_it_ends_with_its_client() -> None:
    """Nobody else could use it."""
    async with Upstream(ntlm("NTLM")) as upstream, House(upstream) as house:
        alice = await house.client()
        await login(alice, "NTLM", "alice")
        assert house.pool.open_count == 1
        alice.close()
        await house.until(lambda: not house.pool.open_count)


async def test_its_client_ends_with_it() -> None:
    """As without a proxy: a client that has to log in anew sees why."""
    async with Upstream(ntlm("NTLM")) as upstream, House(upstream) as house:
        alice = await house.client()
        await login(alice, "NTLM", "alice")
        upstream.connections[0].close()
        assert await alice.read_eof() is End.FIN
        await house.until(lambda: not house.pool.open_count)


async def test_a_close_behind_the_last_answer_is_said_to_its_client() -> None:
    """The application's `Connection: close` ends the login, so it is no matter of one hop."""
    async with Upstream() as upstream, House(upstream) as house:
        alice = await house.client()
        await alice.send(get("/", "Authorization: NTLM x"))
        application = await upstream.connection()
        await application.read_request()
        await application.send(ok(b"bye", "Connection: close"))
        answer = await alice.final()
        assert (answer.body, answer.one(b"connection")) == (b"bye", b"close")
        assert await alice.read_eof() is End.FIN


async def test_bytes_on_it_that_nobody_asked_for_end_both() -> None:
    """They are nobody's answer."""
    async with Upstream(ntlm("NTLM")) as upstream, House(upstream) as house:
        alice = await house.client()
        await login(alice, "NTLM", "alice")
        await upstream.connections[0].send(OK)
        assert await alice.read_eof() is End.FIN
        assert not house.pool.idle_count


async def test_where_it_has_closed_as_a_request_comes_the_client_is_asked_again() -> None:
    """A request that is on its way by then goes over a new connection, and is nobody's."""
    async with Upstream(ntlm("NTLM")) as upstream, House(upstream) as house:
        alice = await house.client()
        await login(alice, "NTLM", "alice")
        alice.wire.send(post(b"order"))
        upstream.connections[0].close()
        answer = await alice.final()
        # Either end may be seen first; what may not be is a request that is done as somebody else.
        assert answer.status in {0, 401}


async def test_an_upgrade_goes_over_the_connection_that_has_logged_in() -> None:
    """A WebSocket of that user; it ends there, and its client's socket with it."""
    async with Upstream() as upstream, House(upstream) as house:
        alice = await house.client()
        await alice.send(get("/", "Authorization: NTLM x"))
        application = await upstream.connection()
        await application.read_request()
        await application.send(OK)
        await alice.final()
        await alice.send(get("/", "Connection: Upgrade", "Upgrade: websocket"))
        assert b"Upgrade: websocket\r\n" in await application.read_head()
        await application.send(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        assert (await alice.read_response()).status == 101
        assert await alice.read_exactly(5) == b"hello"
        application.close()
        assert await alice.read_eof() is End.FIN


async def test_an_idle_clients_own_connection_holds_no_drain() -> None:
    """It ends with its client, at the exit."""
    async with Upstream(ntlm("NTLM")) as upstream, House(upstream) as house:
        alice = await house.client()
        await login(alice, "NTLM", "alice")
        house.sigterm()
        await house.until(lambda: house.controller.drained)
        house.registry.retire_idle()
        assert await alice.read_eof() is End.FIN
        await house.until(lambda: not house.pool.open_count)
