"""Routes: which timeouts a request has, and that each of them ends what it is about, and nothing else."""

from __future__ import annotations

import asyncio
import math
from dataclasses import fields

import pytest

from drainproxy.lifecycle.propagation import Rules
from drainproxy.proxy.limits.routes import PROFILES, Route, Timeouts
from drainproxy.proxy.limits.routing import Routes, RouteTimeouts
from tests.proxy.test_timeouts import assert_error
from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import Upstream, answering
from tests.support.words import OK, get, post

SLOWLY = Rules(min_s=60, margin_s=60, quiet_s=0, max_s=60, hold_min=True)
"""Propagation that lasts as long as a test."""
DEFAULT = Timeouts()
SLOW = Timeouts(total=60)


def routes(path: str = "/api", *methods: str, **timeouts: float) -> tuple[Route, ...]:
    """One route."""
    return (Route(path.encode(), frozenset(method.encode() for method in methods), Timeouts(**timeouts)),)


@pytest.mark.parametrize(
    ("path", "target", "matches"),
    [
        ("/", b"/", True),
        ("/", b"/anything?x", True),
        ("/", b"*", False),
        ("/api", b"/api", True),
        ("/api", b"/api/", True),
        ("/api", b"/api/x", True),
        ("/api", b"/api?x=/y", True),
        ("/api", b"/apis", False),
        ("/api", b"/ap", False),
        ("/api", b"/v1/api", False),
        ("/api", b"/x?/api", False),
        ("/api/", b"/api", False),
        ("/api/", b"/api/x", True),
        ("/a%2Fb", b"/a%2Fb/c", True),
        ("/a%2Fb", b"/a/b/c", False),
        ("/a/b", b"/a/./b", False),
        ("/a/b", b"/A/b", False),
    ],
)
def test_a_path_matches_by_element_and_byte(path: str, target: bytes, matches: bool) -> None:
    """Nothing is decoded or normalised."""
    found = Routes((Route(path.encode(), frozenset(), SLOW),), DEFAULT).find(b"GET", target)
    assert said(found) == (SLOW if matches else DEFAULT)


def test_the_first_that_matches_counts() -> None:
    """Order is the reader's tool."""
    first, second = Timeouts(total=1), Timeouts(total=2)
    both = Routes((Route(b"/a", frozenset((b"POST",)), first), Route(b"/a", frozenset(), second)), DEFAULT)
    assert said(both.find(b"POST", b"/a/b")) == first
    assert said(both.find(b"GET", b"/a/b")) == second
    assert said(both.find(b"GET", b"/b")) == DEFAULT


def test_a_request_is_held_to_every_word_of_its_route() -> None:
    """None is lost between the file and the request."""
    every = Timeouts(
        connect=1, response_head=2, body=3, idle=4, total=5, drain=6, hold=7,
        streams="finish", websockets="finish",
    )  # fmt: skip
    assert all(getattr(every, each.name) != getattr(Timeouts(), each.name) for each in fields(Timeouts))
    assert said(Routes((Route(b"/", frozenset(), every),), DEFAULT).find(b"GET", b"/")) == every


def said(found: RouteTimeouts) -> Timeouts:
    """The words that make them."""
    return Timeouts(**{each.name: getattr(found, each.name) for each in fields(Timeouts)})


def test_without_a_profile_a_sidecar_limits_nothing() -> None:
    """The caller has a timeout of its own."""
    assert PROFILES["stream"].__class__() == DEFAULT
    assert DEFAULT.connect == DEFAULT.response_head == DEFAULT.idle == DEFAULT.total == math.inf


async def test_a_route_bounds_the_wait_for_a_head() -> None:
    """504 for who falls under it, patience for everybody else."""
    async with Upstream() as upstream, House(upstream, routes=routes(response_head=0.1)) as house:
        client, other = await house.client(), await house.client()
        await other.send(get("/b"))
        application = await upstream.connection()
        await application.read_request()
        await client.send(get("/api/x"))
        response = await client.final()
        assert response.status == 504
        assert b"response-head-timeout" in response.body
        await application.send(OK)
        assert (await other.final()).status == 200


async def test_a_route_bounds_the_time_of_a_body() -> None:
    """A client that trickles is told 408; one that is through may wait for its answer."""
    async with Upstream() as upstream, House(upstream, routes=routes(body=2.0)) as house:
        slow, through = await house.client(), await house.client()
        head = b"POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        await through.send(head + b"2\r\nab\r\n0\r\n\r\n")
        patient = await upstream.connection()
        await patient.read_request()
        await slow.send(head + b"2\r\nab\r\n")
        application = await upstream.connection()
        await application.read_head()
        assert_error(await slow.final(), 408, "body-timeout")
        await application.read_until_close()
        await patient.send(OK)
        assert (await through.final()).status == 200


async def test_a_body_that_waits_for_its_turn_has_its_time_from_then_on() -> None:
    """Nobody reads it before: the client cannot have sent it."""
    limits = {"max_in_flight": 1, "max_queued": 1, "queue_timeout": 60.0}
    async with Upstream() as upstream, House(upstream, routes=routes(body=0.5), **limits) as house:
        first, second = await house.client(), await house.client()
        await first.send(get("/other"))
        application = await upstream.connection()
        await application.read_request()
        await second.send(b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await house.until(lambda: house.concurrency_limit.queued == 1)
        house.loop.call_later(1.0, asyncio.ensure_future, application.send(OK))
        assert (await first.final()).status == 200
        taken = await application.read_head()
        assert taken.startswith(b"POST /api")
        assert_error(await second.final(), 408, "body-timeout")


async def test_idle_is_the_time_between_two_bytes() -> None:
    """What trickles goes on; what stops is cut so that the client sees it."""
    async with Upstream() as upstream, House(upstream, routes=routes(idle=0.4)) as house:
        client = await house.client()
        await client.send(get("/api"))
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        for byte in (b"a", b"b", b"c", b"d"):
            await asyncio.sleep(0.2)
            await application.send(byte)
        response = await client.final()
        assert (response.body, response.ending) == (b"abcd", Ending.RESET)
        assert house.metrics.errors.value("idle-timeout") == 1


async def test_an_idle_upload_ends_with_408() -> None:
    """The application had its head and a part of its body; the request is not completed."""
    async with Upstream() as upstream, House(upstream, routes=routes(idle=0.2)) as house:
        client = await house.client()
        await client.send(post(b"0123456789", path="/api")[:-4])
        application = await upstream.connection()
        response = await client.final()
        assert (response.status, response.one(b"connection")) == (408, b"close")
        assert (await application.read_request()).ending is not Ending.COMPLETE
        assert house.metrics.errors.value("client-idle") == 1
        client.half_close()


async def test_an_application_that_does_not_take_an_upload_is_idle_itself() -> None:
    """The client would send; it is held back."""
    async with Upstream(receive_buffer=4096) as upstream, House(upstream, routes=routes(idle=0.4)) as house:
        client = await house.client()
        await client.send(post(b"x" * 50_000_000, path="/api")[:200])
        await (await upstream.connection()).read_head()
        await client.send_until_stuck(b"x" * 100_000, 40_000_000)
        await house.until(lambda: house.metrics.errors.value("idle-timeout") == 1)
        client.reset()


async def test_a_client_that_takes_nothing_of_its_answer_is_cut() -> None:
    """So that it sees that something is missing."""
    async with Upstream() as upstream, House(upstream, routes=routes(idle=0.5), send_buffer=4096) as house:
        client = await house.client(receive_buffer=4096)
        await client.send(get("/api"))
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        await application.send_until_stuck(b"x" * 100_000, 40_000_000)
        await house.until(lambda: house.metrics.errors.value("client-idle") == 1)
        assert (await client.final()).ending is Ending.RESET


async def test_total_bounds_the_whole() -> None:
    """However lively it is."""
    async with Upstream() as upstream, House(upstream, routes=routes("/api", "GET", total=0.3)) as house:
        client = await house.client()
        await client.send(get("/api"))
        application = await upstream.connection()
        await application.read_request()
        await application.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        response = await client.final()
        assert response.ending is Ending.RESET
        assert house.metrics.errors.value("total-timeout") == 1


async def test_a_route_has_a_drain_timeout_of_its_own() -> None:
    """Shorter or longer than `drain_timeout`, which is for all others."""
    quick, slow = Timeouts(drain=0.1), Timeouts(drain=5.0)
    both = (Route(b"/quick", frozenset(), quick), Route(b"/slow", frozenset(), slow))
    lifecycle = {"drain_timeout": 0.5, "grace_period": 30.0}
    async with Upstream() as upstream, House(upstream, routes=both, lifecycle=lifecycle) as house:
        clients = {}
        for path in ("/quick", "/usual", "/slow"):
            clients[path] = await house.client()
            await clients[path].send(get(path))
            application = await upstream.connection()
            await application.read_request()
        house.sigterm()
        assert (await clients["/quick"].final()).status == 503
        assert (await clients["/usual"].final()).status == 503
        await application.send(OK)
        assert (await clients["/slow"].final()).status == 200


# health_paths.


async def test_a_health_path_is_the_applications_until_the_drain() -> None:
    """Then it is answered here, with 503 and close; every other path goes on."""
    async with (
        Upstream(answering(OK)) as upstream,
        House(upstream, health_paths=("/healthz",), rules=SLOWLY) as house,
    ):
        assert (await house.ask(get("/healthz"))).status == 200
        client, other = await house.client(), await house.client()
        for one in (client, other):
            await one.ask(get("/healthz?from=lb"))
        house.sigterm()
        response = await client.ask(get("/healthz?from=lb"))
        assert (response.status, response.one(b"connection")) == (503, b"close")
        assert response.body == b"503 Service Unavailable: draining\n"
        assert (await other.ask(get("/healthz/x"))).status == 200
        assert house.metrics.late_requests.value() == 1


async def test_an_expectation_of_a_1_0_client_means_nothing() -> None:
    """It is not passed on to an application that would see it in a 1.1 request (RFC 9110 section 10.1.1)."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(
            b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"
        )
        application = await upstream.connection()
        request = await application.read_request()
        assert request.one(b"expect") is None
        assert request.body == b"hi"
        await application.send(OK)
        assert (await client.final()).status == 200


async def test_a_client_that_reads_only_after_its_body_gets_the_early_answer() -> None:
    """8 MiB of a body nobody wants are read over, so that no reset overtakes the 413."""
    async with Upstream() as upstream, House(upstream, linger_s=0.2) as house:
        client = await house.client()
        body = b"x" * (8 * 1024 * 1024)
        raw = post(body)
        await client.send(raw[:1000])
        application = await upstream.connection()
        await application.read_head()
        await application.send(b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nbig")
        await client.send(raw[1000:])
        response = await client.final()
        assert (response.status, response.body) == (413, b"big")


@pytest.mark.parametrize("value", [b"x", b"-1", b"1, 0", b""])
async def test_a_max_forwards_that_is_no_number_is_refused(value: bytes) -> None:
    """Two readings of it exist."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: " + value + b"\r\n\r\n")
        assert (await client.final()).status == 400
        assert upstream.accepted == 0
