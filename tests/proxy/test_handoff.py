"""Requests that a pod cannot serve go to a sibling: once, streamed, as if their clients had come there.

Where there is no sibling, or none answers, callers meet what they met without this.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.lifecycle.port import Sibling
from drainproxy.proxy import filters
from drainproxy.proxy.http1 import claim
from drainproxy.proxy.transport_settings import TransportSettings
from drainproxy.proxy.upstream import handoff
from tests.integration.application import Application
from tests.proxy.probing import probed, reserved
from tests.support.client import Client
from tests.support.flavours import of_sources
from tests.support.house import House
from tests.support.http2 import PREFACE
from tests.support.upstream import Upstream, answering
from tests.support.wire import End
from tests.support.words import GET, GET_1_0, OK, get, ok, post, switching, upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.message import Message
    from tests.support.upstream import Connection

KEY = b"0b1e6f0a-0000-4000-8000-000000000001"
FIELD = "Drainproxy-Handoff"


class Family:
    """What the cluster says of siblings; None: nothing."""

    def __init__(self, *members: Sibling) -> None:
        self.members: list[Sibling] | None = list(members)
        self.keys: tuple[bytes, ...] = (KEY,)
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def read(self, port: int) -> list[Sibling] | None:
        """See Siblings."""
        self.reads += 1
        await self.answers.wait()
        return None if self.members is None else list(self.members)


def at(port: int, *, near: bool = False) -> Sibling:
    """A sibling on this machine."""
    return Sibling("127.0.0.1", port, near)


class Other:
    """A sibling pod: a house and its application, which keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Message] = []
        self.house: House
        self.answer = ok(b"sibling")

    async def handle(self, connection: Connection) -> None:
        """Answer."""
        while (request := await connection.read_request()).start:
            self.asked.append(request)
            await connection.send(self.answer)


@contextlib.asynccontextmanager
async def other(family: Family | None = None, **how: Any) -> AsyncIterator[Other]:
    """A sibling that serves."""
    other = Other()
    family = Family() if family is None else family
    async with (
        Upstream(other.handle) as application,
        House(application, siblings=family, handoff="on", **how) as house,
    ):
        other.house = house
        yield other
        house.pool.close_idle()
        await house.until(lambda: not house.pool.open_count and not house.registry.clients)


@contextlib.asynccontextmanager
async def fallen(family: Family, **how: Any) -> AsyncIterator[House]:
    """A pod whose application was there once and refuses now."""
    async with contextlib.AsyncExitStack() as stack:
        async with Application(answering(OK)) as application:
            how = {"handoff": "on", **how}
            house = House(application, siblings=family, **how)
            await stack.enter_async_context(house)
            await stack.enter_async_context(probed(house))
            await house.until(lambda: house.pool.presence.came)
            port = application.port
        stack.enter_context(reserved(port))
        await house.until(lambda: house.pool.presence.fallen)
        yield house


def outcomes(house: House) -> dict[str, float]:
    """What came of requests that were handed on."""
    return {name: count for (name,), count in house.metrics.handoff.values.items() if count}


@pytest.mark.parametrize("request_", [GET, post(b"abc"), GET_1_0], ids=["get", "post", "1.0"])
async def test_a_sibling_answers_for_an_application_that_has_fallen(request_: bytes) -> None:
    """As if its client had come there, which is sent away with the answer."""
    async with other() as sibling, fallen(Family(at(sibling.house.port))) as house:
        client = await house.client()
        await client.send(request_)
        answer = await client.final()
        assert (answer.body, answer.one(b"connection")) == (b"sibling", b"close")
        (asked,) = sibling.asked
        assert asked.start.split()[:2] == request_.split()[:2]
        body = request_.partition(b"\r\n\r\n")[2]
        assert (asked.body, asked.one(b"x-forwarded-for")) == (body, b"127.0.0.1")
        assert not asked.all(FIELD.lower().encode())
        assert (outcomes(house), house.failed(), house.refused()) == ({"answered": 1}, {}, {})
        assert sibling.house.metrics.handoff_received.value("sibling") == 1
        (line,) = house.access
        assert (line["status"], line["sibling"]) == (200, "127.0.0.1")


async def test_it_is_believed_whatever_form_the_target_had() -> None:
    """What goes on is the origin form (RFC 9112 section 3.2.1), and that is what the proof is about."""
    async with other() as sibling, fallen(Family(at(sibling.house.port))) as house:
        for target in (b"http://a/x?y=z", b"http://a"):
            await house.ask(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [each.start.split()[1] for each in sibling.asked] == [b"/x?y=z", b"/"]
        assert sibling.house.metrics.handoff_received.value("sibling") == 2


async def test_the_door_is_open_as_long_as_somebody_serves_behind_it() -> None:
    """Without siblings callers are turned away as ever."""
    async with other() as sibling, fallen(Family(at(sibling.house.port))) as house:
        await house.until(lambda: not len(house.tasks))
        assert house.listener.accepting
        assert (await house.ask(GET)).body == b"sibling"
    for nobody in (Family(), Family()):
        nobody.members = nobody.members and None
        async with fallen(nobody) as house:
            await house.until(lambda house=house: not house.listener.accepting)
            with pytest.raises(ConnectionRefusedError):
                await Client.connect(("127.0.0.1", house.port))


async def test_a_body_is_streamed_to_it_and_from_it() -> None:
    """Each side is held back by the other."""
    body = bytes(range(256)) * 16384
    async with other() as sibling, fallen(Family(at(sibling.house.port))) as house:
        sibling.answer = ok(body)
        client = await house.client()
        await client.send(post(body))
        assert (await client.final()).body == body
        assert sibling.asked[0].body == body
        assert house.buffers.held_bytes < len(body)


async def test_a_sibling_never_hands_on() -> None:
    """Two pods without applications and a caller: each is asked once."""
    mine, theirs = Family(), Family()
    async with fallen(theirs) as second, fallen(mine) as first:
        mine.members, theirs.members = [at(second.port)], [at(first.port)]
        for house in (first, second):
            house.plane.handoff._read_at = -1e9
            await house.plane.handoff._look(house.loop.time() + 5)
            house.pool.presence.review()
            await house.until(lambda house=house: house.listener.accepting)
        client = await first.client()
        await client.send(post(b"abc"))
        answer = await client.final()
        assert (answer.status, b"upstream-refused" in answer.body or b"breaker" in answer.body) == (503, True)
        assert second.metrics.handoff_received.value("sibling") == 1
        assert first.metrics.handoff_received.value("sibling") == 0
        assert outcomes(second) == {}


async def test_a_stranger_opens_nothing_with_the_field() -> None:
    """It is taken off, what it would spare is done, and nobody hands such a request on."""
    edge = TransportSettings(forwarding="replace")
    async with other(filters=filters.build(edge)) as sibling:
        forged = f"{FIELD}: 1; t=1764400000; mac={'0' * 64}"
        answer = await sibling.house.ask(get("/", forged, "X-Forwarded-For: 9.9.9.9"))
        assert answer.body == b"sibling"
        (asked,) = sibling.asked
        assert (asked.one(b"x-forwarded-for"), asked.all(FIELD.lower().encode())) == (b"127.0.0.1", [])
        assert sibling.house.metrics.handoff_received.value("stranger") == 1
        async with fallen(Family(at(sibling.house.port))) as house:
            client = await house.client()
            await client.send(get("/", forged))
            assert not await client.read_until_close()
            assert client.end is End.RESET
            assert len(sibling.asked) == 1


async def test_what_this_pod_says_of_the_client_stays_as_it_is() -> None:
    """The sibling would name this pod for it."""
    edge = TransportSettings(forwarding="append", via=True)
    async with (
        other(filters=filters.build(edge)) as sibling,
        fallen(Family(at(sibling.house.port)), filters=filters.build(edge)) as house,
    ):
        assert (await house.ask(get("/", "X-Forwarded-For: 9.9.9.9"))).body == b"sibling"
        (asked,) = sibling.asked
        assert asked.one(b"x-forwarded-for") == b"9.9.9.9, 127.0.0.1"
        assert len(asked.all(b"via")) == 1


async def test_a_sibling_that_takes_a_request_and_hangs_up_is_the_last_one_asked() -> None:
    """One extra request for each, whatever it is; a POST is told that nobody knows."""
    asked = []

    async def hang_up(connection: Connection) -> None:
        if (request := await connection.read_request()).start:
            asked.append(request.start)

    async with (
        Upstream(hang_up) as liar,
        Upstream(hang_up) as second,
        fallen(Family(at(liar.port), at(second.port))) as house,
    ):
        client = await house.client()
        await client.send(post(b"abc"))
        answer = await client.final()
        assert (answer.status, b"upstream-gone" in answer.body) == (502, True)
        assert b"a sibling closed its connection" in answer.body or answer.status == 502
        assert len(asked) == 1
        client = await house.client()
        await client.send(GET)
        assert not await client.read_until_close()
        assert len(asked) == 2
        assert outcomes(house) == {"lost": 2}
        assert house.metrics.retries.value() == 0


async def test_siblings_that_refuse_are_tried_twice_and_then_it_is_as_ever() -> None:
    """Two connects for a request, and each of those that refused is left out for a while."""
    ports = []
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            ports.append(gone.getsockname()[1])
    family = Family(*map(at, ports))
    async with other() as sibling, fallen(family) as house:
        client = await house.client()
        await client.send(post(b"abc"))
        answer = await client.final()
        assert (answer.status, b"upstream-refused" in answer.body) == (503, True)
        assert (outcomes(house), len(house.plane.handoff._left_out)) == ({"unreachable": 1}, 2)
        family.members = [*family.members, at(sibling.house.port)]
        house.plane.handoff._read_at = house.plane.handoff._heard_at = -1e9
        assert (await house.ask(post(b"abc"))).body == b"sibling"
        assert (await house.ask(post(b"abc"))).body == b"sibling"


async def test_one_that_does_not_answer_a_connect_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a NetworkPolicy drops what is sent: so long a request waits, and no longer."""
    monkeypatch.setattr(handoff, "CONNECT_S", 0.1)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.create_connection(("127.0.0.1", port))]
        async with other() as sibling, fallen(Family(at(port, near=True), at(sibling.house.port))) as house:
            began = house.loop.time()
            assert (await house.ask(GET)).body == b"sibling"
            assert house.loop.time() - began > 0.08
            await house.until(lambda: not house.plane.handoff._house.open)
        for each in waiting:
            each.close()


async def test_where_nobody_takes_it_a_request_waits_if_it_may() -> None:
    """Handed on first, held otherwise."""
    family = Family()
    async with fallen(family, hold_while_down=20.0) as house:
        client = await house.client()
        await client.send(GET)
        await house.until(lambda: house.metrics.requests_held.value() == 1)
        async with Application(answering(OK), port=house.pool.address.port):
            assert (await client.final()).body == b"ok"
            house.pool.close_idle()
            await house.until(lambda: not house.pool.open_count)
        assert outcomes(house) == {"nobody": 1}


async def test_a_get_that_was_in_the_application_goes_to_a_sibling_and_a_post_does_not() -> None:
    """Nobody knows how far it had come."""
    async with (
        other() as sibling,
        Application() as application,
        House(application, siblings=Family(at(sibling.house.port)), handoff="on") as house,
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
        assert (await ordering.final()).status == 502
        assert (await asking.final()).body == b"sibling"
        assert [each.start for each in sibling.asked] == [b"GET / HTTP/1.1"]


async def test_a_process_that_dies_may_close_its_door_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections end first, one by one; one that ends while the door stays open is its own matter."""
    looks_s = claim.LOOKS_S
    monkeypatch.setattr(claim, "LOOKS_S", (0.01,) * 1000)
    async with (
        other() as sibling,
        Application() as application,
        House(application, siblings=Family(at(sibling.house.port)), handoff="on") as house,
        probed(house),
    ):
        asking = await house.client()
        await asking.send(GET)
        connection = await application.connection_with_bytes()
        await connection.read_request()
        connection.reset()
        await house.until(lambda: house.metrics.retries.value() == 1)
        await application.stop_listening()
        assert (await asking.final()).body == b"sibling"
    monkeypatch.setattr(claim, "LOOKS_S", looks_s)
    async with (
        other() as sibling,
        Application() as application,
        House(application, siblings=Family(at(sibling.house.port)), handoff="on") as house,
        probed(house),
    ):
        await asking_alone(house, application)
        assert not sibling.asked


async def asking_alone(house: House, application: Application) -> None:
    """One request whose connection ends, and nothing else does."""
    client = await house.client()
    await client.send(GET)
    connection = await application.connection_with_bytes()
    await connection.read_request()
    connection.reset()
    assert (await client.final()).status == 502


async def test_what_a_drain_refuses_goes_to_a_sibling() -> None:
    """Near its end, and an upgrade while others leave; a health check hears what it asked."""
    how = {"lifecycle": {"grace_period": 30.0}, "health_paths": ("/healthz",)}
    async with (
        other() as sibling,
        Application() as application,
        House(application, siblings=Family(at(sibling.house.port)), handoff="on", **how) as house,
    ):
        held, changing, asking = await house.client(), await house.client(), await house.client()
        await held.send(post(b"abc"))
        connection = await application.connection_with_bytes()
        house.sigterm()
        await house.until(lambda: house.controller.published.phase == "draining")
        sibling.answer = switching("chat")
        await changing.send(upgrade("/", "chat"))
        assert await changing.read_head() == switching("chat")
        changing.close()
        sibling.answer = ok(b"sibling")
        assert (await house.ask(get("/healthz"))).status == 503
        house.controller.drain.refusing = True
        house.controller._publish(house.controller.published.phase)
        await asking.send(post(b"late"))
        assert (await asking.final()).body == b"sibling"
        await connection.read_request()
        await connection.send(OK)
        assert (await held.final()).body == b"ok"
        assert (outcomes(house), house.refused()) == ({"answered": 2}, {"draining": 1})


async def test_after_a_drain_siblings_are_asked_first() -> None:
    """The application may stop at any moment; where there is nobody else it is asked as ever."""
    family = Family()
    async with (
        other() as sibling,
        Application(answering(OK)) as application,
        House(application, siblings=family, handoff="on") as house,
    ):
        house.sigterm()
        await house.until(lambda: house.controller.drained)
        assert (await house.ask(post(b"a"))).body == b"ok"
        family.members = [at(sibling.house.port)]
        house.plane.handoff._read_at = -1e9
        assert (await house.ask(post(b"b"))).body == b"sibling"
        house.pool.close_idle()
        await house.until(lambda: not house.pool.open_count)


async def test_what_a_limit_refuses_goes_on_where_that_is_asked_for() -> None:
    """A full queue here says nothing of the one there."""
    for setting in ("limits", "on"):
        async with other() as sibling, Application() as application:
            how = {"max_in_flight": 1, "max_queued": 1, "queue_timeout": 0.1, "handoff": setting}
            async with House(application, siblings=Family(at(sibling.house.port)), **how) as house:
                inside, queued, over = [await house.client() for _ in range(3)]
                await inside.send(GET)
                connection = await application.connection_with_bytes()
                await queued.send(GET)
                await house.until(lambda house=house: house.concurrency_limit.queued == 1)
                await over.send(post(b"abc"))
                answers = [await over.final(), await queued.final()]
                expected = [200, 200] if setting == "limits" else [503, 503]
                assert [answer.status for answer in answers] == expected
                await connection.read_request()
                await connection.send(OK)
                assert (await inside.final()).body == b"ok"


async def test_those_of_the_own_zone_come_first_each_in_its_turn() -> None:
    """And others where those of the zone do not answer."""
    async with other() as one, other() as two, other() as far:
        family = Family(at(far.house.port), at(one.house.port, near=True), at(two.house.port, near=True))
        async with fallen(family) as house:
            for _ in range(6):
                assert (await house.ask(GET)).body == b"sibling"
            assert [len(each.asked) for each in (one, two, far)] == [3, 3, 0]


@of_sources("it replaces constants")
async def test_the_cluster_is_asked_once_for_many_and_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it does not answer, what it said last serves on for a while."""
    async with other() as sibling:
        family = Family(at(sibling.house.port))
        async with fallen(family) as house:
            answers = await asyncio.gather(*(house.ask(get(f"/{number}")) for number in range(20)))
            assert {answer.body for answer in answers} == {b"sibling"}
            assert family.reads == 1
            monkeypatch.setattr(handoff, "FRESH_S", 0.0)
            family.members = None
            assert (await house.ask(GET)).body == b"sibling"
            await house.until(lambda: family.reads == 2 and not len(house.tasks))
            assert (await house.ask(GET)).body == b"sibling"
            await house.until(lambda: not len(house.tasks))
            monkeypatch.setattr(handoff, "STALE_S", 0.0)
            client = await house.client()
            await client.send(GET)
            assert not await client.read_until_close()


async def test_a_cluster_that_does_not_answer_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request's second, and then it is as ever."""
    monkeypatch.setattr(handoff, "READ_S", 0.1)
    family = Family()
    family.answers.clear()
    async with fallen(family) as house:
        client = await house.client()
        await client.send(post(b"abc"))
        assert (await client.final()).status == 503
        assert outcomes(house) == {"nobody": 1}
        family.answers.set()


async def test_http2_is_not_handed_on() -> None:
    """Its frames pass untouched, and its clients may ask again elsewhere: none of their streams was taken."""
    async with other() as sibling, fallen(Family(at(sibling.house.port))) as house:
        client = await house.client()
        await client.send(PREFACE)
        said = await client.read_until_close()
        assert said.endswith(b"\0\0\x08\x07\0" + bytes(4) + bytes(8))
        assert not sibling.asked


async def test_a_client_that_leaves_ends_what_was_handed_on_for_it() -> None:
    """On both pods."""
    async with (
        Application() as slow,
        House(slow, siblings=Family(), handoff="on") as second,
        fallen(Family(at(second.port))) as house,
    ):
        client = await house.client()
        await client.send(GET)
        await slow.connection_with_bytes()
        client.close()
        await house.until(lambda: outcomes(house) == {"left": 1})
        await second.until(lambda: not len(second.inflight))


async def test_off_is_as_ever() -> None:
    """The field passes, and means nothing."""
    async with Upstream() as application, House(application) as house:
        client = await house.client()
        await client.send(get("/", f"{FIELD}: 1"))
        connection = await application.connection_with_bytes()
        assert (await connection.read_request()).one(FIELD.lower().encode()) == b"1"
        await connection.send(OK)
        assert (await client.final()).body == b"ok"
        assert house.plane.handoff is None
