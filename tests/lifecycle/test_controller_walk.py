"""Random walks: whatever happens in whatever order and at whatever times, some things hold.

Each walk is a list of pauses and happenings, ends with SIGTERM, and is looked at after every step.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy.lifecycle.machine import POLICY, TRANSITIONS, IfRoutable, Phase
from drainproxy.lifecycle.propagation import PRESETS, Routability
from drainproxy.lifecycle.report import Cause
from tests.lifecycle.house import House, Request, soon
from tests.support import clock

HAPPENINGS = {
    "application answers": lambda walk: walk.house.controller.upstream_answers(),
    "application refuses": lambda walk: walk.house.controller.upstream_refuses(),
    "SIGTERM": lambda walk: walk.house.sigterm(),
    "own preStop": lambda walk: walk.house.prestop(),
    "drain": lambda walk: walk.house.drain(),
    "undrain": lambda walk: walk.house.controller.resume(),
    "deletion": lambda walk: walk.house.controller.terminate(Cause.DELETION),
    "abandon": lambda walk: walk.house.controller.abandon("a person insists"),
    "slices gone": lambda walk: walk.house.gone(),
    "slices routable": lambda walk: walk.house.tell(Routability.ROUTABLE),
    "slices unknown": lambda walk: walk.house.tell(Routability.UNKNOWN),
    "late arrival": lambda walk: walk.house.arrive_late(),
    "request byte": lambda walk: walk.house.controller.request_came(walk.house.loop.time()),
    "request": lambda walk: walk.requests.append(walk.house.request()),
    "request ends": lambda walk: walk.end_oldest(),
    "hook": lambda walk: walk.hooks.append(asyncio.create_task(walk.house.controller.released())),
}

pauses = st.sampled_from([0.0, 0.0, 0.1, 0.2, 1.0, 2.0, 4.9, 5.0, 8.0, 15.0, 30.0]) | st.floats(0, 40)
walks = st.lists(st.tuples(pauses, st.sampled_from(sorted(HAPPENINGS))), max_size=25)
houses = st.fixed_dictionaries(
    {
        "preset": st.sampled_from(sorted(PRESETS)),
        "ready": st.booleans(),
        "grace_period": st.sampled_from([None, 0.0, 1.0, 5.0, 30.0, 140.0]),
        "drain_timeout": st.sampled_from([None, 0.0, 3.0]),
        "settle": st.sampled_from([0.0, 0.2]),
        "restart_window": st.sampled_from([5.0, 60.0]),
    }
)


class Walk:
    """One house and those who come to it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.requests: list[Request] = []
        self.hooks: list[asyncio.Task[str]] = []
        self.phase = house.phase
        self.wrong: list[AssertionError] = []
        house.controller.on_change(self.look_from_inside)

    def end_oldest(self) -> None:
        """Answer the request that has waited longest."""
        if self.requests:
            self.requests.pop(0).end()

    def look_from_inside(self) -> None:
        """Look as a listener does. The loop would only log what is raised here, so it is kept."""
        try:
            was, self.phase = self.phase, self.house.phase
            assert self.phase is was or self.phase in edges(was), f"{was} -> {self.phase}"
            published_is_consistent(self.house)
        except AssertionError as wrong:
            self.wrong.append(wrong)

    def look(self) -> None:
        """Hold what must hold between two happenings against what is there."""
        if self.wrong:
            raise self.wrong[0]
        published_is_consistent(self.house)
        metrics_are_consistent(self.house)
        drains = [line.fields["was"] for line in self.house.diary.of("phase")].count("drained")
        assert len(self.house.diary.of("drain_report")) <= 1 + drains


def edges(phase: Phase) -> set[Phase]:
    """Where a phase's row leads."""
    cells = TRANSITIONS[phase].values()
    return {
        to
        for cell in cells
        for to in ((cell.then, cell.otherwise) if isinstance(cell, IfRoutable) else (cell,))
    }


def published_is_consistent(house: House) -> None:
    """The row others read is of one piece."""
    controller, row = house.controller, house.controller.published
    assert row.policy is POLICY[row.phase]
    assert row.draining is (controller.drain is not None)
    assert row.draining == (row.phase in {Phase.PROPAGATING, Phase.DRAINING, Phase.DRAINED})
    if controller.drain is None:
        assert not row.discourage_reuse
        assert row.drain_started == row.refuse_from == row.work_deadline == controller.deadline == math.inf
        return
    assert row.drain_started == controller.drain.started <= house.loop.time()
    assert (
        row.work_deadline == math.inf
        if row.phase is Phase.DRAINED
        else row.work_deadline <= controller.deadline
    )
    assert row.refuse_from == controller.deadline - controller.plan.budget.refuse_window_s
    if row.phase is not Phase.PROPAGATING:
        assert row.discourage_reuse
    if row.phase is not Phase.DRAINED:
        assert all(work.deadline == row.work_deadline for work in house.inflight)


def metrics_are_consistent(house: House) -> None:
    """One phase is 1, and propagation ended at most as often as it began."""
    shown = [labels[0] for labels, value in house.metrics.phase.values.items() if value]
    assert shown == [house.phase]
    entered = sum(line.fields["phase"] == "propagating" for line in house.diary.of("phase"))
    assert sum(house.end_reason().values()) <= entered


async def walk_through(setting: dict[str, Any], steps: list[tuple[float, str]]) -> None:
    """Take the steps, then SIGTERM, then see it end."""
    house = House(**setting)
    walk = Walk(house)
    for pause, happening in steps:
        await asyncio.sleep(pause)
        HAPPENINGS[happening](walk)
        await soon()
        walk.look()
    house.sigterm()
    deadline = house.controller.deadline
    if not house.controller.drained:
        await house.reach(Phase.DRAINED)
        assert house.loop.time() <= max(deadline, house.controller.drain.started) + 1e-6
    await soon()
    await it_is_over(walk)


async def it_is_over(walk: Walk) -> None:
    """Everybody has been answered, the books are closed, and nothing would still happen."""
    house = walk.house
    assert {await hook for hook in walk.hooks} <= {"drained", "not draining", "the deadline has come"}
    for request in walk.requests:
        request.end()
    await house.controller.until(lambda: house.controller.may_exit)
    line = house.diary.of("drain_report")[-1]
    level = "warning" if house.controller.report.incomplete else "info"
    assert line.fields == {"level": level, **house.controller.report.fields()}
    spent = sum(house.controller.report.phases_s.values())
    drained_at = clock.START_S + house.diary.of("phase")[-1].at
    assert spent == pytest.approx(drained_at - house.controller.drain.started, abs=1e-6)
    assert house.loop.pending_timers() == []
    walk.look()


@given(houses, walks)
@settings(deadline=None, max_examples=150)
def test_whatever_happens_a_drain_ends_in_time_and_its_books_are_kept(setting, steps):
    """Phases move along the table, what is published is of one piece, and SIGTERM leads to the end."""
    clock.run(walk_through(setting, steps))


@given(houses, walks)
@settings(deadline=None, max_examples=50)
def test_the_same_walk_takes_the_same_course(setting, steps):
    """Nothing depends on the hash of an object or on the order of a set."""

    async def course() -> list[tuple[str, float]]:
        house = House(**setting)
        walk = Walk(house)
        for pause, happening in steps:
            await asyncio.sleep(pause)
            HAPPENINGS[happening](walk)
        house.sigterm()
        await house.controller.until(lambda: house.controller.drained)
        for task in (*walk.hooks, *(request.task for request in walk.requests)):
            task.cancel()
        return house.course()

    assert clock.run(course()) == clock.run(course())
