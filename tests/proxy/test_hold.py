"""Requests that wait for an application that restarts: answered once it is back, and told where it is not.

They are served late and sent elsewhere, and leave when their clients do.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.proxy.limits.routes import Route, Timeouts
from tests.integration.application import Application
from tests.proxy.probing import probed, reserved
from tests.support.client import Client
from tests.support.house import House
from tests.support.http2 import PREFACE
from tests.support.upstream import answering
from tests.support.wire import End
from tests.support.words import GET, GET_1_0, OK, get, post, switching, upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATIENT = 20.0
"""Seconds; no test waits for them."""
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


class Pod:
    """A house whose application is away: `await pod.back()` and it answers again, at its port."""

    def __init__(self, house: House, port: int) -> None:
        self.house = house
        self._port = port
        self._back: list[Application] = []

    async def back(self, handle: Any = None) -> Application:
        """Have it accept connections again, until the end or until it is closed."""
        application = Application(handle, port=self._port)
        await application.__aenter__()
        self._back.append(application)
        return application

    async def end(self) -> None:
        """Close what still listens."""
        self.house.pool.close_idle()
        for application in self._back:
            await application.close()

    async def held(self, count: int = 1) -> None:
        """Return once so many requests wait."""
        await self.house.until(lambda: self.house.metrics.requests_held.value() == count)

    def ended(self) -> dict[str, float]:
        """Return how those that waited have ended, so far."""
        return {name: count for (name,), count in self.house.metrics.held.values.items() if count}


@contextlib.asynccontextmanager
async def fallen(scheme: str = "http", hold_s: float | None = PATIENT, **how: Any) -> AsyncIterator[Pod]:
    """A pod whose application was there once and refuses now."""
    async with contextlib.AsyncExitStack() as stack:
        async with Application(answering(OK)) as application:
            house = House(f"{scheme}://127.0.0.1:{application.port}", hold_while_down=hold_s, **how)
            await stack.enter_async_context(house)
            await stack.enter_async_context(probed(house))
            await house.until(lambda: house.pool.presence.came)
            port = application.port
        stack.enter_context(reserved(port))
        await house.until(lambda: house.pool.presence.fallen)
        pod = Pod(house, port)
        try:
            yield pod
        finally:
            await pod.end()
        await house.until(lambda: not house.pool.open_count)


@pytest.mark.parametrize("request_", [GET, post(b"abc"), GET_1_0], ids=["get", "post", "1.0"])
async def test_a_request_waits_for_the_application_and_is_answered_as_the_last_one(request_: bytes) -> None:
    """Its client goes elsewhere with the next one."""
    async with fallen() as pod:
        client = await pod.house.client()
        await client.send(request_)
        await pod.held()
        await pod.back(answering(OK))
        answer = await client.final()
        assert (answer.body, answer.one(b"connection")) == (b"ok", b"close")
        assert not await client.read_until_close()
        assert client.end is End.FIN
        assert (pod.ended(), pod.house.failed()) == ({"back": 1}, {})
        assert pod.house.metrics.requests_held.value() == 0
        assert sum(pod.house.metrics.held_seconds.counts) == 1


async def test_nobody_is_turned_away_and_nobody_is_sent_away_meanwhile() -> None:
    """The door stays open, and a client that idles keeps its connection."""
    async with fallen() as pod:
        house = pod.house
        application = await pod.back(answering(OK))
        await house.until(lambda: not house.pool.presence.fallen)
        idle = await house.client()
        assert (await idle.ask(GET)).body == b"ok"
        await application.close()
        await house.until(lambda: house.pool.presence.fallen)
        assert house.listener.accepting
        new = await house.client()
        for client in (idle, new):
            await client.send(GET)
        await pod.held(2)
        await pod.back(answering(OK))
        for client in (idle, new):
            assert (await client.final()).body == b"ok"


async def test_each_waits_for_its_own_time_and_is_told_once() -> None:
    """One that came later is not told with the first; what is told is no reset: that would come back."""
    async with fallen(hold_s=0.3) as pod:
        first, second = await pod.house.client(), await pod.house.client()
        began = pod.house.loop.time()
        await first.send(GET)
        await pod.held()
        answer = await first.final()
        assert (answer.status, answer.one(b"connection"), answer.one(b"retry-after")) == (503, b"close", b"1")
        assert b"hold-timeout" in answer.body
        assert pod.house.loop.time() - began > 0.28
        await second.send(post(b"abc"))
        await pod.held()
        assert pod.house.failed() == {"hold-timeout": 1}
        assert (await second.final()).status == 503
        assert (pod.ended(), pod.house.failed()) == ({"in_vain": 2}, {"hold-timeout": 2})


async def test_a_body_is_not_read_before_somebody_reads_it() -> None:
    """What a client may send ahead is bounded, and all of it arrives in the end."""
    body = bytes(range(256)) * (64 * 1024)
    async with fallen() as pod:
        client = await pod.house.client()
        sending = pod.house.loop.create_task(client.send(post(body)))
        await pod.held()
        await pod.house.until(lambda: pod.house.buffers.held_bytes > 0)
        assert not sending.done()
        assert pod.house.buffers.held_bytes < len(body) / 4
        application = await pod.back()
        connection = await application.connection_with_bytes()
        assert (await connection.read_request()).body == body
        await sending
        await connection.send(OK)
        assert (await client.final()).body == b"ok"


async def test_a_client_that_leaves_gives_its_place_away() -> None:
    """Nothing is asked for it later."""
    async with fallen() as pod:
        client = await pod.house.client()
        await client.send(post(b"abc"))
        await pod.held()
        client.close()
        await pod.held(0)
        assert pod.ended() == {"left": 1}
        application = await pod.back(answering(OK))
        assert (await pod.house.ask(get("/other"))).body == b"ok"
        heads = [await each.read_head() for each in application.connections if each.received]
        assert not any(head.startswith(b"POST") for head in heads)


async def test_what_waits_is_served_in_a_drain_that_begins_meanwhile() -> None:
    """It is work like any other; what comes after the drain began is told at once: nothing will come back."""
    async with fallen() as pod:
        client, late = await pod.house.client(), await pod.house.client()
        await client.send(GET)
        await pod.held()
        pod.house.sigterm()
        await late.send(post(b"abc"))
        answer = await late.final()
        assert (answer.status, answer.one(b"connection")) == (503, b"close")
        assert b"upstream-refused" in answer.body or b"breaker-open" in answer.body
        assert not pod.house.controller.drained
        await pod.back(answering(OK))
        assert (await client.final()).body == b"ok"
        await pod.house.until(lambda: pod.house.controller.drained)


async def test_the_drains_deadline_ends_what_waits() -> None:
    """With its word, and not the hold's."""
    async with fallen(lifecycle={"drain_timeout": 0.3}) as pod:
        client = await pod.house.client()
        await client.send(GET)
        await pod.held()
        pod.house.sigterm()
        answer = await client.final()
        assert answer.status == 503
        assert b"drain-deadline" in answer.body
        assert pod.ended() == {"left": 1}


async def test_a_get_that_was_in_the_application_is_asked_once_more_and_a_post_is_not() -> None:
    """Nobody knows how far it had come; a GET may be asked twice, and no oftener."""
    async with (
        Application() as application,
        House(application, hold_while_down=PATIENT) as house,
        probed(house),
    ):
        asking, ordering = await house.client(), await house.client()
        inside = []
        for client, request in ((asking, GET), (ordering, post(b"abc"))):
            await client.send(request)
            connection = await application.connection_with_bytes()
            await connection.read_request()
            inside.append(connection)
        await application.stop_listening()
        for connection in inside:
            connection.reset()
        answer = await ordering.final()
        assert (answer.status, b"upstream-gone" in answer.body) == (502, True)
        await house.until(lambda: house.metrics.requests_held.value() == 1)
        again = Application(port=application.port)
        async with again:
            connection = await again.connection_with_bytes()
            await connection.read_request()
            await again.stop_listening()
            connection.reset()
            assert not await asking.read_until_close()
        assert house.metrics.retries.value() == 1


async def test_an_upgrade_waits_too() -> None:
    """And becomes what it asked for."""
    async with fallen() as pod:
        client = await pod.house.client()
        await client.send(upgrade("/", "chat"))
        await pod.held()
        application = await pod.back()
        connection = await application.connection_with_bytes()
        await connection.read_head()
        await connection.send(switching("chat") + b"hello")
        assert await client.read_head() == switching("chat")
        assert await client.read_exactly(5) == b"hello"
        client.close()


async def test_an_application_on_a_unix_socket_is_waited_for_too(tmp_path: Path) -> None:
    """There is a file that nobody listens behind, and none in the end."""
    path = tmp_path / "application.sock"
    async with Application(answering(OK), path=path):
        house = House(f"unix:{path}", hold_while_down=PATIENT)
        await house.__aenter__()
        assert (await house.ask(GET)).body == b"ok"
        house.pool.close_idle()
    async with probed(house):
        client = await house.client()
        await client.send(post(b"abc"))
        await house.until(lambda: house.metrics.requests_held.value() == 1)
        path.unlink()
        async with Application(answering(OK), path=path):
            assert (await client.final()).body == b"ok"
            house.pool.close_idle()
            await house.until(lambda: not house.pool.open_count)
    await house.__aexit__(None)


async def test_a_connection_of_any_protocol_waits_too() -> None:
    """Behind tcp://, with what the client has said first."""
    async with fallen("tcp") as pod:
        client = await pod.house.client()
        await client.send(b"first words")
        await pod.held()
        application = await pod.back()
        connection = await application.connection_with_bytes()
        assert await connection.read_exactly(11) == b"first words"
        await connection.send(b"answer")
        assert await client.read_exactly(6) == b"answer"
        client.close()


async def test_an_http2_connection_waits_and_is_told_to_go_once_it_is_served() -> None:
    """With GOAWAY, behind the application's SETTINGS: as an answer of HTTP/1.1 says close."""
    async with fallen() as pod:
        client = await pod.house.client()
        await client.send(PREFACE)
        await pod.held()
        application = await pod.back()
        connection = await application.connection_with_bytes()
        await connection.send(SETTINGS)
        kinds = []
        for _ in range(2):
            head = await client.read_exactly(9)
            await client.read_exactly(int.from_bytes(head[:3]))
            kinds.append(head[3])
        # SETTINGS, then GOAWAY.
        assert kinds == [4, 7]
        assert pod.house.metrics.h2_goaway.value("held") == 1
        client.close()


async def test_an_http2_connection_that_waited_in_vain_may_ask_again_elsewhere() -> None:
    """None of its streams was taken (RFC 9113 section 8.7)."""
    async with fallen(hold_s=0.2) as pod:
        client = await pod.house.client()
        await client.send(PREFACE)
        said = await client.read_until_close()
        # GOAWAY, NO_ERROR, last stream 0.
        assert said.endswith(b"\0\0\x08\x07\0" + bytes(4) + bytes(8))
        assert pod.house.failed() == {"hold-timeout": 1}


async def test_those_who_wait_for_their_turn_wait_for_the_application_as_long() -> None:
    """Bounded by the queue: so many have a turn, so many wait for one, and the next is refused at once."""
    async with fallen(max_in_flight=1, max_queued=2, queue_timeout=0.1) as pod:
        clients = [await pod.house.client() for _ in range(4)]
        for number, client in enumerate(clients):
            await client.send(get(f"/{number}"))
            await pod.house.until(lambda most=number + 1: len(pod.house.inflight) == min(most, 3))
        refused = await clients[3].final()
        assert (refused.status, b"queue-full" in refused.body) == (503, True)
        limit = pod.house.concurrency_limit
        assert limit is not None
        await pod.house.until(lambda: len(limit._longer) == 2)
        await pod.back(answering(OK))
        for client in clients[:3]:
            assert (await client.final()).body == b"ok"
        assert not limit._longer


async def test_a_route_has_its_own_time() -> None:
    """None at all for what should fail fast."""
    routes = (Route(b"/fast", frozenset(), Timeouts(hold=0.0)),)
    async with fallen(routes=routes) as pod:
        client = await pod.house.client()
        await client.send(get("/fast/x"))
        assert not await client.read_until_close()
        assert client.end is End.RESET
        other = await pod.house.client()
        await other.send(get("/slow"))
        await pod.held()
        await pod.back(answering(OK))
        assert (await other.final()).body == b"ok"


async def test_the_applications_time_begins_with_its_return() -> None:
    """A request that waited is not late by the application's fault."""
    async with fallen(response_head_timeout=0.2) as pod:
        client = await pod.house.client()
        began = pod.house.loop.time()
        await client.send(GET)
        await pod.held()
        await pod.house.until(lambda: pod.house.loop.time() > began + 0.3)
        await pod.back(answering(OK))
        assert (await client.final()).body == b"ok"


async def test_an_application_that_comes_and_goes_is_waited_for_again() -> None:
    """In the same time, not in a new one."""
    async with fallen() as pod:
        client = await pod.house.client()
        await client.send(GET)
        await pod.held()
        presence = pod.house.pool.presence
        # Somebody was accepted, and the request is not.
        presence.accepts()
        await pod.house.until(lambda: presence.fallen)
        await pod.held()
        await pod.back(answering(OK))
        assert (await client.final()).body == b"ok"
        assert pod.ended() == {"back": 1}


async def test_off_is_as_ever() -> None:
    """Callers are refused at the door."""
    async with fallen(hold_s=None) as pod:
        await pod.house.until(lambda: not pod.house.listener.accepting)
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(("127.0.0.1", pod.house.port))
        await pod.back(answering(OK))
        await pod.house.until(lambda: pod.house.listener.accepting)
