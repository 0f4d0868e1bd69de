"""`max_in_flight`: so many requests are in the application, so many wait their turn, the rest is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Rules
from drainproxy.proxy.limits.routes import Route, Timeouts
from tests.support.house import House
from tests.support.upstream import Upstream, answering
from tests.support.words import GET, OK, get, ok, post

if TYPE_CHECKING:
    from tests.support.client import Client
    from tests.support.message import Message
    from tests.support.upstream import Connection

AT_ONCE = Rules(min_s=0, margin_s=0, quiet_s=0, max_s=0, hold_min=True)


async def asking(house: House, path: str) -> Client:
    """A client whose request has come to the proxy."""
    client, before = await house.client(), len(house.inflight)
    await client.send(get(path))
    await house.until(lambda: len(house.inflight) == before + 1)
    return client


async def served(upstream: Upstream, path: str) -> Connection:
    """The application gets the next request, which is for `path`."""
    connection = await upstream.connection()
    assert (await connection.read_request()).start == f"GET {path} HTTP/1.1".encode()
    return connection


def assert_refused(answer: Message, reason: bytes) -> None:
    """The client may come again, also on this connection."""
    assert (answer.status, answer.one(b"retry-after"), answer.one(b"connection")) == (503, b"1", None)
    assert answer.body == b"503 Service Unavailable: " + reason + b"\n"


async def test_requests_over_the_limit_wait_their_turn_in_order() -> None:
    """The application never has more; nobody is forgotten and nobody overtakes."""
    async with Upstream() as upstream, House(upstream, max_in_flight=2, queue_timeout=60.0) as house:
        clients = [await asking(house, f"/{number}") for number in range(5)]
        active = [await served(upstream, f"/{number}") for number in range(2)]
        assert house.concurrency_limit.queued == 3
        for number in range(2, 5):
            await active[number % 2].send(ok(b"%d" % (number - 2)))
            assert (await clients[number - 2].final()).body == b"%d" % (number - 2)
            assert (await active[number % 2].read_request()).start == f"GET /{number} HTTP/1.1".encode()
            assert upstream.accepted == 2
        for number in (3, 4):
            await active[number % 2].send(OK)
            assert (await clients[number].final()).body == b"ok"
        assert (house.concurrency_limit.queued, len(house.concurrency_limit._active)) == (0, 0)


@pytest.mark.parametrize("queued", [2, None], ids=["full", "no queue"])
async def test_a_full_queue_refuses_at_once(queued: int | None) -> None:
    """At its length and one more. The connection stays good; work under way is not touched."""
    async with (
        Upstream() as upstream,
        House(upstream, max_in_flight=1, max_queued=queued, queue_timeout=60.0) as house,
    ):
        first = await asking(house, "/1")
        application = await served(upstream, "/1")
        waiting = [await asking(house, "/2") for _ in range(queued or 0)]
        late = await house.client()
        # In the queue it would wait longer than a test is patient.
        for _ in range(5):
            assert_refused(await late.ask(GET), b"queue-full")
        assert house.refused() == {"queue-full": 5}
        await application.send(OK)
        assert (await first.final()).body == b"ok"
        for client in waiting:
            await application.read_request()
            await application.send(OK)
            assert (await client.final()).body == b"ok"


async def test_who_waits_too_long_is_refused() -> None:
    """Each for itself; who came later waits on."""
    async with Upstream() as upstream, House(upstream, max_in_flight=1, queue_timeout=0.3) as house:
        first = await asking(house, "/1")
        application = await served(upstream, "/1")
        second = await asking(house, "/2")
        await asyncio.sleep(0.15)
        third = await asking(house, "/3")
        assert_refused(await second.final(), b"queue-timeout")
        assert house.concurrency_limit.queued == 1
        await application.send(OK)
        assert (await first.final()).body == b"ok"
        assert (await application.read_request()).start == b"GET /3 HTTP/1.1"
        await application.send(OK)
        assert (await third.final()).body == b"ok"
        assert house.refused() == {"queue-timeout": 1}


@pytest.mark.parametrize("how", ["half_close", "reset"])
async def test_a_client_that_leaves_gives_its_place_in_the_queue_away(how: str) -> None:
    """The application never hears of it."""
    async with Upstream() as upstream, House(upstream, max_in_flight=1, max_queued=1) as house:
        first = await asking(house, "/1")
        application = await served(upstream, "/1")
        second = await asking(house, "/2")
        getattr(second, how)()
        await house.until(lambda: house.concurrency_limit.queued == 0)
        third = await asking(house, "/3")
        await application.send(OK)
        assert (await first.final()).body == b"ok"
        assert (await application.read_request()).start == b"GET /3 HTTP/1.1"
        await application.send(OK)
        assert (await third.final()).body == b"ok"


async def test_a_request_that_fails_ends_its_turn() -> None:
    """However it ends: refused, broken, left."""
    async with Upstream() as upstream, House(upstream, max_in_flight=1, queue_timeout=60.0) as house:
        first, second, third = [await asking(house, f"/{number}") for number in range(1, 4)]
        (await served(upstream, "/1")).close()
        assert (await first.final()).status == 502
        (await served(upstream, "/2")).reset()
        assert (await second.final()).status == 502
        application = await served(upstream, "/3")
        third.reset()
        await application.read_until_close()
        await house.until(lambda: not house.concurrency_limit._active)
    async with House("http://127.0.0.1:1", max_in_flight=1) as house:
        for _ in range(3):
            assert (await house.ask(GET)).status == 503
        assert not house.concurrency_limit._active


async def test_a_client_that_does_not_read_its_answer_holds_no_turn() -> None:
    """The application has done its part."""
    async with Upstream() as upstream, House(upstream, max_in_flight=1, send_buffer=4096) as house:
        slow, application = await house.unread(upstream, GET, ok(b"x" * 60_000))
        other = await asking(house, "/2")
        assert (await application.read_request()).start == b"GET /2 HTTP/1.1"
        await application.send(OK)
        assert (await other.final()).body == b"ok"
        assert len((await slow.final()).body) == 60_000


async def test_a_drain_waits_for_the_queue() -> None:
    """Who waits has been admitted."""
    async with Upstream() as upstream, House(upstream, rules=AT_ONCE, max_in_flight=1) as house:
        first, second = await asking(house, "/1"), await asking(house, "/2")
        application = await served(upstream, "/1")
        house.sigterm()
        await house.until(lambda: house.controller.published.phase is Phase.DRAINING)
        await application.send(OK)
        assert (await first.final()).body == b"ok"
        assert (await application.read_request()).start == b"GET /2 HTTP/1.1"
        assert house.controller.published.phase is Phase.DRAINING
        await application.send(OK)
        assert (await second.final()).one(b"connection") == b"close"
        await house.until(lambda: house.controller.drained)
        assert house.metrics.drain_requests.value("finished") == 2


async def test_a_body_waits_with_its_request() -> None:
    """In the socket, but for a bounded part; then it is forwarded whole."""
    body = bytes(range(256)) * 4096
    async with Upstream() as upstream, House(upstream, max_in_flight=1, queue_timeout=60.0) as house:
        first = await asking(house, "/1")
        application = await served(upstream, "/1")
        second = await house.client()
        sending = asyncio.ensure_future(second.send(post(body)))
        await house.until(lambda: house.concurrency_limit.queued == 1)
        await application.send(OK)
        await first.final()
        assert (await application.read_request()).body == body
        await sending
        await application.send(OK)
        assert (await second.final()).body == b"ok"


async def test_the_applications_time_begins_with_the_turn() -> None:
    """Waiting is not its fault."""
    async with (
        Upstream() as upstream,
        House(upstream, max_in_flight=1, response_head_timeout=0.4, queue_timeout=60.0) as house,
    ):
        first = await asking(house, "/1")
        application = await served(upstream, "/1")
        await asyncio.sleep(0.2)
        second = await asking(house, "/2")
        assert (await first.final()).status == 504
        application = await served(upstream, "/2")
        await asyncio.sleep(0.3)
        await application.send(OK)
        assert (await second.final()).body == b"ok"


async def test_without_the_setting_nobody_waits() -> None:
    """And nothing is counted."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        assert house.concurrency_limit is None
        assert (await house.ask(GET)).body == b"ok"


async def test_a_request_whose_time_is_up_in_the_queue_is_said_not_to_have_been_sent() -> None:
    """The application has seen nothing of it, and the access line must not say that it has."""
    # The one in the application outlasts the other: its end would let that one in.
    routes = tuple(
        Route(path, frozenset(), Timeouts(total=total)) for path, total in ((b"/1", 3.0), (b"/2", 0.5))
    )
    async with (
        Upstream() as upstream,
        House(upstream, max_in_flight=1, queue_timeout=60.0, routes=routes) as house,
    ):
        first = await asking(house, "/1")
        await served(upstream, "/1")
        second = await asking(house, "/2")
        assert (await first.final()).status == (await second.final()).status == 504
        assert [(line["path"], line["sent"]) for line in house.access] == [("/2", False), ("/1", True)]
