"""Is the application up? What a probe tells the lifecycle, and when."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from drainproxy.addresses import UpstreamAddress
from drainproxy.errors import ConnectTimeout, UpstreamRefused
from drainproxy.metrics import Metrics
from drainproxy.proxy.upstream import probe as probing
from drainproxy.proxy.upstream.dialer import Dialer
from drainproxy.proxy.upstream.presence import Presence
from drainproxy.proxy.upstream.probe import Probe
from drainproxy.tasks import TICK_S
from tests.support import clock
from tests.support.clock import in_fake_time
from tests.support.flavours import of_sources
from tests.support.house import House
from tests.support.upstream import Upstream, answering
from tests.support.words import OK, ok

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Lifecycle:
    """Remembers what it was told, and when."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, float]] = []
        self.up = False

    def upstream_answers(self) -> None:
        """As the controller: only a change is news."""
        if not self.up:
            self.heard.append(("up", round(clock.now(), 2)))
        self.up = True

    def upstream_refuses(self) -> None:
        """As the controller: only a change is news."""
        if self.up:
            self.heard.append(("down", round(clock.now(), 2)))
        self.up = False


def deaf(host: str, port: int) -> bool | None:
    """A kernel that tells nothing, as in a sandbox."""
    return None


moody = of_sources("its pool is none")


class Moody:
    """A pool whose application accepts, refuses or is silent, as told."""

    def __init__(self) -> None:
        self.mood = "refuses"
        self.asked: list[float] = []
        loop, address = asyncio.get_running_loop(), UpstreamAddress("127.0.0.1", 1)
        self.presence = Presence(Dialer(address, loop), deaf, loop)
        self.open_count = 0

    async def connect(self, deadline: float) -> None:
        """As Pool.connect."""
        self.asked.append(clock.now())
        if self.mood == "refuses":
            self.presence.refuses()
            raise UpstreamRefused
        if self.mood == "silent":
            await asyncio.sleep(deadline - asyncio.get_running_loop().time())
            raise ConnectTimeout
        self.presence.accepts()

    def listens(self, host: str, port: int) -> bool | None:
        """As a kernel that tells what is so."""
        return self.mood != "refuses"

    def discard(self, connection: None) -> None:
        """As Pool.discard."""


class Scene:
    """A probe at work on moody applications."""

    def __init__(self, count: int = 1) -> None:
        self.applications = [Moody() for _ in range(count)]
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.probe = Probe(self.applications, None, self.lifecycle, self.metrics)  # type: ignore[arg-type]

    @property
    def asked(self) -> list[float]:
        """When the first application was asked."""
        return self.applications[0].asked


@contextlib.asynccontextmanager
async def scene(count: int = 1) -> AsyncIterator[Scene]:
    """Start a probe; stop it at the end."""
    made = Scene(count)
    task = asyncio.get_running_loop().create_task(made.probe.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@moody
@in_fake_time
async def test_an_application_that_comes_up_is_noticed_soon() -> None:
    """An outage lasts a fiftieth longer through us, and half a second at most."""
    async with scene() as here:
        await asyncio.sleep(0.1)
        assert len(here.asked) >= 9
        await asyncio.sleep(59.9)
        gaps = [
            (later - earlier, earlier) for earlier, later in zip(here.asked, here.asked[1:], strict=False)
        ]
        assert all(gap <= max(0.011, 0.021 * at) for gap, at in gaps)
        assert max(gap for gap, _ in gaps) == pytest.approx(probing.MAX_RETRY_S)
        here.applications[0].mood = "accepts"
        await asyncio.sleep(0.6)
        ((what, at),) = here.lifecycle.heard
        assert what == "up"
        assert 60 <= at <= 60.6
        assert here.metrics.upstream_up.value() == 1


@moody
@in_fake_time
async def test_an_application_that_answers_is_not_asked_at_all() -> None:
    """Its answers say that it is there, and so does a connection that stands."""
    async with scene() as here:
        application = here.applications[0]
        application.mood = "accepts"
        await asyncio.sleep(1)
        for _ in range(360):
            await asyncio.sleep(10)
            application.presence.alive_at = asyncio.get_running_loop().time()
        application.open_count = 1
        await asyncio.sleep(3600)
        assert len(here.asked) <= 2


@moody
@in_fake_time
async def test_where_the_kernel_tells_nobody_is_asked() -> None:
    """One connect at the start, and one to see that it is back. A death is noticed all the same."""
    async with scene() as here:
        application = here.applications[0]
        application.presence._kernel_listens = application.listens
        application.mood = "accepts"
        await asyncio.sleep(3600)
        for _ in range(100):
            application.presence.failed()
            application.presence.closed()
            await asyncio.sleep(0.1)
        asked = len(here.asked)
        assert asked <= 2
        application.mood = "refuses"
        await asyncio.sleep(TICK_S + 0.01)
        assert application.presence.fallen
        await asyncio.sleep(20)
        assert [what for what, _ in here.lifecycle.heard] == ["up", "down"]
        assert len(here.asked) == asked
        application.mood = "accepts"
        await asyncio.sleep(0.5)
        assert not application.presence.fallen
        assert len(here.asked) == asked + 1


@moody
@in_fake_time
async def test_while_somebody_is_served_a_death_is_seen_sooner() -> None:
    """Callers who come are refused at once then, and find another pod."""
    async with scene() as here:
        application = here.applications[0]
        application.presence._kernel_listens = application.listens
        application.mood = "accepts"
        for _ in range(100):
            application.presence.alive_at = asyncio.get_running_loop().time()
            await asyncio.sleep(0.37)
        application.mood = "refuses"
        await asyncio.sleep(probing.LOOK_S + 0.01)
        assert application.presence.fallen


@moody
@in_fake_time
async def test_an_application_that_nobody_asks_is_asked_seldom() -> None:
    """120 connects an hour; there were 720."""
    async with scene() as here:
        here.applications[0].mood = "accepts"
        await asyncio.sleep(3600)
        assert 118 <= len(here.asked) <= 122


@moody
@in_fake_time
async def test_ten_seconds_of_refusals_are_down() -> None:
    """Not nine; and the gauge shows it at once."""
    async with scene() as here:
        here.applications[0].mood = "accepts"
        await asyncio.sleep(1)
        here.applications[0].mood = "refuses"
        here.applications[0].presence.failed()
        first_refusal = clock.now()
        await asyncio.sleep(0.1)
        assert here.metrics.upstream_up.value() == 0
        await asyncio.sleep(20)
        (_, down) = here.lifecycle.heard
        assert down[0] == "down"
        assert 10 <= down[1] - first_refusal <= 10.6


@moody
@in_fake_time
async def test_a_short_refusal_is_not_down() -> None:
    """A restart of the application takes nothing away from its callers."""
    async with scene() as here:
        here.applications[0].mood = "accepts"
        await asyncio.sleep(1)
        for _ in range(5):
            here.applications[0].mood = "refuses"
            here.applications[0].presence.failed()
            await asyncio.sleep(9)
            here.applications[0].mood = "accepts"
            await asyncio.sleep(6)
        assert [what for what, _ in here.lifecycle.heard] == ["up"]


@moody
@in_fake_time
async def test_silence_is_never_down() -> None:
    """An application that is slow must not be taken away."""
    async with scene() as here:
        here.applications[0].mood = "accepts"
        await asyncio.sleep(1)
        here.applications[0].mood = "silent"
        await asyncio.sleep(120)
        assert [what for what, _ in here.lifecycle.heard] == ["up"]
        assert not here.applications[0].presence.fallen


@moody
@in_fake_time
async def test_silence_between_two_refusals_is_no_refusal() -> None:
    """Ten seconds of refusals in a row are meant."""
    async with scene() as here:
        here.applications[0].mood = "accepts"
        await asyncio.sleep(1)
        here.applications[0].mood = "refuses"
        here.applications[0].presence.failed()
        await asyncio.sleep(6)
        here.applications[0].mood = "silent"
        await asyncio.sleep(15)
        here.applications[0].mood = "refuses"
        await asyncio.sleep(5)
        assert [what for what, _ in here.lifecycle.heard] == ["up"]


@moody
@in_fake_time
async def test_a_failure_is_looked_into_at_once_and_again() -> None:
    """Some close their connections first, and then their door. Many failures are one doubt."""
    async with scene() as here:
        here.applications[0].mood = "accepts"
        await asyncio.sleep(1)
        before = len(here.asked)
        for _ in range(100):
            here.applications[0].presence.failed()
        await asyncio.sleep(0.01)
        assert len(here.asked) == before + 1
        await asyncio.sleep(1)
        assert len(here.asked) == before + 3


@moody
@in_fake_time
async def test_connections_that_are_merely_closed_are_looked_into_less_and_less() -> None:
    """An application may close after each answer; 60 looks an hour are enough, of three connects each."""
    async with scene() as here:
        here.applications[0].mood = "accepts"
        await asyncio.sleep(1)
        for _ in range(36000):
            await asyncio.sleep(0.1)
            here.applications[0].presence.alive_at = asyncio.get_running_loop().time()
            here.applications[0].presence.closed()
        assert len(here.asked) <= 3 * 70


@moody
@in_fake_time
async def test_one_of_two_that_refuses_is_enough_to_be_down() -> None:
    """A pod is up when all of it is."""
    async with scene(2) as here:
        here.applications[0].mood = "accepts"
        await asyncio.sleep(5)
        assert here.lifecycle.heard == []
        here.applications[1].mood = "accepts"
        await asyncio.sleep(1)
        assert [what for what, _ in here.lifecycle.heard] == ["up"]
        here.applications[1].mood = "refuses"
        here.applications[1].presence.closed()
        await asyncio.sleep(30)
        assert [what for what, _ in here.lifecycle.heard] == ["up", "down"]


@pytest.mark.parametrize(
    ("status", "up"), [(200, True), (404, True), (302, True), (500, False), (503, False)]
)
async def test_with_a_path_any_answer_below_500_is_up(status: int, up: bool) -> None:
    """The application decides what it says; that it says it is enough."""
    answer = ok(b"ok").replace(b"200 OK", b"%d X" % status)
    async with Upstream(answering(answer)) as upstream, House(upstream) as house:
        probe = Probe([house.pool], "/ready", house.controller, house.metrics)
        assert (await probe.ask() is probing.Answer.ACCEPTS) is up


async def test_with_a_path_an_application_that_accepts_and_says_nothing_is_silent(tmp_path) -> None:
    """Over a Unix socket too. It is not refused: it may be busy."""

    async def mute(connection) -> None:
        await connection.read_until_close()

    async with Upstream(mute, path=tmp_path / "app.sock") as upstream, House(upstream) as house:
        probe = Probe([house.pool], "/ready", house.controller, house.metrics)
        assert await probe.ask() is probing.Answer.SILENT


async def test_a_probe_of_a_path_asks_for_that_path() -> None:
    """Once, and closes."""
    async with Upstream() as upstream, House(upstream) as house:
        probe = Probe([house.pool], "/ready?deep=1", house.controller, house.metrics)
        asking = asyncio.ensure_future(probe.ask())
        application = await upstream.connection_with_bytes()
        assert (await application.read_request()).start == b"GET /ready?deep=1 HTTP/1.1"
        await application.send(OK)
        assert await asking is probing.Answer.ACCEPTS
        await application.read_until_close()


async def test_a_path_is_not_asked_of_what_speaks_another_protocol() -> None:
    """One path for every upstream: a database beside an application would never have been ready."""
    async with Upstream() as upstream, House(upstream.address.replace("http://", "tcp://")) as house:
        probe = Probe([house.pool], "/ready", house.controller, house.metrics)
        assert await probe.ask() is probing.Answer.ACCEPTS
