"""How much was heard before a drain: the rate that tells whether silence means anything."""

from __future__ import annotations

import pytest

from drainproxy.lifecycle.settings import HEALTH_CHECK_AGENTS
from drainproxy.lifecycle.sound import WINDOW_S, Sound


def heard(*arrivals: float) -> Sound:
    """A Sound that has heard these."""
    sound = Sound(HEALTH_CHECK_AGENTS)
    for arrival in arrivals:
        sound.arrived(arrival)
    return sound


def test_the_rate_is_the_mean_of_the_last_minute():
    """Three arrivals a second for an hour are three a second."""
    sound = heard(*(second + part / 3 for second in range(3600) for part in range(3)))
    assert sound.arrivals_per_s(3599.9) == pytest.approx(3.0)


def test_what_is_older_than_the_window_is_forgotten():
    """A burst counts for a minute, then it is as if it had not been."""
    sound = heard(*[1000.5] * 600)
    assert sound.arrivals_per_s(1000.9) == 10.0
    assert sound.arrivals_per_s(1059.9) == 10.0
    assert sound.arrivals_per_s(1060.0) == 0.0


def test_the_ring_wraps_without_mixing_minutes():
    """The counter of a second is used again a minute later, from nought."""
    sound = heard(100.0, 100.5, 100.0 + WINDOW_S)
    assert sound.arrivals_per_s(100.0 + WINDOW_S) == pytest.approx(1 / WINDOW_S)


def test_a_young_process_counts_as_quieter_than_it_was():
    """Ten seconds of traffic are taken as spread over the whole window: the careful side is to wait."""
    sound = heard(*(second + 0.5 for second in range(1000, 1010) for _ in range(6)))
    assert sound.arrivals_per_s(1010.0) == pytest.approx(1.0)


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
    assert Sound(()).is_health_check(b"kube-probe/1.36") is False


def test_agents_of_ones_own_are_known():
    """`health_check_agents` replaces the list."""
    sound = Sound(("Uptime/",))
    assert sound.is_health_check(b"Uptime/7")
    assert not sound.is_health_check(b"kube-probe/1.36")
