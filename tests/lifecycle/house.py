"""A lifecycle with everything it talks to, on a clock of its own, and works that behave like the proxy's."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.propagation import PRESETS, Evidence, Routability, Rules
from drainproxy.lifecycle.report import Cause
from drainproxy.lifecycle.settings import LifecycleSettings
from drainproxy.metrics import Metrics
from tests.support import clock
from tests.support.hold import hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.lifecycle.machine import Phase


@dataclass(frozen=True)
class Line:
    """One log line, and the second it was written in."""

    at: float
    event: str
    fields: dict[str, Any]


class Diary:
    """A Log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def event(self, event: str, /, level: str = "info", **fields: Any) -> None:
        """Write one line."""
        self.lines.append(Line(clock.now(), event, {"level": level, **fields}))

    def of(self, event: str) -> list[Line]:
        """Return the lines of one event, oldest first."""
        return [line for line in self.lines if line.event == event]


class Request:
    """A Work that runs as the proxy's do: a coroutine holds it, and keeps the books once it has ended."""

    kind = "http"

    def __init__(self, house: House, own_deadline: float = math.inf) -> None:
        self.started = house.loop.time()
        self.own_deadline = own_deadline
        self.deadline = min(own_deadline, house.controller.published.work_deadline)
        self.ended_at: float | None = None
        self.outcome: str | None = None
        self.cut_for: str | None = None
        self._house = house
        self._end: asyncio.Future[str] = house.loop.create_future()
        self.task = house.loop.create_task(self._run())

    def drain_by(self, deadline: float) -> None:
        """Take the drain's deadline beside its own; `math.inf` takes it back."""
        self.deadline = min(self.own_deadline, deadline)

    def leave(self) -> None:
        """Requests just finish."""

    def cut(self, reason: str) -> None:
        """End because the drain ends."""
        self.cut_for = reason
        self.end("cut")

    def describe(self) -> dict[str, str]:
        """Say what it is."""
        return {"method": "GET", "path": "/"}

    def end(self, outcome: str = "finished") -> None:
        """End now, from outside."""
        if not self._end.done():
            self._end.set_result(outcome)

    async def _run(self) -> None:
        house = self._house
        with hold(house.inflight, self):
            outcome = await self._end
        self.outcome = outcome
        self.ended_at = clock.now()
        if house.controller.published.draining:
            house.metrics.drain_requests.inc(outcome)


class House:
    """Built inside a running ClockLoop. Times of events are seconds since that clock started."""

    def __init__(self, preset: str | Rules = "cluster", *, ready: bool = True, **settings: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = replace(LifecycleSettings(), **settings)
        rules = PRESETS[preset][0] if isinstance(preset, str) else preset
        self.inflight = InFlight()
        self.metrics = Metrics()
        self.diary = Diary()
        self.controller = Controller(
            settings=self.settings,
            rules=rules,
            inflight=self.inflight,
            metrics=self.metrics,
            log=self.diary,
            loop=self.loop,
        )
        if ready:
            self.controller.upstream_answers()

    # What happens to it.

    def sigterm(self) -> None:
        """The kubelet's signal."""
        self.controller.terminate(Cause.UNKNOWN, sigterm=True)

    def prestop(self) -> None:
        """The sidecar's own preStop hook."""
        self.controller.terminate(Cause.UNKNOWN, prestop=True)

    def drain(self) -> None:
        """A person asks for a drain."""
        self.controller.terminate(Cause.MANUAL)

    def tell(self, state: Routability, *, since: float | None = None) -> None:
        """The cluster's word; `since` in seconds of the clock, now if left out."""
        at = self.loop.time() if since is None else clock.START_S + since
        self.controller.evidence(Evidence(state, at))

    def gone(self, *, since: float | None = None) -> None:
        """The slices say that nobody is sent here any more."""
        self.tell(Routability.GONE, since=since)

    def arrive_late(self) -> None:
        """A request comes on a connection made after the drain began."""
        self.metrics.late_requests.inc()
        self.controller.request_came(self.loop.time())
        self.controller.late_arrival(self.loop.time())

    def traffic(self, *, per_s: float) -> None:
        """Arrivals of a whole memory's length, evenly, before now."""
        end = self.loop.time()
        self.controller.arrival_rate.since = end - 60
        for index in range(int(60 * per_s)):
            self.controller.arrival_rate.arrived(end - 59.5 + index / per_s)

    def request(self) -> Request:
        """Admit a request."""
        return Request(self)

    # What is seen of it.

    @property
    def phase(self) -> Phase:
        """Where it is."""
        return self.controller.published.phase

    async def reach(self, phase: Phase) -> float:
        """Wait until the phase is `phase`; return when that was."""
        await self.controller.until(lambda: self.phase is phase)
        return clock.now()

    def course(self) -> list[tuple[str, float]]:
        """Return each phase entered and when, in seconds of the clock."""
        return [(str(line.fields["phase"]), round(line.at, 6)) for line in self.diary.of("phase")]

    def end_reason(self) -> dict[str, float]:
        """Return the reasons counted for an end of propagation."""
        values = self.metrics.propagation_end.values
        return {labels[0]: count for labels, count in values.items() if count}


async def at(second: float) -> None:
    """Wait until the clock shows `second`."""
    await asyncio.sleep(second - clock.now())


async def soon() -> None:
    """Let everything run that is due now."""
    for _ in range(5):
        await asyncio.sleep(0)


def every(gap_s: float, until_s: float, act: Callable[[], None]) -> asyncio.Task[None]:
    """Do `act` every `gap_s` seconds until the clock shows `until_s`."""

    async def repeat() -> None:
        while clock.now() < until_s:
            act()
            await asyncio.sleep(gap_s)

    return asyncio.get_running_loop().create_task(repeat())
