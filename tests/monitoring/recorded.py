"""A day of a fleet: drains of real processes, as they were scraped and pushed, laid out over 24 hours.

What a process exposes is kept byte for byte but for the time: its start is moved to where its pod's is. It is
written to a Prometheus in the order of time, each pod's series ended as a scrape ends them that finds nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from drainproxy.exposition import scrape
from drainproxy.metrics import WebhookMetrics
from tests.integration.application import Application
from tests.integration.scene import OK_CLOSE, entered, get, held
from tests.monitoring.bridge import Bridge, Sample
from tests.monitoring.ends import ENDS, pod_of
from tests.monitoring.prometheus import others
from tests.support.process import Proxy, get_admin
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_S = 86_400.0
SCRAPE_S = 60.0
EVERY_S = 1_800.0
"""From a drain to the next one."""
LIFE_S = 900.0
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
"""Prometheus' stale marker (model/value: StaleNaN)."""
BATCH = 10_000
HELD = "seen"
"""Whose application restarts before its drain, while a request waits."""

Scraped = dict[tuple[tuple[str, str], ...], float]


@dataclass
class Recording:
    """One pod's end. Times are seconds since its drain began."""

    workload: str
    began: float = 0.0
    expositions: list[tuple[float, Scraped]] = field(default_factory=list)
    pushed: list[Sample] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def end_was_scraped(self) -> bool:
        """A pod that has lost something waits for it; another may be gone before the next scrape."""
        ended = (("__name__", "drainproxy_phase"), ("phase", "drained"))
        return self.expositions[-1][1][ended] == 1


def parsed(text: str) -> Scraped:
    """Return an exposition's series."""
    return {
        (("__name__", sample.name), *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Keeper(Bridge):
    """Keeps what is pushed instead of passing it on."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Sample] = []

    async def write(self, samples: list[Sample]) -> str:
        """Take what a process pushed."""
        self.kept += samples
        return ""


async def record(workload: str, **more: str) -> Recording:
    """Let one pod end in its way, and keep what it says meanwhile. `more`: settings."""
    recording = Recording(workload)
    ending, settings = ENDS[workload]
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Application())
        keeper = await stack.enter_async_context(Keeper())
        usual = {"hold_while_down": "5s", "final_scrape_wait": "10s", "rbac": "none"}
        async with Proxy(
            upstreams=[upstream.address],
            metrics_push=keeper.endpoint,
            pod_name=pod_of(workload),
            pod_namespace="shop",
            **{**settings, **usual, **more},
        ) as proxy:
            await proxy.ready()
            await _served(proxy, upstream)
            await _scrape(proxy, recording)
            watching = asyncio.create_task(_watch(proxy, recording))
            if workload == HELD:
                upstream = await _restarted(stack, proxy, upstream)
            recording.began = time.time()
            await ending(proxy, upstream)
            assert await proxy.exit_code() == 0
            await watching
            recording.report = await proxy.line("drain_report")
        recording.pushed = keeper.kept
    assert recording.pushed
    return recording


async def _served(proxy: Proxy, upstream: Application) -> None:
    """An answer, so that what is measured of them has a value."""
    client, application = await held(proxy, upstream)
    await application.send(OK_CLOSE)
    assert (await client.final()).status == 200
    client.close()


async def _restarted(stack: contextlib.AsyncExitStack, proxy: Proxy, upstream: Application) -> Application:
    """Have a request wait for the application, which is gone and comes back; return the new one."""
    await upstream.stop_listening()
    client = await proxy.client()
    await client.send(get())
    async with asyncio.timeout(PATIENCE_S):
        while not (await proxy.metrics())["requests_held"]:
            await asyncio.sleep(0.01)
    back = await stack.enter_async_context(Application(port=upstream.port))
    application = await entered(back)
    await application.send(OK_CLOSE)
    assert (await client.final()).status == 200
    client.close()
    return back


async def _scrape(proxy: Proxy, recording: Recording) -> None:
    answer = await get_admin(proxy.admin, "/metrics")
    recording.expositions.append((time.time(), parsed(answer.body.decode())))


async def _watch(proxy: Proxy, recording: Recording) -> None:
    """Scrape it again and again until nobody is there, the last numbers included."""
    with contextlib.suppress(OSError, EOFError, AssertionError):
        while True:
            await asyncio.sleep(0.2)
            await _scrape(proxy, recording)


@dataclass
class Day:
    """What was laid out, and when."""

    start: float
    end: float
    drains: list[Recording] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    scraped: int = 0
    """Drains that pushed nothing."""

    def ended(self, outcome: str) -> int:
        """How many requests of that outcome there were, by the reports."""
        return sum(drain.report["requests"][outcome] for drain in self.drains)


def laid_out(recordings: list[Recording], end: float) -> Day:
    """Repeat the recordings through a day: every second drain is known by its push alone."""
    day = Day(end - DAY_S, end)
    count = int(DAY_S / EVERY_S)
    for number in range(count):
        recording = recordings[number % len(recordings)]
        day.drains.append(recording)
        began = day.start + (number + 0.9) * EVERY_S
        pushes = number // len(recordings) % 2 == 0 or not recording.end_was_scraped
        day.scraped += not pushes
        day.samples += _pod(recording, number, began, pushes=pushes)
    day.samples += _webhook(day)
    day.samples += _others(day)
    day.samples.sort(key=lambda sample: sample[2])
    return day


def _pod(recording: Recording, number: int, began: float, *, pushes: bool) -> Iterator[Sample]:
    """Yield what is known of one pod: who pushes is scraped at rest alone, the others at their end too."""
    place = {"cluster": "north", "namespace": "shop", "workload": recording.workload}
    place |= {"pod": pod_of(recording.workload, number), "container": "drainproxy"}
    moved = began - recording.began
    at_rest, last = recording.expositions[0], recording.expositions[-1]
    scrapes = [
        (began - 1 - SCRAPE_S * before, at_rest[1]) for before in range(int(LIFE_S / SCRAPE_S), -1, -1)
    ]
    if pushes:
        for labels, value, when in recording.pushed:
            own = {"cluster": "north", "instance": f"process-{number}"}
            if "pod" in labels:
                own["pod"] = place["pod"]
            yield labels | own, value, when + int(moved * 1000)
    else:
        scrapes.append((last[0] + moved, last[1]))
    for when, exposition in [*scrapes, (scrapes[-1][0] + SCRAPE_S, dict.fromkeys(last[1], STALE))]:
        for series, value in exposition.items():
            name = series[0][1]
            labels = {**place, "job": "drainproxy", "instance": f"10.0.0.{number}:29900", **dict(series)}
            # The stale marker is a NaN, and must stay the one it is.
            later = moved if name == "process_start_time_seconds" and not math.isnan(value) else None
            yield labels, value if later is None else value + later, int(when * 1000)


def _webhook(day: Day) -> Iterator[Sample]:
    """Yield what the webhook's own table exposes: a review a minute, a certificate, what is covered."""
    table = WebhookMetrics()
    table.certificate_expiry_seconds.set(7_776_000.0, "webhook")
    table.webhook_pods.set(2.0, "without")
    place = {"cluster": "north", "namespace": "drainproxy-system", "pod": "webhook-1", "job": "webhook"}
    for number in range(int(DAY_S / SCRAPE_S)):
        table.webhook_reviews.inc("injected")
        table.webhook_checks.inc("unchanged")
        table.webhook_review_seconds.observe(0.004)
        table.webhook_pods.set(float(number), "with")
        when = int((day.start + number * SCRAPE_S) * 1000)
        for series, value in parsed(scrape(table, "text/plain")[0].decode()).items():
            yield {**place, **dict(series)}, value, when


def _others(day: Day) -> Iterator[Sample]:
    for number in range(int(DAY_S / SCRAPE_S)):
        text = "".join(f"{name} {value}\n" for name, value in others(number).items())
        when = int((day.start + number * SCRAPE_S) * 1000)
        for series, value in parsed(text).items():
            yield {"cluster": "north", **dict(series)}, value, when


async def write(day: Day, remote_write: str) -> None:
    """Write it, oldest first."""
    async with Bridge() as bridge:
        bridge.remote_write = remote_write
        for first in range(0, len(day.samples), BATCH):
            assert await bridge.write(day.samples[first : first + BATCH]) == ""
