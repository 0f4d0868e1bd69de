"""What decides how long a drain lasts: one source for /status, its page, `status --watch` and the log."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.admin.status import status
from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Evidence, Routability, Rule
from tests.lifecycle.house import House, at, every, soon
from tests.support.clock import in_fake_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BUSY = 10.0
SPARSE = 0.2


def word(house: House, state: Routability, **more: bool) -> None:
    """Let the cluster speak now."""
    house.controller.evidence(Evidence(state, house.loop.time(), **more))


async def flipped(house: House) -> None:
    """Every row has flipped half a second into the drain."""
    await at(0.5)
    word(house, Routability.GONE, terminating=True)
    await at(1.0)


async def came_late(house: House) -> None:
    """Rows have flipped, and somebody came afterwards."""
    await flipped(house)
    await at(2.0)
    house.arrive_late()
    await at(2.8)


async def still_ready(house: House) -> None:
    """The cluster says that callers are sent here."""
    word(house, Routability.ROUTABLE)
    await at(4.5)
    house.arrive_late()
    await at(5.5)


async def alone(house: House) -> None:
    """Nobody else serves."""
    word(house, Routability.GONE, terminating=True, alone=True, sole=True)
    await at(3.0)


async def noise(house: House) -> None:
    """Callers come to the end."""
    every(0.5, 14.25, house.arrive_late)
    await at(14.5)


async def pass_by(_house: House) -> None:
    """Nothing happens."""
    await at(1.0)


# Arrivals a second before, what happens in the drain -> rule, words, how much of how long.
DRAINS: dict[str, tuple[float, Callable[[House], Awaitable[None]], tuple[Rule, str, float, float]]] = {
    "min": (BUSY, pass_by, (Rule.MIN, "min, without the cluster's word", 1.0, 5.0)),
    "margin": (BUSY, flipped, (Rule.MARGIN, "margin after the slices flipped", 0.5, 2.0)),
    "quiet": (BUSY, came_late, (Rule.QUIET, "quiet after the last late arrival", 0.8, 2.0)),
    "max": (BUSY, noise, (Rule.MAX, "max, whoever still comes", 14.5, 15.0)),
    "sparse": (SPARSE, flipped, (Rule.SPARSE_MIN, "sparse_min, for want of traffic", 1.0, 8.0)),
    "young": (
        math.nan,
        flipped,
        (Rule.SPARSE_MIN, "sparse_min, the process is too young to know its callers", 1.0, 8.0),
    ),
    "still ready": (
        BUSY,
        still_ready,
        (Rule.TWICE_QUIET, "twice quiet: the cluster still says ready", 1.0, 4.0),
    ),
    "still ready, sparse": (SPARSE, still_ready, (Rule.MAX, "max: the cluster still says ready", 5.5, 15.0)),
    "a lone pod": (
        BUSY,
        alone,
        (Rule.ALONE, "another endpoint to be ready: this pod alone serves", 3.0, 15.0),
    ),
}


def shown(house: House) -> dict[str, Any]:
    """Return the document of /status."""
    recent: Any = SimpleNamespace(shown=dict)
    return status(
        controller=house.controller,
        inflight=house.inflight,
        metrics=house.metrics,
        recent=recent,
        about={},
        now=house.loop.time(),
    )


@pytest.mark.parametrize(("per_s", "happens", "decides"), DRAINS.values(), ids=DRAINS.keys())
@in_fake_time
async def test_the_first_wait_is_what_decides(per_s, happens, decides):
    """With its clock, in the words of the log; the cap stands beside it, and nothing that is over decides."""
    house = House()
    if not math.isnan(per_s):
        house.traffic(per_s=per_s)
    house.sigterm()
    await happens(house)
    first, *others = shown(house)["waits"]
    rule, words, passed_s, of_s = decides
    assert (first["rule"], first["words"]) == (rule, words)
    assert (first["passed_s"], first["of_s"]) == pytest.approx((passed_s, of_s))
    assert shown(house)["waiting_for"] == house.controller.waiting_for() == words
    if rule is not Rule.ALONE:
        assert Rule.MAX in {first["rule"], *(each["rule"] for each in others)}
    house.controller._review()
    lines = {line.fields["rule"]: line.fields for line in house.diary.of("waits")}
    assert (lines[rule]["what"], lines[rule]["of_s"]) == (words, pytest.approx(of_s))


@in_fake_time
async def test_what_decides_is_what_ends_it():
    """Whatever stands first has run out when propagation ends, to the moment."""
    house = House()
    house.traffic(per_s=BUSY)
    house.sigterm()
    await came_late(house)
    first = house.controller.waits()[0]
    await house.reach(Phase.DRAINING)
    assert house.loop.time() == pytest.approx(first.until)


@in_fake_time
async def test_the_log_says_each_of_them_once():
    """Callers may come at any rate: a line for each change would be theirs to write."""
    house = House()
    house.traffic(per_s=BUSY)
    house.sigterm()
    await flipped(house)
    for second in range(1, 13):
        await at(float(second))
        house.arrive_late()
        word(house, Routability.GONE if second % 2 else Routability.UNKNOWN)
    await house.reach(Phase.DRAINED)
    rules = [line.fields["rule"] for line in house.diary.of("waits")]
    assert len(rules) == len(set(rules))
    assert {"min", "margin", "quiet"} <= set(rules)
    house.controller.resume()


@in_fake_time
async def test_a_hook_that_may_mean_the_end_is_waited_on():
    """It has come before the signal: until `restart_window` is over nobody knows what for."""
    house = House()
    hook = asyncio.create_task(house.controller.released())
    await at(2.0)
    (wait,) = shown(house)["waits"]
    assert wait["rule"] == "restart_window"
    assert (wait["passed_s"], wait["of_s"]) == pytest.approx((2.0, 5.0))
    assert await hook == "not draining"
    assert shown(house)["waits"] == []


@in_fake_time
async def test_a_hook_in_a_manual_drain_does_not_hide_what_the_drain_waits_for():
    """It waits for the same."""
    house = House()
    house.drain()
    hook = asyncio.create_task(house.controller.released())
    await at(1.0)
    assert shown(house)["waits"][0]["rule"] == "sparse_min"
    await hook


@pytest.mark.parametrize(
    ("begin", "rule", "words"),
    [(House.drain, "sigterm", "SIGTERM, or undrain"), (House.prestop, "sigterm", "SIGTERM")],
)
@in_fake_time
async def test_a_drain_without_sigterm_waits_for_it(begin, rule, words):
    """No clock ends a manual drain that is over, and none is shown."""
    house = House("none")
    begin(house)
    await house.reach(Phase.DRAINED)
    await soon()
    assert shown(house)["waits"] == [{"rule": rule, "words": words, "passed_s": None, "of_s": None}]


@in_fake_time
async def test_in_draining_the_work_decides_and_then_the_settling():
    """What is in flight has its own deadlines, in the list of work."""
    house = House("none")
    request = house.request()
    await soon()
    house.sigterm()
    await soon()
    (wait,) = shown(house)["waits"]
    assert (wait["rule"], wait["words"], wait["of_s"]) == ("in_flight", "1 in flight", None)
    await at(3.0)
    house.controller.request_came(house.loop.time())
    request.end()
    await soon()
    (wait,) = shown(house)["waits"]
    assert (wait["rule"], wait["of_s"]) == ("settle", pytest.approx(0.2))


@in_fake_time
async def test_without_a_drain_only_the_application_is_waited_for():
    """A process that serves waits for nothing."""
    house = House(ready=False)
    assert [wait["rule"] for wait in shown(house)["waits"]] == ["application"]
    house.controller.upstream_answers()
    assert shown(house)["waits"] == []
    house.controller.upstream_refuses()
    assert [wait["words"] for wait in shown(house)["waits"]] == ["the application to answer again"]
