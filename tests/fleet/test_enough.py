"""`advise` names the preset that loses nothing at the least cost: checked against a replay of the callers."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.fleet.enough import advise, is_enough, quantile
from drainproxy.fleet.observed import Observed, by_workload, of_report
from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import PRESETS, Rules
from tests.fleet.records import report
from tests.lifecycle.house import House, at
from tests.support import clock
from tests.support.clock import in_fake_time

if TYPE_CHECKING:
    from collections.abc import Sequence

START_S = 20.0
"""When each drain begins, by its clock: until then it has been called."""

RECORDING = Rules(60, 60, 0, 120, hold_min=True)
"""Stays long enough to hear everybody."""


class Callers:
    """When callers come after a drain has begun, and when the slices flip; seconds from its start."""

    def __init__(self, flip_s: float, late_s: Sequence[float]) -> None:
        self.flip_s = flip_s
        self.late_s = sorted(late_s)


def busy(until_s: float, seed: int) -> Callers:
    """Return callers who come ten times a second until the data plane has heard of the flip."""
    dice = random.Random(seed)
    end = until_s * dice.uniform(0.7, 1.0)
    return Callers(dice.uniform(0.1, 0.6), [each / 10 for each in range(1, int(end * 10))])


def paused(until_s: float, seed: int) -> Callers:
    """Return callers of a balancer: some at once, nobody for long, and then its last ones."""
    dice = random.Random(seed)
    return Callers(0.3, [0.2, 0.5, 1.1, until_s * dice.uniform(0.8, 1.0)])


async def drained(callers: Callers, rules: Rules) -> tuple[dict[str, Any], int]:
    """Let a drain by these rules run its course; return its report, and how many came when it was over."""
    house = House(rules, grace_period=300.0)
    house.traffic(per_s=10)
    start = clock.now() + START_S
    await at(start)
    house.sigterm()
    events = sorted([(callers.flip_s, "flip"), *((each, "late") for each in callers.late_s)])
    missed = 0
    for after_s, what in events:
        await at(start + after_s)
        if what == "flip":
            house.gone()
        elif house.controller.published.phase is Phase.DRAINED:
            missed += 1
        else:
            house.arrive_late()
    await house.reach(Phase.DRAINED)
    assert house.controller.report is not None
    return json.loads(house.controller.report.message()), missed


def seen(said: dict[str, Any]) -> Observed:
    """Return the record of a report that must be one."""
    found = of_report(said)
    assert found is not None
    return found


CROWDS = {
    "a quick kube-proxy": [busy(2.0, seed) for seed in range(8)],
    "a slow one": [busy(7.0, seed) for seed in range(8)],
    "a balancer that pauses": [paused(17.0, seed) for seed in range(8)],
    "a slow balancer": [paused(40.0, seed) for seed in range(8)],
}


@pytest.mark.parametrize("crowd", CROWDS.values(), ids=CROWDS.keys())
@in_fake_time
async def test_the_preset_that_is_named_loses_nothing_and_no_cheaper_one_does(crowd):
    """Recorded once with rules that hear everybody; replayed with every preset through the real lifecycle."""
    advice = advise([seen((await drained(callers, RECORDING))[0]) for callers in crowd])
    assert advice.best is not None
    lost, cost = {}, {}
    for name, (rules, _) in PRESETS.items():
        if name == "none":
            continue
        played = [await drained(callers, rules) for callers in crowd]
        lost[name] = sum(missed for _, missed in played)
        cost[name] = sum(said["phases_s"]["propagating"] for said, _ in played) / len(played)
    assert lost[advice.best.preset] == 0
    # What is called enough is so; who is not may be lucky in the replay, and is no cheaper then.
    assert all(lost[fit.preset] == 0 for fit in advice.fits if fit.enough == 1.0)
    assert advice.best.mean_s == pytest.approx(cost[advice.best.preset], abs=0.3)
    enough = [fit.preset for fit in advice.fits if fit.enough == 1.0]
    assert cost[advice.best.preset] == min(cost[name] for name in enough)


@in_fake_time
async def test_a_preset_that_loses_in_the_replay_is_never_called_enough():
    """Over all crowds: the advice may be too careful, and not too bold."""
    for crowd in CROWDS.values():
        for callers in crowd[:3]:
            record = seen((await drained(callers, RECORDING))[0])
            for name in ("cluster", "mesh", "alb"):
                rules, _ = PRESETS[name]
                _, missed = await drained(callers, rules)
                assert not (missed and is_enough(rules, record)), (name, callers.late_s[-1])


def test_a_drain_that_was_cut_short_proves_nothing():
    """Callers came to its end: how late they would have come nobody knows, and no preset is called enough."""
    record = seen(report(ended="max", last_late_s=5.4))
    advice = advise([record])
    assert (record.cut_short, advice.cut_short) == (True, 1)
    assert advice.best is None
    assert {fit.enough for fit in advice.fits} == {0.0}


def test_one_drain_in_a_thousand_may_be_worse():
    """99.9 %, and not all; with fewer drains it is all of them."""
    good, bad = seen(report()), seen(report(last_late_s=30.0, longest_silence_s=20.0))
    assert advise([good] * 999 + [bad]).best.preset == "cluster"
    assert advise([good] * 99 + [bad]).best.preset != "cluster"


def test_numbers_that_a_source_does_not_know_count_for_the_worse():
    """A silence that nobody measured may have been long."""
    known, unknown = seen(report(last_late_s=6.0)), seen(report(last_late_s=6.0, longest_silence_s=None))
    assert is_enough(PRESETS["cluster"][0], known)
    assert not is_enough(PRESETS["cluster"][0], unknown)


def test_margin_and_timeout_are_those_of_what_was_seen():
    """Rounded up."""
    advice = advise([seen(report(flipped_after_s=0.5, last_late_s=1.2, longest_request_s=61.2))])
    assert (advice.margin_s, advice.drain_timeout_s, advice.unused_s) == (1.0, 62.0, 16.0)


def test_workloads_are_told_apart_by_namespace_and_name():
    """A report of a pod that was told nothing is nobody's."""
    said = [seen(report(namespace=n, workload=w)) for n, w in (("b", "web"), ("a", "web"), ("a", "web"))]
    assert {name: len(of) for name, of in by_workload([*said, seen(report())]).items()} == {
        "-": 1,
        "a/web": 2,
        "b/web": 1,
    }


def test_a_quantile_is_a_value_that_was_seen():
    """No interpolation."""
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([], 0.5) is None
