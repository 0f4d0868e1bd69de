"""Whom any limit turns away in mid drain came late and was refused, in every number, and delays quiet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from drainproxy import certificates
from drainproxy.certificates import Certificates, Files
from drainproxy.errors import LIMITS, leaves
from drainproxy.lifecycle.propagation import Reason, Rules
from drainproxy.proxy.message.trust import Trust
from drainproxy.proxy.preamble import Preamble
from drainproxy.proxy.upstream.breaker import FAILURES
from tests.support.descriptors import none_left
from tests.support.house import House
from tests.support.http2 import GOAWAY, HEADERS, RST, SETTINGS, Http2, frame
from tests.support.upstream import Upstream
from tests.support.words import GET, get

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.client import Client

    Deed = Callable[[House, Upstream], Awaitable[object]]

QUIET_S = 60.0
RULES = Rules(min_s=0, margin_s=0, quiet_s=QUIET_S, max_s=600)
LONG = {"grace_period": 3600.0}
LARGE = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = get("/", "Connection: upgrade", "Upgrade: websocket")
PROXIED = b"PROXY TCP4 203.0.113.7 203.0.113.9 5 6\r\n"


# Before the drain.


async def nothing(house: House, upstream: Upstream) -> None:
    """Nobody is there."""


async def busy(house: House, upstream: Upstream) -> None:
    """Somebody's request is in the application."""
    await ask(house, GET)
    await (await upstream.connection()).read_request()


async def busy_behind_a_proxy(house: House, upstream: Upstream) -> None:
    """The same, and a PROXY header has said whose."""
    await ask(house, PROXIED + GET)
    await (await upstream.connection()).read_request()


async def talking(house: House, upstream: Upstream) -> None:
    """A conversation of whatever protocol is under way."""
    await ask(house, b"x")
    await (await upstream.connection()).read_exactly(1)


async def down(house: House, upstream: Upstream) -> None:
    """The application has refused so many that nobody is tried for any more."""
    await upstream.close()
    for _ in range(FAILURES):
        assert (await (await ask(house, GET)).final()).status == 503


async def hung_up(house: House, upstream: Upstream) -> None:
    """The same, in a protocol without a word for it."""
    await upstream.close()
    for _ in range(FAILURES):
        await (await house.client()).read_until_close()


async def ask(house: House, request: bytes) -> Client:
    """A newcomer sends something."""
    client = await house.client()
    await client.send(request)
    return client


async def entered(house: House) -> Client:
    """A newcomer has connected, and been let in so far."""
    before = len(house.registry.clients)
    client = await house.client()
    await house.until(lambda: len(house.registry.clients) > before)
    return client


def reasons(house: House) -> dict[str, float]:
    """What was turned away, and what had begun already."""
    return {**house.refused(), **house.failed()}


def fill(house: House) -> None:
    """Take all the memory that there is."""
    house.buffers.room_bytes = 1
    house.buffers.weigh()


# In the middle of it: one caller who is turned away.


def told(request: bytes, status: int = 503) -> Deed:
    """A newcomer asks, and is told why not."""

    async def call(house: House, upstream: Upstream) -> None:
        assert (await (await ask(house, request)).final()).status == status

    return call


async def says_nothing(house: House, upstream: Upstream) -> None:
    """So many newcomers that one of them is refused before it asks."""
    clients = [await house.client() for _ in range(house.connection_limit._spare + 1)]
    assert (await clients[0].final()).status == 503


async def sends_more(house: House, upstream: Upstream) -> None:
    """A newcomer's body turns out to be large."""
    client = await ask(house, CHUNKED)
    await (await upstream.connection()).read_head()
    await client.send(b"a\r\n0123456789\r\n")
    assert (await client.final()).status == 413


async def half_asks(house: House, upstream: Upstream) -> None:
    """A newcomer's head is not whole, and there is no room."""
    client = await entered(house)
    fill(house)
    await client.send(GET[:-2])
    assert (await client.final()).status == 503


async def begins(house: House, upstream: Upstream) -> None:
    """A newcomer has begun with what comes before HTTP, and there is no room."""
    client = await entered(house)
    fill(house)
    await client.send(PROXIED[:10] if house.reads_header else b"\x16\x03\x01\x02\x00\x01\x00")
    await client.read_until_close()


async def pipelines(house: House, upstream: Upstream) -> None:
    """A newcomer sends far more requests than are answered at a time: the first one is served."""
    client = await ask(house, GET + GET * 1_500)
    await (await upstream.connection()).read_request()
    await house.until(lambda: bool(house.refused()))
    client.close()


async def has_no_descriptor(house: House, upstream: Upstream) -> None:
    """None is left for a newcomer's connection to the application."""
    client = await entered(house)
    with none_left():
        await client.send(GET)
        assert (await client.final()).status == 503


async def hears_goaway(house: House, upstream: Upstream) -> None:
    """A newcomer speaks HTTP/2, and is told to go elsewhere before it has opened a stream."""
    client = Http2(await house.client())
    await client.introduce()
    assert (await client.next(GOAWAY)).last == 0


async def speaks(house: House, upstream: Upstream) -> Http2:
    """A newcomer speaks HTTP/2, and the application has answered."""
    client = Http2(await house.client())
    await client.introduce()
    await Http2(await upstream.connection_with_bytes()).greet()
    await client.next(SETTINGS)
    return client


async def opens_two_streams(house: House, upstream: Upstream) -> None:
    """One more than it may: the first one is served."""
    client = await speaks(house, upstream)
    await client.send(client.request(1), client.request(3))
    assert (await client.next(RST)).stream == 3


async def opens_a_stream(house: House, upstream: Upstream) -> None:
    """There is no room for it."""
    client = await speaks(house, upstream)
    fill(house)
    await client.send(client.request(1))
    assert (await client.next(RST)).stream == 1


async def sends_half_a_frame(house: House, upstream: Upstream) -> None:
    """There is no room for what it is the beginning of."""
    client = await speaks(house, upstream)
    fill(house)
    await client.send(frame(HEADERS, 0, 1, bytes(8_000))[:100])
    await client.next(GOAWAY)
    await client.wire.read_until_close()


async def is_reset(house: House, upstream: Upstream) -> None:
    """A newcomer in any protocol."""
    await (await house.client()).read_until_close()


class Case(NamedTuple):
    """What turns a caller away, and how. `late`: how many requests have come; `kind`: of a tunnel."""

    reason: str
    call: Deed
    settings: dict[str, Any]
    before: Deed = nothing
    late: int = 1
    kind: str = ""
    first: str = ""


ONE = {"max_connections": 1}
ONE_EACH = {"max_connections_per_ip": 1}
NO_QUEUE = {"max_in_flight": 1, "max_queued": None}
SMALL = {"max_body_bytes": 5}
COOL = {"breaker_cooldown": 60.0}

CASES = {
    "connections": Case("too-many-connections", told(GET), ONE, busy),
    "connections, an upgrade": Case("too-many-connections", told(UPGRADE), ONE, busy, kind="websocket"),
    "connections, unheard": Case("too-many-connections", says_nothing, ONE, busy),
    "connections, HTTP/2": Case("too-many-connections", hears_goaway, ONE, busy),
    "connections, tcp": Case("too-many-connections", is_reset, ONE, talking, kind="other", first="tcp"),
    "per address": Case("too-many-per-client", told(GET), ONE_EACH, busy),
    "per address, PROXY": Case(
        "too-many-per-client", told(PROXIED), ONE_EACH, busy_behind_a_proxy, first="PROXY"
    ),
    "per address, tcp": Case("too-many-per-client", is_reset, ONE_EACH, talking, kind="other", first="tcp"),
    "in flight": Case("queue-full", told(GET), NO_QUEUE, busy),
    "in flight, an upgrade": Case("queue-full", told(UPGRADE), NO_QUEUE, busy, kind="websocket"),
    "queue": Case("queue-timeout", told(GET), {"max_in_flight": 1, "queue_timeout": 0.05}, busy),
    "body": Case("body-too-large", told(LARGE, 413), SMALL),
    "body, in the end": Case("body-too-large", sends_more, SMALL),
    "buffers": Case("out-of-buffers", half_asks, {}),
    "buffers, PROXY": Case("out-of-buffers", begins, {}, first="PROXY"),
    "buffers, TLS": Case("out-of-buffers", begins, {}, first="TLS"),
    "buffers, behind": Case("out-of-buffers", pipelines, {"max_buffer_bytes": 30_000}, late=2),
    "buffers, HTTP/2": Case("out-of-buffers", opens_a_stream, {}),
    "buffers, half a frame": Case("out-of-buffers", sends_half_a_frame, {}),
    "streams": Case("too-many-streams", opens_two_streams, {"h2_max_streams": 1}, late=2),
    "breaker": Case("breaker-open", told(GET), COOL, down),
    "breaker, HTTP/2": Case("breaker-open", hears_goaway, COOL, down),
    "breaker, tcp": Case("breaker-open", is_reset, COOL, hung_up, kind="other", first="tcp"),
    "descriptors": Case("out-of-descriptors", has_no_descriptor, {}),
}


def test_no_limit_is_forgotten() -> None:
    """Each leaf of LIMITS has a row; ports run out in a namespace (integration/test_out_of_ports.py)."""
    every = {leaf.reason for root in LIMITS for leaf in leaves(root)}
    assert {case.reason for case in CASES.values()} == every - {"out-of-sockets"}


@pytest.mark.parametrize("what", CASES)
async def test_whom_a_limit_turns_away_came_late_was_refused_and_delays_quiet(
    what: str, authority: Any
) -> None:
    """Once, whatever the limit and the protocol; nobody else is."""
    case = CASES[what]
    preamble = None
    if case.first == "PROXY":
        preamble = Preamble(None, Trust(("127.0.0.0/8",)))
    elif case.first == "TLS":
        certificate, key = authority.issue()
        preamble = Preamble(
            Certificates(Files(certificate=str(certificate), key=str(key)), certificates.for_clients)
        )
    async with Upstream() as upstream:
        where = upstream.address.replace("http", "tcp") if case.first == "tcp" else upstream
        async with House(where, rules=RULES, lifecycle=LONG, preamble=preamble, **case.settings) as house:
            house.reads_header = case.first == "PROXY"
            await case.before(house, upstream)
            room, before = house.buffers.room_bytes, reasons(house)
            house.sigterm()
            await case.call(house, upstream)
            await house.until(lambda: reasons(house) != before)
            house.buffers.room_bytes = room
            metrics, controller, drain = house.metrics, house.controller, house.controller.drain
            assert reasons(house) == {**before, case.reason: 1}
            assert metrics.late_requests.value() == case.late
            assert metrics.late_connections.values == {("request",): 1, ("probe",): 0, ("empty",): 0}
            assert metrics.drain_requests.value("refused") == (0 if case.kind else 1)
            assert metrics.drain_tunnels.value("refused") == (1 if case.kind else 0)
            verdict = controller._scales.verdict(controller._known(drain))
            assert verdict.waiting_for == "quiet after the last late arrival"
            assert verdict.check_at == drain.last_late + QUIET_S
            controller.abandon("the test is over", Reason.INTERRUPTED)
            await house.until(lambda: controller.report is not None)
            report = controller.report
            assert report.requests.late == case.late
            refused = {kind: tally.refused for kind, tally in report.tunnels.items() if tally.refused}
            assert (report.requests.refused, refused) == ((0, {case.kind: 1}) if case.kind else (1, {}))
            await upstream.close()
