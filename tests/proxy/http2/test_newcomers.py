"""Clients that come while the pod leaves: when each is told, and that it may ask first."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from drainproxy.lifecycle.propagation import PRESETS, Evidence, Routability, Rules
from tests.proxy.http2.test_connection import LAST, SLOWLY, asked
from tests.support.house import House
from tests.support.http2 import ACK, GOAWAY, HEADERS, PING, SETTINGS, Http2, frame
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IN_ORDER = frame(PING, ACK, 0, b"in order")
"""What the application says next, to tell what has not come before it."""


async def newcomer(house: House, upstream: Upstream) -> tuple[Http2, Http2]:
    """A client and the application it reaches; their SETTINGS have passed, and it has not asked anything."""
    client = Http2(await house.client())
    await client.introduce()
    application = Http2(await upstream.connection())
    await application.greet()
    # Not the proxy's: GOAWAY as a server's first frame is an error to its client (RFC 9113 section 3.4).
    assert (await client.read()).kind == SETTINGS
    return client, application


@contextlib.asynccontextmanager
async def leaving() -> AsyncIterator[tuple[House, Upstream]]:
    """A house that got SIGTERM, and still expects callers."""
    async with Upstream() as upstream, House(upstream, rules=SLOWLY) as house:
        house.sigterm()
        yield house, upstream


async def test_a_newcomer_is_told_with_its_first_stream_and_not_before() -> None:
    """Straight behind the SETTINGS a GOAWAY may lose the call for which a client of grpcio has come."""
    async with leaving() as (house, upstream):
        client, application = await newcomer(house, upstream)
        await application.send(IN_ORDER)
        assert (await client.read()).payload == b"in order"
        await asked(client, application, 1)
        away, ping = await client.read(), await client.read()
        assert (away.kind, away.last, ping.kind) == (GOAWAY, LAST, PING)
        await client.send(frame(PING, ACK, 0, ping.payload))
        await application.send(application.response(1, end=True))
        assert (await client.read()).kind == HEADERS
        assert (await client.next(GOAWAY)).last == 1
        await client.wire.read_eof()
        assert house.metrics.late_connections.value("request") == 1
        assert house.metrics.h2_goaway.value("drain") == 1


async def test_a_newcomer_that_asks_nothing_is_told_after_a_while() -> None:
    """And leaves, having taken nothing."""
    async with leaving() as (house, upstream):
        client, _ = await newcomer(house, upstream)
        assert [(await client.read()).kind for _ in range(2)] == [GOAWAY, PING]
        assert (await client.next(GOAWAY)).last == 0
        await client.wire.read_eof()
        assert house.metrics.h2_goaway.value("drain") == 1


AT_ONCE = {"propagating": Rules(min_s=0, margin_s=60, quiet_s=0, max_s=60), "draining": PRESETS["none"][0]}


@pytest.mark.parametrize("phase", AT_ONCE)
async def test_a_newcomer_is_told_at_once_when_the_cluster_sends_nobody_any_more(phase: str) -> None:
    """Who comes back again and again, to an address that it keeps, would hold the pod with one call after the
    other."""
    async with Upstream() as upstream, House(upstream, rules=AT_ONCE[phase]) as house:
        busy, behind = await newcomer(house, upstream)
        await asked(busy, behind, 1)
        house.controller.evidence(Evidence(Routability.GONE, since=house.loop.time()))
        house.sigterm()
        await house.until(lambda: house.controller.published.phase == phase)
        client, application = await newcomer(house, upstream)
        await application.send(IN_ORDER)
        seen = [await client.read() for _ in range(3)]
        assert [got.kind for got in seen] == [GOAWAY, PING, PING]
        assert seen[-1].payload == b"in order"


async def test_a_newcomer_to_a_pod_that_alone_serves_is_not_sent_away() -> None:
    """It would find nobody else; once there is another pod, it would."""
    rules = Rules(min_s=0, margin_s=60, quiet_s=0, max_s=60)
    async with Upstream() as upstream, House(upstream, rules=rules) as house:
        alone = Evidence(Routability.GONE, since=house.loop.time(), sole=True)
        house.controller.evidence(alone)
        house.sigterm()
        client, application = await newcomer(house, upstream)
        await application.send(IN_ORDER)
        assert (await client.read()).payload == b"in order"
        house.controller.evidence(replace(alone, sole=False))
        await application.send(IN_ORDER)
        seen = [await client.read() for _ in range(3)]
        assert [got.kind for got in seen] == [GOAWAY, PING, PING]
        assert seen[-1].payload == b"in order"
