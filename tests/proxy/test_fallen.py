"""An application that was there and is gone: its callers meet what they would have met without us.

They are refused at the door, and on the connections that stand they are sent away, so that they find another
pod. Once it is back, so is the door.
"""

from __future__ import annotations

import socket

import pytest

from tests.integration.application import Application
from tests.proxy.probing import noticed, probed
from tests.support.client import Client
from tests.support.house import House
from tests.support.upstream import answering
from tests.support.wire import End
from tests.support.words import GET, OK, post

POST = post(b"abc")


async def closed(house: House) -> None:
    """Return once callers are refused."""
    await house.until(lambda: not house.listener.accepting and not len(house.tasks))
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(("127.0.0.1", house.port))


async def test_callers_are_refused_while_the_application_is_gone_and_served_once_it_is_back() -> None:
    """At the same port, as often as that happens."""
    application = Application(answering(OK))
    port = application.port
    async with House(f"http://127.0.0.1:{port}") as house, probed(house):
        for _ in range(3):
            async with application:
                await house.until(lambda: house.listener.accepting and house.pool.presence.came)
                await house.until(lambda: not house.pool.presence.fallen)
                assert (await house.ask(GET)).body == b"ok"
            await closed(house)
            application = Application(answering(OK), port=port)
        async with application:
            await house.until(lambda: house.listener.accepting)
            assert (await house.ask(POST)).body == b"ok"
            house.pool.close_idle()
            await house.until(lambda: not house.pool.open_count)


async def test_nobody_takes_the_port_meanwhile() -> None:
    """A server that sets SO_REUSEADDR, as all do, could bind what does not listen; then callers were its."""
    application = Application(answering(OK))
    port = application.port
    async with House(f"http://127.0.0.1:{port}") as house, probed(house):
        async with application:
            assert (await house.ask(GET)).body == b"ok"
            kept = await house.client()
            await kept.ask(GET)
        await closed(house)
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="Address already in use"):
                thief.bind(("127.0.0.1", house.port))
        async with Application(answering(OK), port=port):
            await house.until(lambda: house.listener.accepting)
            assert (await house.ask(GET)).body == b"ok"
            house.pool.close_idle()
            await house.until(lambda: not house.pool.open_count)


async def test_idle_clients_are_let_go_as_soon_as_it_is_known() -> None:
    """Their connections would have ended with the application."""
    async with Application(answering(OK)) as application, House(application) as house:
        client = await house.client()
        assert (await client.ask(GET)).body == b"ok"
        silent = await house.client()
        await house.until(lambda: len(house.registry.clients) == 2)
        await application.stop_listening()
        await noticed(house)
        for each in (client, silent):
            assert not await each.read_until_close()
            assert each.end is End.FIN
        await closed(house)


async def test_what_may_be_asked_again_ends_without_a_word() -> None:
    """As on a connection of the application's: gateways and clients ask elsewhere; an error they pass on."""
    async with Application(answering(OK)) as application, House(application) as house:
        await known_by_asking(house)
        client = await house.client()
        await house.until(lambda: len(house.registry.clients) == 1)
        await application.stop_listening()
        await client.send(GET)
        assert not await client.read_until_close()
        assert client.end is End.RESET
        assert house.metrics.errors.value("upstream-refused") == 1
        await closed(house)


async def test_what_may_not_be_asked_again_is_told_that_it_was_not_done() -> None:
    """And is sent away with it."""
    async with Application(answering(OK)) as application, House(application) as house:
        await known_by_asking(house)
        client = await house.client()
        await house.until(lambda: len(house.registry.clients) == 1)
        await application.stop_listening()
        await client.send(POST)
        answer = await client.final()
        assert (answer.status, answer.one(b"connection")) == (503, b"close")
        assert b"upstream-refused" in answer.body
        await closed(house)


async def known_by_asking(house: House) -> None:
    """Have one request answered, and no connection left over from it."""
    assert (await house.ask(GET)).body == b"ok"
    house.pool.close_idle()
    await house.until(lambda: not house.pool.open_count and not house.registry.clients)


async def test_an_answer_that_was_due_ends_as_the_application_did() -> None:
    """It died in the middle of a GET: the whole of it, so nothing is said."""
    async with Application() as application, House(application) as house:
        client = await house.client()
        await client.send(GET)
        connection = await application.connection()
        await connection.read_request()
        await application.stop_listening()
        connection.reset()
        assert not await client.read_until_close()
        assert client.end is End.RESET
        assert house.metrics.errors.value("upstream-gone") == 1
        await closed(house)


async def test_one_connection_that_fails_is_no_fall() -> None:
    """Somebody still listens: its request gets its 502, and everybody stays."""
    async with Application() as application, House(application) as house:
        client, other = await house.client(), await house.client()
        await client.send(GET)
        connection = await application.connection()
        await connection.read_request()
        connection.reset()
        answer = await client.final()
        assert (answer.status, answer.all(b"connection")) == (502, [])
        assert house.listener.accepting
        assert not house.pool.presence.fallen
        await other.send(GET)
        while not (connection := await application.connection()).received and not await connection.more():
            pass
        await connection.read_request()
        await connection.send(OK)
        assert (await other.final()).body == b"ok"


async def test_what_still_goes_on_is_answered_and_closed() -> None:
    """An application that has shut its door and finishes what is in it."""
    async with Application() as application, House(application) as house:
        client = await house.client()
        await client.send(GET)
        connection = await application.connection()
        await connection.read_request()
        await application.stop_listening()
        await noticed(house)
        await connection.send(OK)
        answer = await client.final()
        assert (answer.body, answer.one(b"connection")) == (b"ok", b"close")
        await closed(house)


async def test_a_death_is_noticed_without_a_request() -> None:
    """Its connections end with it, whether anybody asks or not."""
    async with Application(answering(OK)) as application, House(application) as house, probed(house):
        client = await house.client()
        assert (await client.ask(GET)).body == b"ok"
        await house.until(lambda: house.pool.idle_count == 1)
        await application.close()
        assert not await client.read_until_close()
        await closed(house)


async def test_an_http2_client_is_told_to_go() -> None:
    """With GOAWAY, and its streams may be asked again elsewhere."""
    async with Application() as application, House(application) as house:
        client = await house.client()
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        while not await (connection := await application.connection()).more():
            pass
        await connection.send(b"\0\0\0\4\0\0\0\0\0")
        assert (await client.read_exactly(9))[3] == 4
        await application.stop_listening()
        await noticed(house)
        # A frame of 8 bytes and type 7 (RFC 9113 section 6.8).
        assert b"\0\0\x08\x07\0" in await client.read_until_close()
        await closed(house)
        for each in application.connections:
            each.close()


async def test_an_application_that_never_came_is_told_of() -> None:
    """Nobody was ever served here: whoever asks learns why, and the door stays open."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with House(f"http://127.0.0.1:{port}") as house:
        assert b"upstream-refused" in (await house.ask(GET)).body
        assert house.listener.accepting


async def test_a_drain_that_begins_while_it_is_gone_ends_as_ever() -> None:
    """The closed door can be closed."""
    async with Application(answering(OK)) as application, House(application) as house:
        await known_by_asking(house)
        await application.stop_listening()
        await noticed(house)
        await closed(house)
        house.sigterm()
        assert await house.sweep() == 0
        house.pool.presence.accepts()
        await house.until(lambda: not len(house.tasks))
        assert not house.listener.accepting
