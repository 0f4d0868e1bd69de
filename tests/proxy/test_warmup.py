"""A new pod's application is asked before its callers come, once, and the pod is ready when that is over.

It is ready after its time whatever came of it, and who comes meanwhile is served.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from drainproxy.exposition import scrape
from drainproxy.proxy.accounting import first_minute
from drainproxy.proxy.accounting.first_minute import FirstMinute
from drainproxy.proxy.warmup import Warmup
from tests.integration.application import Application
from tests.proxy.probing import probed
from tests.support.flavours import of_sources
from tests.support.house import House
from tests.support.upstream import Upstream
from tests.support.words import GET, OK, get, ok

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from tests.support.upstream import Connection


class Warmed:
    """A house whose warm-up asks an application that keeps its answers until it is let."""

    def __init__(self) -> None:
        self.house: House
        self.warmup: Warmup
        self.asked: list[bytes] = []
        """Request lines of the warm-up."""
        self.inside = self.most = 0
        self.go = asyncio.Event()
        self.answers: list[bytes] = []
        """Given one after the other, OK once they are used up."""

    async def handle(self, connection: Connection) -> None:
        """Answer whoever else asks at once."""
        while (request := await connection.read_request()).start:
            if not any(b"(warm-up)" in line for line in request.all(b"user-agent")):
                await connection.send(ok(b"served"))
                continue
            self.asked.append(request.start)
            self.inside += 1
            self.most = max(self.most, self.inside)
            await self.go.wait()
            self.inside -= 1
            await connection.send(self.answers.pop(0) if self.answers else OK)

    @property
    def over(self) -> dict[str, Any]:
        """The line with which it ended."""
        (line,) = self.house.diary.of("warmup")
        return line


@contextlib.asynccontextmanager
async def warmed(application: Upstream | None = None, **how: Any) -> AsyncIterator[Warmed]:
    """An application that is there, and a pod that begins."""
    warmed = Warmed()
    async with contextlib.AsyncExitStack() as stack:
        if application is None:
            application = await stack.enter_async_context(Application(warmed.handle))
        settings = {"warmup": ("/a", "/b?c=1"), "warmup_count": 6, "warmup_concurrency": 2, **how}
        house = warmed.house = await stack.enter_async_context(House(application, up=False, **settings))
        warmed.warmup = Warmup(
            [house.pool],
            house.settings,
            lifecycle=house.controller,
            metrics=house.metrics,
            log=house.diary,  # type: ignore[arg-type]
            tasks=house.tasks,
        )
        probe = await stack.enter_async_context(probed(house, warmed.warmup))
        warmed.warmup.on_over = probe.judge
        try:
            yield warmed
        finally:
            warmed.go.set()
            await house.until(lambda: not len(house.tasks))
            house.pool.close_idle()


async def test_the_pod_is_ready_once_so_many_were_answered() -> None:
    """In turn, so many at a time; what the pod waits for is said."""
    async with warmed() as pod:
        controller = pod.house.controller
        await pod.house.until(lambda: pod.inside == 2)
        assert (controller.ready, controller.waiting_for()) == (False, "the warm-up to end")
        assert pod.warmup.status()["over"] is False
        pod.go.set()
        await pod.house.until(lambda: controller.ready)
        assert sorted(pod.asked) == [b"GET /a HTTP/1.1"] * 3 + [b"GET /b?c=1 HTTP/1.1"] * 3
        assert pod.most == 2
        assert (pod.over["answered"], pod.over["failed"], pod.over["ended_by"]) == (6, 0, "count")
        assert pod.house.metrics.warmup_seconds.value() > 0


async def test_who_comes_meanwhile_is_served() -> None:
    """Some callers do not ask whether a pod is ready."""
    async with warmed() as pod:
        await pod.house.until(lambda: pod.inside == 2)
        assert (await pod.house.ask(GET)).body == b"served"
        assert not pod.house.controller.ready


async def test_it_is_over_after_its_time_and_the_pod_is_ready() -> None:
    """An application that never answers it is none of a pod's that is not ready."""
    async with warmed(warmup_timeout=0.2) as pod:
        await pod.house.until(lambda: pod.house.controller.ready)
        assert (pod.over["level"], pod.over["ended_by"]) == ("warning", "timeout")
        assert pod.over["seconds"] > 0.18


async def test_an_application_that_hangs_up_is_asked_again_and_no_oftener_than_it_may() -> None:
    """So many requests, answered or not."""

    async def hang_up(connection: Connection) -> None:
        await connection.read_request()

    async with Upstream(hang_up) as application, warmed(application) as pod:
        await pod.house.until(lambda: pod.house.controller.ready)
        assert (pod.over["answered"], pod.over["failed"]) == (0, 6)


async def test_it_goes_on_until_ten_answers_in_a_row_have_the_status() -> None:
    """One may be luck."""
    async with warmed(warmup_until=200, warmup_concurrency=1) as pod:
        busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        pod.answers = [busy] * 3 + [OK] * 9 + [busy]
        pod.go.set()
        await pod.house.until(lambda: pod.house.controller.ready)
        assert len(pod.asked) == 3 + 9 + 1 + 10
        assert pod.over["ended_by"] == "until"


async def test_it_goes_on_until_answers_are_quick() -> None:
    """Those that waited were not."""
    async with warmed(warmup_until=0.15, warmup_concurrency=1) as pod:
        await pod.house.until(lambda: pod.inside == 1)
        began = pod.house.loop.time()
        await pod.house.until(lambda: pod.house.loop.time() > began + 0.2)
        pod.go.set()
        await pod.house.until(lambda: pod.house.controller.ready)
        assert len(pod.asked) >= 11


async def test_it_is_never_repeated() -> None:
    """Its callers keep a pod warm that serves."""
    application = Application()
    async with warmed(application) as pod:
        await application.__aenter__()
        application._handle = pod.handle
        pod.go.set()
        await pod.house.until(lambda: pod.house.controller.ready)
        asked = len(pod.asked)
        port = application.port
        await application.close()
        await pod.house.until(lambda: pod.house.pool.presence.fallen)
        async with Application(pod.handle, port=port):
            await pod.house.until(lambda: not pod.house.pool.presence.fallen)
            assert (await pod.house.ask(GET)).body == b"served"
            pod.house.pool.close_idle()
            await pod.house.until(lambda: not pod.house.pool.open_count)
        assert len(pod.asked) == asked == 6


async def test_a_drain_ends_it() -> None:
    """Nobody is warmed for, and the pod leaves as any other."""
    async with warmed() as pod:
        await pod.house.until(lambda: pod.inside == 2)
        pod.house.sigterm()
        await pod.house.until(lambda: pod.house.controller.drained)
        assert pod.over["ended_by"] == "drain"
        assert pod.house.controller.upstream_up


@of_sources("it replaces a constant")
async def test_requests_of_the_first_minute_are_counted_apart_and_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that the gain shows."""
    monkeypatch.setattr(first_minute, "MINUTE_S", 0.05)
    async with warmed() as pod:
        house = pod.house
        FirstMinute([house.plane.accounting], house.controller, house.metrics)
        assert (await house.ask(get("/young"))).body == b"served"
        pod.go.set()
        await house.until(lambda: house.controller.ready)
        everything, young = (
            house.metrics.request_duration_seconds,
            house.metrics.first_minute_duration_seconds,
        )
        await house.until(lambda: house.plane.accounting.durations is everything)
        assert (await house.ask(get("/old"))).body == b"served"
        for _ in range(2):
            scrape(house.metrics, "text/plain")
            assert (sum(young.counts), sum(everything.counts)) == (1, 2)


async def test_an_answer_ends_as_any_other_does() -> None:
    """By its length, its last chunk, its head, or with its connection."""
    answers = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nall of it",
        b"HTTP/1.1 2\r\n\r\n",
    ]

    async def handle(connection: Connection) -> None:
        # A probe hangs up without a word.
        if (await connection.read_request()).start:
            await connection.send(answers.pop(0))

    async with Upstream(handle) as application, warmed(application, warmup_count=4) as pod:
        await pod.house.until(lambda: pod.house.controller.ready)
        assert (pod.over["answered"], pod.over["failed"]) == (3, 1)
