"""Who is turned away in mid drain, and what that says of callers. Each limit: test_limits_in_a_drain.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Rules
from drainproxy.proxy.upstream.breaker import FAILURES
from tests.support.house import House
from tests.support.http2 import GOAWAY, SETTINGS, Http2
from tests.support.upstream import Upstream
from tests.support.wire import End
from tests.support.words import GET, OK, get

if TYPE_CHECKING:
    from tests.support.message import Message

SLOWLY = Rules(min_s=60, margin_s=60, quiet_s=0, max_s=60, hold_min=True)
AT_ONCE = Rules(min_s=0, margin_s=0, quiet_s=0, max_s=0, hold_min=True)
LARGE = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def busy(house: House, upstream: Upstream) -> None:
    """Somebody's request is in the application."""
    client = await house.client()
    await client.send(GET)
    await (await upstream.connection()).read_request()


async def asks(house: House, upstream: Upstream) -> Message:
    """A newcomer asks."""
    client = await house.client()
    await client.send(GET)
    return await client.final()


async def asks_in_vain(house: House, upstream: Upstream) -> Message:
    """The application is down, and nobody tries any more."""
    await upstream.close()
    for _ in range(FAILURES):
        await asks(house, upstream)
    return await asks(house, upstream)


async def test_a_caller_that_the_breaker_turns_away_was_refused() -> None:
    """Those that found the application down were lost, and came as well."""
    async with Upstream() as upstream, House(upstream, rules=SLOWLY, breaker_cooldown=60.0) as house:
        house.sigterm()
        assert (await asks_in_vain(house, upstream)).status == 503
        assert house.metrics.late_requests.value() == FAILURES + 1
        assert house.metrics.drain_requests.value("lost") == FAILURES
        assert house.metrics.drain_requests.value("refused") == 1


async def test_on_a_connection_older_than_the_drain_it_is_a_late_request_and_no_late_connection() -> None:
    """Which tells nothing of where callers are sent now."""
    async with Upstream() as upstream, House(upstream, rules=SLOWLY, max_body_bytes=5) as house:
        old = await house.client()
        await old.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(OK)
        await old.final()
        # uvloop's clock counts milliseconds, and who came in the one in which a drain begins came late.
        served_at = house.loop.time()
        await house.until(lambda: house.loop.time() > served_at)
        house.sigterm()
        await old.send(LARGE)
        assert (await old.final()).status == 413
        assert house.metrics.late_requests.value() == 1
        assert house.metrics.late_connections.value("request") == 0
        assert house.metrics.drain_requests.value("refused") == 1
        assert house.controller.drain.last_late is None


async def test_a_health_check_that_is_turned_away_is_no_late_request() -> None:
    """As when it is let in."""
    async with (
        Upstream() as upstream,
        House(upstream, rules=SLOWLY, max_in_flight=1, max_queued=None) as house,
    ):
        await busy(house, upstream)
        house.sigterm()
        client = await house.client()
        await client.send(get("/", "User-Agent: kube-probe/1.36"))
        assert (await client.final()).status == 503
        assert house.metrics.late_requests.value() == 0
        assert house.metrics.late_connections.value("probe") == 1
        assert house.controller.drain.last_late is None
        await upstream.close()


async def test_a_caller_with_a_request_that_is_not_for_us_came_late_and_was_not_refused() -> None:
    """Whoever sent it here sends others too; the fault is its own."""
    async with Upstream() as upstream, House(upstream, rules=SLOWLY) as house:
        house.sigterm()
        assert (await house.ask(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n")).status == 405
        assert house.metrics.late_requests.value() == 1
        assert house.metrics.drain_requests.value("refused") == 0


async def test_before_a_drain_whom_a_limit_turns_away_is_heard() -> None:
    """How often callers come is what a drain is judged by."""
    async with Upstream() as upstream, House(upstream, max_connections=1) as house:
        await busy(house, upstream)
        heard = sum(house.controller.arrival_rate._counts)
        await asks(house, upstream)
        assert sum(house.controller.arrival_rate._counts) == heard + 1
        assert house.metrics.drain_requests.value("refused") == 0
        await upstream.close()


# HTTP/2.


async def test_an_http2_caller_beyond_the_limit_came_late_and_was_refused() -> None:
    """It is told so in HTTP/2: none of its streams was taken."""
    async with Upstream() as upstream, House(upstream, rules=SLOWLY, max_connections=1) as house:
        await busy(house, upstream)
        house.sigterm()
        client = Http2(await house.client())
        await client.introduce()
        assert (await client.read()).kind == SETTINGS
        away = await client.read()
        assert (away.kind, away.last, away.code) == (GOAWAY, 0, 0)
        await client.wire.read_eof()
        assert house.metrics.h2_goaway.value("limit") == 1
        assert house.metrics.late_requests.value() == 1
        assert house.metrics.drain_requests.value("refused") == 1
        assert house.controller.drain.last_late is not None
        await upstream.close()


@pytest.mark.parametrize("streams", [0, 2])
async def test_an_http2_caller_that_the_breaker_turns_away_was_refused(streams: int) -> None:
    """Once where it had opened no stream yet, else for each of them."""
    async with Upstream() as upstream, House(upstream, rules=SLOWLY, breaker_cooldown=60.0) as house:
        house.sigterm()
        await asks_in_vain(house, upstream)
        refused, late = house.metrics.drain_requests.value("refused"), house.metrics.late_requests.value()
        client = Http2(await house.client())
        await client.introduce()
        requests = [client.request(number) for number in range(1, 2 * streams, 2)]
        if requests:
            await client.send(*requests)
        assert (await client.next(GOAWAY)).last == 0
        assert house.metrics.drain_requests.value("refused") - refused == max(1, streams)
        assert house.metrics.late_requests.value() - late == max(1, streams)


# Any protocol.


async def test_a_connection_of_any_protocol_beyond_the_limit_came_late_and_was_refused() -> None:
    """It counts among the tunnels, as those do that are let in."""
    async with Upstream() as upstream:
        where = upstream.address.replace("http", "tcp")
        async with House(where, rules=SLOWLY, max_connections=1) as house:
            first = await house.client()
            await first.send(b"x")
            await (await upstream.connection()).read_exactly(1)
            house.sigterm()
            late = await house.client()
            await late.read_until_close()
            assert late.end is End.RESET
            assert house.metrics.late_connections.value("request") == 1
            assert house.metrics.drain_tunnels.by_kind[("other", "refused")] == 1
            assert house.controller.drain.last_late is not None
            first.reset()


async def test_a_connection_of_any_protocol_shortly_before_the_deadline_is_refused() -> None:
    """With a reset: its client may try again elsewhere."""
    async with Upstream() as upstream:
        where = upstream.address.replace("http", "tcp")
        lifecycle = {"grace_period": 10.0, "app_stop": 0.0, "reserve": 0.0, "refuse_window": 20.0}
        async with House(where, rules=AT_ONCE, lifecycle=lifecycle) as house:
            first = await house.client()
            await first.send(b"x")
            await (await upstream.connection()).read_exactly(1)
            house.sigterm()
            await house.until(lambda: house.controller.published.phase is Phase.DRAINING)
            assert house.plane.admission.ending(house.loop.time())
            late = await house.client()
            await late.read_until_close()
            assert late.end is End.RESET
            assert house.refused() == {"drain-ending": 1}
            assert house.metrics.drain_tunnels.by_kind[("other", "refused")] == 1
            assert house.metrics.late_connections.value("request") == 1
            first.reset()
