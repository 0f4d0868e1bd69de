"""What the cluster says of this pod, and what becomes of it: cause, grace, readiness, waiting hooks."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Evidence, Routability
from drainproxy.lifecycle.report import Cause
from drainproxy.lifecycle.settings import ReadinessOnDrain
from tests.lifecycle.house import House, at, soon
from tests.support import clock
from tests.support.clock import in_fake_time

GONE, ROUTABLE, UNKNOWN = Routability.GONE, Routability.ROUTABLE, Routability.UNKNOWN


def say(house: House, state: Routability = GONE, *, terminating: bool = True, alone: bool = False) -> None:
    """The cluster's word, now."""
    word = Evidence(state, house.loop.time(), terminating=terminating, alone=alone)
    house.controller.evidence(word)


def causes(house: House) -> list[str]:
    """Return the cause in each plan."""
    return [str(line.fields["cause"]) for line in house.diary.of("drain_plan")]


@in_fake_time
async def test_a_row_that_terminates_tells_the_cause():
    """SIGTERM alone does not say why."""
    house = House()
    house.sigterm()
    say(house)
    assert causes(house) == ["unknown", "deletion"]
    assert house.metrics.termination_cause_info.value("deletion") == 1
    say(house)
    assert len(causes(house)) == 2


@in_fake_time
async def test_a_row_that_only_is_not_ready_tells_no_cause():
    """A readiness probe that fails is none."""
    house = House()
    house.sigterm()
    say(house, terminating=False)
    assert causes(house) == ["unknown"]


@in_fake_time
async def test_a_waiting_hook_is_a_drain_as_soon_as_the_row_terminates():
    """Neither SIGTERM nor the own hook has come, but the pod is being deleted."""
    house = House()
    asking = asyncio.create_task(house.controller.released())
    await soon()
    assert house.controller.hook_waits
    await at(2)
    say(house, ROUTABLE, terminating=False)
    assert house.phase is Phase.READY
    say(house)
    assert house.phase is Phase.PROPAGATING
    assert not house.controller.hook_waits
    # The kubelet's clock began with the hook.
    assert house.controller.deadline == clock.START_S + 22
    house.sigterm()
    assert await asking == "drained"
    assert house.controller.report.cause == "deletion"


@in_fake_time
async def test_a_deletion_gives_a_manual_drain_a_new_clock():
    """There was no SIGKILL behind it before."""
    house = House()
    house.drain()
    await at(3)
    say(house)
    assert causes(house) == ["manual", "deletion"]
    assert house.controller.deadline == clock.START_S + 3 + 22
    assert house.controller.resume() == "the pod is terminating"


@in_fake_time
async def test_what_is_inferred_does_not_replace_what_is_known():
    """A deletion was seen; a person asked."""
    house = House()
    house.sigterm()
    say(house)
    house.controller.learn(Cause.RESTART)
    assert causes(house)[-1] == "deletion"
    house = House()
    house.drain()
    house.controller.learn(Cause.NODE_SHUTDOWN)
    assert causes(house)[-1] == "manual"


@in_fake_time
async def test_a_deletion_replaces_what_was_inferred():
    """It is certain."""
    house = House()
    house.sigterm()
    house.controller.learn(Cause.RESTART)
    house.controller.learn(Cause.DELETION)
    assert causes(house) == ["unknown", "restart", "deletion"]


@in_fake_time
async def test_a_shorter_grace_period_moves_the_deadline_and_the_cap():
    """kubectl delete --grace-period=20: work in flight hears of it."""
    house = House()
    request = house.request()
    await soon()
    house.sigterm()
    assert request.deadline == clock.START_S + 22
    house.controller.learn(Cause.DELETION, 20)
    # Two thirds of everything: 20 less app_stop 3.3, less reserve 2.
    deadline = pytest.approx(clock.START_S + 20 - 8 * 2 / 3)
    assert (house.controller.deadline, request.deadline) == (deadline, deadline)
    assert house.controller.plan.rules.max_s == pytest.approx(10)
    assert house.controller.published.refuse_from == pytest.approx(clock.START_S + 20 - 9 * 2 / 3)
    request.end()
    assert await house.reach(Phase.DRAINED) <= 15


@in_fake_time
async def test_the_smaller_of_grace_periods_counts():
    """The setting stays a bound: the kubelet's number may be larger than the node has left."""
    house = House(grace_period=30.0)
    house.sigterm()
    house.controller.learn(Cause.DELETION, 300)
    assert house.controller.plan.budget.grace_s == 30
    house.controller.learn(Cause.DELETION, 25)
    assert house.controller.plan.budget.grace_s == 25


@in_fake_time
async def test_a_grace_period_known_alone_replaces_the_assumption():
    """Kubernetes' default is assumed only where nobody has said anything."""
    house = House()
    house.sigterm()
    house.controller.learn(Cause.DELETION, 90)
    assert house.controller.deadline == clock.START_S + 82


@in_fake_time
async def test_a_node_that_shuts_down_leaves_little():
    """What is in flight is cut before the kubelet's SIGKILL, and said so."""
    house = House()
    request = house.request()
    await soon()
    house.sigterm()
    await at(4)
    house.controller.learn(Cause.NODE_SHUTDOWN, house.settings.node_shutdown_grace)
    await house.reach(Phase.DRAINED)
    assert clock.now() == pytest.approx(15 - 2.5 - 1.5)
    assert request.cut_for == "drain-deadline"
    await soon()
    assert house.controller.report.cause == "node-shutdown"


# Readiness.


@in_fake_time
async def test_auto_says_200_again_where_nobody_else_is_ready():
    """kube-proxy falls back to endpoints that serve while terminating, if there are only such (KEP-1669)."""
    house = House()
    assert house.controller.ready
    house.sigterm()
    assert not house.controller.ready
    say(house, alone=True)
    assert house.controller.ready
    say(house, alone=False)
    assert not house.controller.ready


@in_fake_time
async def test_auto_needs_a_deletion():
    """After a restart a failing probe is the only signal there is."""
    house = House()
    house.sigterm()
    say(house, ROUTABLE, terminating=False, alone=True)
    assert not house.controller.ready


@in_fake_time
async def test_auto_needs_an_application():
    """Nobody is helped by a door without a house."""
    house = House()
    house.sigterm()
    say(house, alone=True)
    house.controller.upstream_refuses()
    assert not house.controller.ready


@in_fake_time
async def test_auto_ends_with_propagation():
    """Draining is not ready, whoever is alone."""
    house = House()
    house.request()
    await soon()
    house.sigterm()
    say(house, alone=True)
    await house.reach(Phase.DRAINING)
    assert not house.controller.ready


@in_fake_time
async def test_fail_says_503_whatever_the_cluster_says():
    """Somebody wants it so."""
    house = House(readiness_on_drain=ReadinessOnDrain("fail"))
    house.sigterm()
    say(house, alone=True)
    assert not house.controller.ready


@in_fake_time
async def test_delay_says_200_for_its_time():
    """Whatever the cluster says."""
    house = House(readiness_on_drain=ReadinessOnDrain("delay", 3.0))
    house.sigterm()
    assert house.controller.ready
    await at(2.9)
    assert house.controller.ready
    await at(3.1)
    assert not house.controller.ready


# Starting, and what is wrong with the pod.


@in_fake_time
async def test_a_pod_that_never_was_up_but_is_chosen_propagates():
    """A container that was restarted in a ready pod."""
    house = House(ready=False)
    say(house, ROUTABLE, terminating=False)
    house.sigterm()
    assert house.phase is Phase.PROPAGATING


@in_fake_time
async def test_a_pod_that_never_was_up_drains_at_once():
    """Nobody was told to come."""
    house = House(ready=False)
    house.sigterm()
    assert house.phase is Phase.DRAINING


@in_fake_time
async def test_a_pod_that_comes_up_while_it_is_deleted_drains():
    """A native sidecar that was restarted in mid drain."""
    house = House()
    say(house, ROUTABLE)
    assert house.phase is Phase.PROPAGATING


@in_fake_time
async def test_what_is_wrong_with_the_pod_is_said_counted_and_shown():
    """Once, beside the sums."""
    house = House()
    house.controller.journal.note(["container app has no preStop hook"])
    assert house.controller.problems == ("container app has no preStop hook",)
    house.controller._refresh_metrics()
    assert house.metrics.config_problems.value() == 1
    assert [line.fields["problem"] for line in house.diary.of("config_problem")] == [
        "container app has no preStop hook"
    ]
