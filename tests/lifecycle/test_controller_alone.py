"""A drain against the cluster's word: alone, still ready, or with a row that says nothing."""

from __future__ import annotations

import asyncio
import math

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Evidence, Reason, Routability
from drainproxy.lifecycle.report import Cause
from drainproxy.lifecycle.settings import ReadinessOnDrain
from drainproxy.lifecycle.weighing import STUCK
from tests.lifecycle.house import House, Request, at, every, soon
from tests.support import clock
from tests.support.clock import in_fake_time

GONE, ROUTABLE, UNKNOWN = Routability.GONE, Routability.ROUTABLE, Routability.UNKNOWN


def quiet(**settings) -> House:
    """A ready house with a caller every three seconds."""
    house = House(**settings)
    house.traffic(per_s=1 / 3)
    return house


def busy(**settings) -> House:
    """A ready house in whose traffic a silence would be heard."""
    house = House(**settings)
    house.traffic(per_s=10)
    return house


def say(
    house: House, state: Routability = GONE, *, at_s: float = 0.3, sole: bool = True, **more: bool
) -> None:
    """Let the cluster say something `at_s` into the drain; by itself, that the pod is deleted and alone."""
    terminating = more.pop("terminating", state is not ROUTABLE)

    def word() -> None:
        said = Evidence(state, house.loop.time(), terminating, alone=sole, sole=sole, **more)
        house.controller.evidence(said)

    house.loop.call_at(clock.START_S + at_s, word)


async def course(house: House) -> list[tuple[str, float]]:
    """The rest of its course, from SIGTERM now."""
    house.sigterm()
    await house.reach(Phase.DRAINED)
    return [(phase, second) for phase, second in house.course() if phase not in {"ready", "propagating"}]


class Tunnel(Request):
    """Work that would not end by itself, and goes when it is told to."""

    kind = "tunnel"

    def leave(self) -> None:
        """Say goodbye."""
        self.left_at = clock.now()
        self.end()


# Alone.


@pytest.mark.parametrize("traffic", [quiet, busy])
@in_fake_time
async def test_a_lone_pod_serves_until_refusing_begins(traffic):
    """It knows that it alone serves: whoever comes to a pod that has left finds nobody."""
    house = traffic()
    say(house)
    assert await course(house) == [("draining", 20.0), ("drained", 21.0)]
    assert house.end_reason() == {"alone": 1}
    assert house.controller.report.propagation_ended == "alone"


@in_fake_time
async def test_a_longer_grace_period_is_used_for_the_successor():
    """Twice the time, twice the hold: images have to be pulled."""
    house = quiet(grace_period=60.0)
    say(house)
    assert await course(house) == [("draining", 50.0), ("drained", 51.0)]


@in_fake_time
async def test_tunnels_of_a_lone_pod_have_their_turns():
    """They leave `leave_spread` and a margin before the deadline; requests are answered for longer."""
    house = quiet()
    tunnel = Tunnel(house)
    await soon()
    say(house)
    assert await course(house) == [("draining", 15.0), ("drained", 21.0)]
    assert 15.0 <= tunnel.left_at < 15.1


@pytest.mark.parametrize(("traffic", "leaves"), [(busy, 8.0), (quiet, 14.0)])
@in_fake_time
async def test_a_successor_ends_the_hold_and_begins_the_usual_waits(traffic, leaves):
    """Only from now on can the data plane choose another: margin, quiet and sparse_min count from here."""
    house = traffic()
    say(house)
    say(house, at_s=6.0, sole=False)
    assert await course(house) == [("draining", leaves), ("drained", leaves)]
    assert house.end_reason() == {"slices_quiet": 1}


@in_fake_time
async def test_callers_after_the_successor_are_waited_for():
    """The data plane takes its time: each late arrival starts `quiet` anew."""
    house = busy()
    say(house)
    say(house, at_s=6.0, sole=False)
    every(0.5, 11.1, house.arrive_late)
    assert (await course(house))[0] == ("draining", 13.0)


@in_fake_time
async def test_the_row_may_still_read_ready_where_the_deletion_is_known_otherwise():
    """The endpoints controller stalls, and the pod's own object tells: nobody else serves all the same."""
    house = quiet()
    say(house, ROUTABLE)
    house.loop.call_at(clock.START_S + 1.0, house.controller.learn, Cause.DELETION)
    assert (await course(house))[0] == ("draining", 20.0)
    assert house.end_reason() == {"alone": 1}


@in_fake_time
async def test_an_application_that_dies_ends_the_hold():
    """Without it nobody is served here either."""
    house = quiet()
    say(house)
    house.loop.call_at(clock.START_S + 9.0, house.controller.upstream_refuses)
    assert await course(house) == [("draining", 9.0), ("drained", 9.0)]
    assert house.end_reason() == {"slices_quiet": 1}


@in_fake_time
async def test_readiness_fail_wants_no_fallback():
    """/readyz says 503 whatever happens, so that nobody is sent here: the hold would serve nobody."""
    house = quiet(readiness_on_drain=ReadinessOnDrain("fail"))
    say(house)
    assert (await course(house))[0] == ("draining", 8.0)


@pytest.mark.parametrize(("delay_s", "leaves"), [(3.0, 15.0), (18.0, 18.0), (60.0, 20.0)])
@in_fake_time
async def test_readiness_delay_holds_for_as_long_as_it_says_ready(delay_s, leaves):
    """And to `max` at least: it takes probes to be taken off."""
    house = quiet(readiness_on_drain=ReadinessOnDrain("delay", delay_s))
    say(house)
    assert (await course(house))[0] == ("draining", leaves)


@in_fake_time
async def test_a_drain_that_is_no_deletion_is_not_held():
    """A container that is restarted gets no successor: its readiness probe has turned the row."""
    house = quiet()
    say(house, terminating=False)
    assert (await course(house))[0] == ("draining", 8.0)


@in_fake_time
async def test_what_the_cluster_said_before_is_no_successor():
    """The look at start found the first pod of a rollout alone: that was days ago."""
    house = busy()
    house.controller.evidence(Evidence(ROUTABLE, house.loop.time(), alone=True, sole=True))
    await at(2.0)
    house.sigterm()
    say(house, at_s=2.3, sole=False)
    await house.reach(Phase.DRAINED)
    assert clock.now() == pytest.approx(4.3)


@in_fake_time
async def test_a_lone_pod_says_what_it_waits_for():
    """In /status, and as a plan in the log, which changes when a successor is ready."""
    house = busy()
    say(house)
    say(house, at_s=6.0, sole=False)
    house.sigterm()
    await at(1.0)
    assert house.controller.waiting_for() == "another endpoint to be ready: this pod alone serves"
    await house.reach(Phase.DRAINED)
    plans = [line.fields["plan"] for line in house.diary.of("drain_plan")]
    assert plans[0] == "leave by what the slices say, or by time and quiet"
    assert "this pod alone serves" in plans[-2]
    assert plans[-1].startswith("leave when the slices have flipped, another endpoint is ready")


@in_fake_time
async def test_a_lone_pod_that_only_waits_for_refusing_to_begin_says_so():
    """Nothing is in flight, and it stays."""
    house = quiet()
    say(house)
    house.sigterm()
    await at(20.5)
    assert house.controller.waiting_for() == "refuse_window: this pod alone serves"


# Still ready.


@in_fake_time
async def test_the_word_still_ready_holds_a_quiet_pod_to_max():
    """The controller-manager stalls: silence of two seconds is nothing against the cluster's word."""
    house = quiet()
    say(house, ROUTABLE, sole=False)
    assert await course(house) == [("draining", 15.0), ("drained", 15.0)]
    assert house.end_reason() == {"max": 1}


@in_fake_time
async def test_beyond_max_thin_traffic_is_waited_for_while_it_came_lately():
    """One caller in three seconds, and still ready: `sparse_min` of silence, or refusing begins."""
    house = quiet()
    say(house, ROUTABLE, sole=False)
    chatter = every(3.0, 40.0, house.arrive_late)
    assert await course(house) == [("draining", 15.0), ("drained", 21.2)]
    chatter.cancel()


@in_fake_time
async def test_beyond_max_a_last_caller_is_followed_by_sparse_min():
    """Who came at 12 s, and nobody since: gone by 20 s."""
    house = quiet()
    say(house, ROUTABLE, sole=False)
    house.loop.call_at(clock.START_S + 12.0, house.arrive_late)
    assert await course(house) == [("draining", 15.0), ("drained", 20.0)]


@in_fake_time
async def test_a_row_that_flips_after_a_stall_ends_the_hold():
    """The controller is back after 9 s: the usual waits."""
    house = quiet()
    say(house, ROUTABLE, sole=False)
    say(house, at_s=9.0, sole=False)
    assert (await course(house))[0] == ("draining", 11.0)


@in_fake_time
async def test_the_word_of_another_day_is_not_this_drains():
    """Ready at start, and the API is away when it ends: unknown is decided by time and quiet."""
    house = quiet()
    house.tell(ROUTABLE)
    assert (await course(house))[0] == ("draining", 8.0)
    assert house.end_reason() == {"quiet": 1}


# A row that says nothing.


def stuck(house: House) -> None:
    """publishNotReadyAddresses on the only Service, and nobody else."""
    say(house, UNKNOWN, stuck=True)


@in_fake_time
async def test_a_row_that_never_flips_leaves_it_to_time_and_quiet():
    """Alone or not: it stays ready until the pod is gone."""
    house = quiet()
    stuck(house)
    assert await course(house) == [("draining", 8.0), ("drained", 8.0)]
    assert house.end_reason() == {"quiet": 1}


@in_fake_time
async def test_callers_who_are_sent_to_the_very_last_do_not_hold_the_pod_to_its_deadline():
    """They would be refused there; waiting for them ends nothing."""
    house = busy()
    stuck(house)
    chatter = every(0.05, 40.0, house.arrive_late)
    assert await course(house) == [("draining", 15.0), ("drained", 15.0)]
    assert house.end_reason() == {"max": 1}
    chatter.cancel()


@in_fake_time
async def test_who_came_before_max_is_served_and_who_comes_later_is_not_waited_for():
    """There is always somebody in flight: with those from before `max` the end is reached."""
    house = busy()
    stuck(house)
    before = house.request()
    chatter = every(0.05, 40.0, house.arrive_late)
    house.sigterm()
    await at(16.0)
    after = house.request()
    await soon()
    assert house.phase is Phase.DRAINING
    assert house.controller.waiting_for() == "1 in flight"
    await at(17.5)
    before.end()
    await house.reach(Phase.DRAINED)
    assert clock.now() == pytest.approx(17.5)
    assert (before.outcome, after.outcome) == ("finished", None)
    assert house.diary.of("phase")[-1].fields["why"] == "who came in time is served"
    # Whoever closes the door waits for everybody.
    assert house.inflight.pending == 1
    after.end()
    chatter.cancel()


@in_fake_time
async def test_a_row_that_never_flips_is_said_once_and_planned_for():
    """In the log, in /status and as a number."""
    house = quiet()
    stuck(house)
    say(house, UNKNOWN, at_s=2.0, stuck=True)
    await course(house)
    assert house.controller.problems.count(STUCK) == 1
    assert "publishNotReadyAddresses" in house.diary.of("drain_plan")[-1].fields["plan"]


@in_fake_time
async def test_a_pod_that_never_was_up_propagates_where_its_row_is_always_ready():
    """Callers are sent to it before it is up: that is what publishNotReadyAddresses does."""
    house = House(ready=False)
    house.controller.evidence(Evidence(UNKNOWN, house.loop.time(), stuck=True))
    house.sigterm()
    assert house.phase is Phase.PROPAGATING


# What the end is called.


@pytest.mark.parametrize(
    ("why", "reason", "cut", "next_phase"),
    [
        ("the application is gone", Reason.UPSTREAM_GONE, True, Phase.DRAINED),
        ("the application is gone", Reason.UPSTREAM_GONE, False, Phase.DRAINING),
        ("interrupted twice", Reason.INTERRUPTED, True, Phase.DRAINED),
    ],
)
@in_fake_time
async def test_an_end_before_its_time_has_a_name_of_its_own(why, reason, cut, next_phase):
    """22 s unused is no deadline."""
    house = busy()
    request = house.request()
    await soon()
    house.sigterm()
    await at(1.0)
    house.controller.abandon(why, reason, cut=cut)
    assert house.phase is next_phase
    request.end()
    await house.controller.until(lambda: house.controller.may_exit)
    assert house.end_reason() == {reason: 1}
    assert house.controller.report.propagation_ended == reason
    assert house.controller.report.unused_s > 20


# Where no successor can start before the pod is gone.


@in_fake_time
async def test_where_waiting_cannot_help_the_pod_leaves_early():
    """A StatefulSet of one: whatever it waits for, callers miss it for as long as its successor takes."""
    house = busy()
    house.controller.plan.successor_waits = True
    say(house)
    hook = asyncio.create_task(house.controller.released())
    every(0.05, 1.0, house.arrive_late)
    assert await course(house) == [("draining", 0.3), ("drained", 0.3)]
    assert await hook == "drained"
    assert clock.now() == pytest.approx(0.3)
    assert house.controller.report.propagation_ended == "alone"
    assert (
        "the successor starts only when this pod is gone" in house.diary.of("drain_plan")[-1].fields["plan"]
    )


@pytest.mark.parametrize(
    "more", [{"coming": True}, {"sole": False}], ids=["another is coming", "another is ready"]
)
@in_fake_time
async def test_where_another_pod_can_take_over_it_is_waited_for(more):
    """The StatefulSet has more than one."""
    house = quiet()
    house.controller.plan.successor_waits = True
    say(house, **more)
    house.sigterm()
    await at(2.0)
    assert house.phase is Phase.PROPAGATING


@in_fake_time
async def test_a_pod_that_leaves_early_serves_who_was_there_and_whoever_comes_meanwhile():
    """Only who comes after the last of them, while newer requests are still in it, is refused."""
    house = busy()
    house.controller.plan.successor_waits = True
    house.controller.hooks.last_scrape = lambda _report, given: given
    first = house.request()
    say(house)
    house.sigterm()
    await house.reach(Phase.DRAINING)
    late = house.request()
    await at(4.0)
    assert house.controller.published.refuse_from == clock.START_S + 21.0
    first.end()
    await soon()
    assert house.controller.published.refuse_from == -math.inf
    assert house.phase is Phase.DRAINING
    house.arrive_late()
    late.end()
    await house.controller.until(lambda: house.controller.may_exit)
    # Nobody waits for a scrape where a successor waits for the end.
    assert clock.now() == pytest.approx(4.0)
    assert house.controller.report.requests.finished == 2


@in_fake_time
async def test_who_is_refused_at_the_end_does_not_keep_a_pod_that_alone_serves():
    """Callers come all the time: the pod ends when the last answer is out, not at the deadline."""
    house = busy()
    say(house)
    every(0.05, 30.0, house.arrive_late)
    assert (await course(house))[-1] == ("drained", 21.0)
