"""How much was heard before a drain: the rate that tells whether silence means anything."""

from __future__ import annotations

import pytest

from drainproxy.lifecycle.arrival_rate import LEAST_S, WINDOW_S, ArrivalRate
from drainproxy.lifecycle.propagation import PRESETS, sparse
from drainproxy.lifecycle.settings import HEALTH_CHECK_AGENTS

CLUSTER = PRESETS["cluster"][0]


def heard(*arrivals: float, since: float = 0.0) -> ArrivalRate:
    """A Sound that has heard these, of a process that serves since then."""
    sound = ArrivalRate(HEALTH_CHECK_AGENTS)
    sound.since = since
    for arrival in arrivals:
        sound.arrived(arrival)
    return sound


def evenly(since: int, until: int, per_s: int) -> list[float]:
    """Arrivals at a steady rate."""
    return [second + part / per_s for second in range(since, until) for part in range(per_s)]


def test_the_rate_is_the_mean_of_the_last_minute():
    """Three arrivals a second for an hour are three a second."""
    assert heard(*evenly(0, 3600, 3)).arrivals_per_s(3599.9) == pytest.approx(3.0)


def test_what_is_older_than_the_window_is_forgotten():
    """Each arrival counts for a minute, then it is as if it had not been."""
    sound = heard(*[1000.5] * 600, *evenly(1031, 1060, 21))
    assert sound.arrivals_per_s(1059.9) == pytest.approx((600 + 29 * 21) / WINDOW_S)
    assert sound.arrivals_per_s(1060.0) == pytest.approx(29 * 21 / WINDOW_S)


def test_a_burst_does_not_vouch_for_the_silence_after_it():
    """Half a minute after it, nothing has been heard in the newer half of the window."""
    sound = heard(*[1000.5] * 600)
    assert sound.arrivals_per_s(1029.9) == 10.0
    assert sound.arrivals_per_s(1031.0) == 0.0


def test_the_ring_wraps_without_mixing_minutes():
    """The counter of a second is used again a minute later, from nought."""
    sound = heard(*[100.0] * 7, 100.0 + WINDOW_S)
    assert sound.arrivals_per_s(100.0 + WINDOW_S) == pytest.approx(1 / WINDOW_S)


@pytest.mark.parametrize("age_s", [LEAST_S, 15, 30, 59, 60, 3600])
def test_a_young_process_counts_for_as_busy_as_it_was(age_s):
    """Its rate is that of its own age; at six a second it is the same however old it is."""
    sound = heard(*evenly(1000, 1000 + age_s, 6), since=1000.0)
    rate = sound.arrivals_per_s(1000.01 + age_s)
    assert rate == pytest.approx(6.0, rel=0.25)
    assert not sparse(CLUSTER, rate)


@pytest.mark.parametrize("age_s", [0.0, 1.0, 5.0, 9.9])
@pytest.mark.parametrize("arrivals", [3, 25, 5000])
def test_a_very_young_process_is_never_called_busy(age_s, arrivals):
    """Three requests in the first second are noise, and so is a herd that greets the new pod."""
    sound = heard(*[1000.0] * arrivals, since=1000.0)
    assert sound.arrivals_per_s(1000.0 + age_s) == 0.0


def test_pools_that_open_when_a_pod_appears_do_not_make_it_busy():
    """A hundred connections in its first second, kept ever since, and it is ten seconds old."""
    sound = heard(*[1000.5] * 100, since=1000.0)
    assert sound.arrivals_per_s(1010.5) == 0.0


def test_before_the_application_answered_nothing_could_be_heard():
    """A process that never served, and one that is asked about a time before it did."""
    assert ArrivalRate(()).arrivals_per_s(1000.0) == 0.0
    assert heard(*evenly(0, 60, 5), since=70.0).arrivals_per_s(60.0) == 0.0


def test_silence_is_a_rate_of_nought():
    """Also at the very start of the clock."""
    assert heard().arrivals_per_s(0.0) == 0.0
    assert heard().arrivals_per_s(5000.0) == 0.0


def test_what_comes_after_the_drain_began_is_not_heard_before_it():
    """Late arrivals must not vouch for the traffic there was before."""
    sound = heard(1000.0, *(1001.0 + second for second in range(30)))
    assert sound.arrivals_per_s(1000.9) == pytest.approx(1 / WINDOW_S)


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (b"kube-probe/1.36", True),
        (b"ELB-HealthChecker/2.0", True),
        (b"GoogleHC/1.0", True),
        (b"Envoy/HC", True),
        (b"Prometheus/3.5.0", True),
        (b"kube-prober", False),
        (b"Mozilla/5.0 kube-probe/1.36", False),
        (b"KUBE-PROBE/1.36", False),
        (b"curl/8.0", False),
        (b"", False),
        (b"\xff\xfe", False),
    ],
)
def test_health_checkers_are_known_by_the_start_of_their_user_agent(agent, expected):
    """They ask until the very end, and that is no sign of callers."""
    assert heard().is_health_check(agent) is expected


def test_without_agents_nobody_is_a_health_checker():
    """An empty setting switches it off."""
    assert ArrivalRate(()).is_health_check(b"kube-probe/1.36") is False


def test_agents_of_ones_own_are_known():
    """`health_check_agents` replaces the list."""
    sound = ArrivalRate(("Uptime/",))
    assert sound.is_health_check(b"Uptime/7")
    assert not sound.is_health_check(b"kube-probe/1.36")
