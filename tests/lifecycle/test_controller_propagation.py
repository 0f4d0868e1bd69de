"""A drain while the cluster still sends callers: evidence, late arrivals, the cap, and what overlaps."""

from __future__ import annotations

import pytest

from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import PRESETS, Routability, Rules
from tests.lifecycle.house import House, at, every, soon
from tests.support import clock
from tests.support.clock import in_fake_time


def busy(preset: str | Rules = "cluster", **settings) -> House:
    """A ready house in whose traffic a silence would be heard."""
    house = House(preset, **settings)
    house.traffic(per_s=10)
    return house


async def ends(house: House) -> list[tuple[str, float]]:
    """The rest of its course, from SIGTERM now."""
    house.sigterm()
    await house.reach(Phase.DRAINED)
    return [(phase, second) for phase, second in house.course() if phase != "ready"]


@in_fake_time
async def test_without_the_clusters_word_min_is_waited_for():
    """No API, no permission: time and silence are all there is."""
    house = busy()
    assert await ends(house) == [("propagating", 0.0), ("draining", 5.0), ("drained", 5.0)]
    assert house.end_reason() == {"quiet": 1}


@in_fake_time
async def test_where_traffic_was_thin_sparse_min_is_waited_for():
    """One caller every five seconds is silent for two seconds more often than not."""
    house = House()
    house.traffic(per_s=0.2)
    assert await ends(house) == [("propagating", 0.0), ("draining", 8.0), ("drained", 8.0)]
    assert house.diary.of("drain_plan")[0].fields["sparse"] is True


@pytest.mark.parametrize(("age_s", "ends_after"), [(3, 8.0), (12, 5.0)])
@in_fake_time
async def test_a_busy_pod_need_not_be_a_minute_old_to_be_heard(age_s, ends_after):
    """Ten seconds of traffic tell enough; three do not, however much it was."""
    house = House()
    every(0.1, age_s, lambda: house.controller.arrival_rate.arrived(house.loop.time()))
    await at(age_s)
    assert [seconds - age_s for _, seconds in await ends(house)] == [0.0, ends_after, ends_after]


@in_fake_time
async def test_late_arrivals_put_the_end_off():
    """Somebody still chooses this pod: until they stop, and for `quiet` more."""
    house = busy()
    every(0.5, 6.25, house.arrive_late)
    assert await ends(house) == [("propagating", 0.0), ("draining", 8.0), ("drained", 8.0)]


@in_fake_time
async def test_the_slices_word_ends_it_after_margin():
    """A flipped slice is not a reprogrammed data plane: hence margin."""
    house = busy()
    house.loop.call_at(clock.START_S + 1.5, house.gone)
    assert await ends(house) == [("propagating", 0.0), ("draining", 3.5), ("drained", 3.5)]
    assert house.end_reason() == {"slices_quiet": 1}
    assert house.metrics.endpoint_flip_seconds.value() == pytest.approx(1.5)


@in_fake_time
async def test_the_slices_word_does_not_overrule_callers_that_still_come():
    """Evidence of one's own senses counts as well."""
    house = busy()
    house.loop.call_at(clock.START_S + 1.5, house.gone)
    every(0.5, 4.1, house.arrive_late)
    assert (await ends(house))[1] == ("draining", 6.0)
    assert house.controller.report.last_late_after_flip_s == pytest.approx(2.5)


@in_fake_time
async def test_a_word_that_is_taken_back_does_not_count():
    """Selected again before margin had passed: back to time and silence, and to the cap."""
    house = busy()
    house.gone()
    house.loop.call_at(clock.START_S + 1.0, house.tell, Routability.ROUTABLE)
    assert (await ends(house))[1] == ("draining", 5.0)
    assert house.end_reason() == {"quiet": 1}


@in_fake_time
async def test_an_api_error_is_unknown_and_not_gone():
    """`min` is waited for, as if there were no API at all."""
    house = busy()
    house.loop.call_at(clock.START_S + 0.5, house.tell, Routability.UNKNOWN)
    assert (await ends(house))[1] == ("draining", 5.0)


@in_fake_time
async def test_beside_a_mesh_arrivals_mean_nothing():
    """A local sidecar pools connections: its margin is longer, its silence is not asked."""
    house = busy("mesh", grace_period=40.0)
    house.gone()
    every(0.5, 30.0, house.arrive_late)
    assert (await ends(house))[1] == ("draining", 10.0)


@in_fake_time
async def test_after_max_the_last_callers_are_still_waited_for():
    """The cap ends propagation and tunnels may go; leaving waits until the last callers fall silent."""
    house = busy()
    every(0.5, 17.1, house.arrive_late)
    assert await ends(house) == [("propagating", 0.0), ("draining", 15.0), ("drained", 19.0)]
    assert house.end_reason() == {"max": 1}


@in_fake_time
async def test_after_max_callers_who_never_stop_are_waited_for_until_refusing_begins():
    """From `refuse_window` before the deadline on they are refused: there is nothing left to wait for."""
    house = busy()
    chatter = every(0.5, 30.0, house.arrive_late)
    # At 21 s, and `settle` after the request byte that came at the same moment.
    assert await ends(house) == [("propagating", 0.0), ("draining", 15.0), ("drained", 21.2)]
    assert house.controller.published.refuse_from == clock.START_S + 21.0
    chatter.cancel()


@in_fake_time
async def test_after_max_in_silence_nothing_more_is_waited_for():
    """A slice that flips too late to be believed, in a pod that nobody calls any more."""
    rules = Rules(20.0, 2.0, 2.0, 15.0)
    house = busy(rules)
    assert await ends(house) == [("propagating", 0.0), ("draining", 15.0), ("drained", 15.0)]
    assert house.end_reason() == {"max": 1}


@in_fake_time
async def test_after_silence_was_heard_a_straggler_does_not_start_it_anew():
    """Propagation was over by evidence, so the last work's end is the end."""
    house = busy()
    request = house.request()
    house.loop.call_at(clock.START_S + 9.5, house.arrive_late)
    house.loop.call_at(clock.START_S + 10.0, request.end)
    assert await ends(house) == [("propagating", 0.0), ("draining", 5.0), ("drained", 10.0)]


# Overlap.


@pytest.mark.parametrize(("work_ends", "drained"), [(1.0, 5.0), (4.9, 5.0), (5.1, 5.1), (12.0, 12.0)])
@in_fake_time
async def test_propagation_and_work_overlap(work_ends, drained):
    """The whole takes as long as the longer of both, not their sum."""
    house = busy()
    request = house.request()
    house.loop.call_at(clock.START_S + work_ends, request.end)
    assert (await ends(house))[1:] == [("draining", 5.0), ("drained", drained)]


@in_fake_time
async def test_nothing_in_flight_is_no_reason_to_leave_while_propagating():
    """The listener would be gone when the next caller comes."""
    house = busy()
    house.sigterm()
    request = house.request()
    await at(1.0)
    request.end()
    await at(4.9)
    assert house.phase is Phase.PROPAGATING


# Reuse of connections.


@in_fake_time
async def test_reuse_is_discouraged_from_the_first_moment():
    """Established connections are never cut by the cluster: `Connection: close` moves them."""
    house = busy()
    house.sigterm()
    assert house.controller.published.discourage_reuse


@pytest.mark.parametrize("flipped", [False, True], ids=["slices-unknown", "slices-flipped"])
@pytest.mark.parametrize("preset", ["alb", "gce-neg", "agic"])
@in_fake_time
async def test_a_balancer_is_asked_to_reconnect_only_once_it_would_choose_another(preset, flipped):
    """Before `min` it would only reconnect to us, whatever the slices say and whatever else is waited for."""
    house = busy(preset, grace_period=140.0)
    told = {}
    house.controller.on_change(
        lambda: told.setdefault(house.controller.published.discourage_reuse, (clock.now(), house.phase))
    )
    chatter = every(1.0, 80.0, house.arrive_late)
    house.sigterm()
    minimum = PRESETS[preset][0].min_s
    await at(minimum - 1.0)
    if flipped:
        house.gone()
    await at(minimum - 0.001)
    assert not house.controller.published.discourage_reuse
    await at(minimum + 0.001)
    assert house.controller.published.discourage_reuse
    assert told == {False: (0.0, Phase.PROPAGATING), True: (minimum, Phase.PROPAGATING)}
    chatter.cancel()


@in_fake_time
async def test_a_balancer_that_is_cut_short_by_the_grace_period_is_told_in_draining():
    """A `min` that does not fit never comes; the end of propagation does."""
    house = busy("alb")
    house.sigterm()
    await at(14.9)
    assert not house.controller.published.discourage_reuse
    await at(15.1)
    assert house.controller.published.discourage_reuse


# The cap and the deadline.


@in_fake_time
async def test_a_max_that_does_not_fit_the_grace_period_is_shortened():
    """What is left before the deadline belongs to tunnels that leave."""
    house = busy("alb")
    every(0.5, 14.9, house.arrive_late)
    assert (await ends(house))[1] == ("draining", 15.0)


@in_fake_time
async def test_the_deadline_ends_propagation_too():
    """A hook that waited long before the signal has used up the time: the reason says so."""
    house = busy(restart_window=10.0)
    every(0.5, 30.0, house.arrive_late)
    hook = house.loop.create_task(house.controller.released())
    await at(9.0)
    assert (await ends(house))[1:] == [("drained", 22.0)]
    assert house.end_reason() == {"deadline": 1}
    assert house.controller.report.propagation_ended == "deadline"
    assert await hook == "drained"


@in_fake_time
async def test_what_it_waits_for_is_said_in_the_words_of_the_manual():
    """/status shows the same sentence that the manual explains."""
    house = busy()
    house.sigterm()
    assert house.controller.waiting_for() == "min, without the cluster's word"
    await at(4.0)
    house.arrive_late()
    assert house.controller.waiting_for() == "quiet after the last late arrival"
    house.gone()
    await soon()
    assert house.phase is Phase.PROPAGATING
