"""Who is let in, and what a drain notes of it."""

from __future__ import annotations

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Rules
from tests.support.house import House
from tests.support.upstream import Upstream, answering
from tests.support.words import GET, get

SLOWLY = Rules(min_s=60, margin_s=60, quiet_s=0, max_s=60, hold_min=True)
AT_ONCE = Rules(min_s=0, margin_s=0, quiet_s=0, max_s=0, hold_min=True)

PROBE = get("/", "User-Agent: kube-probe/1.36")


async def test_before_a_drain_the_first_request_of_a_connection_is_heard() -> None:
    """The second is not; a health check never is."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        for first in (GET, GET, PROBE):
            client = await house.client()
            await client.ask(first)
            await client.ask(GET)
        heard = sum(house.controller.arrival_rate._counts)
        assert heard == 2


async def test_while_propagating_requests_are_served_and_counted_late() -> None:
    """On an old connection late; on a new one a late arrival too."""
    async with Upstream(answering()) as upstream, House(upstream, rules=SLOWLY) as house:
        old = await house.client()
        assert (await old.ask(GET)).status == 200
        house.sigterm()
        assert house.controller.published.phase is Phase.PROPAGATING
        assert (await old.ask(GET)).status == 200
        assert house.metrics.late_requests.value() == 1
        assert house.metrics.late_connections.value("request") == 0
        assert (await house.ask(GET)).status == 200
        assert house.metrics.late_requests.value() == 2
        assert house.metrics.late_connections.value("request") == 1


async def test_a_late_health_check_is_no_late_request() -> None:
    """It says nothing about who still sends callers here."""
    async with Upstream(answering()) as upstream, House(upstream, rules=SLOWLY) as house:
        house.sigterm()
        assert (await house.ask(PROBE)).status == 200
        assert house.metrics.late_requests.value() == 0
        assert house.metrics.late_connections.value("probe") == 1


async def test_a_late_connection_without_a_request_is_counted_empty() -> None:
    """A port check; it delays nothing."""
    async with Upstream(answering()) as upstream, House(upstream, rules=SLOWLY) as house:
        house.sigterm()
        client = await house.client()
        await house.until(lambda: len(house.registry.clients) == 1)
        client.close()
        await house.until(lambda: house.metrics.late_connections.value("empty") == 1)


@pytest.mark.parametrize("left_s", [0.5, 5.0])
async def test_shortly_before_the_deadline_a_request_is_refused(left_s: float) -> None:
    """503 with Retry-After, before a byte of it reaches the application; earlier it is served."""
    settings = {"grace_period": left_s, "app_stop": 0.0, "reserve": 0.0, "leave_spread": 0.0}
    async with (
        Upstream() as upstream,
        House(upstream, rules=AT_ONCE, lifecycle={**settings, "refuse_window": 1.0}) as house,
    ):
        busy = await house.client()
        await busy.send(GET)
        application = await upstream.connection()
        await application.read_request()
        house.sigterm()
        await house.until(lambda: house.controller.published.phase is Phase.DRAINING)
        late = await house.client()
        await late.send(GET)
        if left_s < 1:
            response = await late.final()
            assert (response.status, response.one(b"retry-after")) == (503, b"1")
            assert response.one(b"connection") == b"close"
            assert b"drain-ending" in response.body
            assert upstream.accepted == 1
            assert house.metrics.drain_requests.value("refused") == 1
        else:
            second = await upstream.connection()
            await second.read_request()
            assert house.metrics.drain_requests.value("refused") == 0
        await upstream.close()
