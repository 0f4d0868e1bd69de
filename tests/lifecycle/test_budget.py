"""A grace period divided up: one rule, and a sentence that says which number to change."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from drainproxy import config
from drainproxy.lifecycle.budget import MIN_STOP_S, divide
from drainproxy.lifecycle.propagation import PRESETS
from drainproxy.lifecycle.settings import LifecycleSettings

USUAL = LifecycleSettings()


def test_the_defaults_fit_kubernetes_default_grace_period_exactly():
    """15 + 7 + 5 + 3 = 30: nobody has to change a number to begin with, and no second is left over."""
    budget = divide(USUAL, 15.0, 30.0)
    assert (budget.propagation_max_s, budget.leave_s, budget.app_stop_s, budget.reserve_s) == (15, 7, 5, 3)
    assert budget.problems == ()
    assert divide(USUAL, 15.0, 29.999).problems != ()


def test_an_unknown_grace_period_is_taken_for_kubernetes_default():
    """The Downward API does not offer it."""
    assert divide(USUAL, 15.0, None) == divide(USUAL, 15.0, 30.0)


@pytest.mark.parametrize(
    ("grace", "deadline", "app_stop", "reserve"),
    [
        (None, 22, 5, 3),
        (30, 22, 5, 3),
        (60, 52, 5, 3),
        (3600, 3592, 5, 3),
        # Too short: everybody has less, in proportion.
        (27, 19.8, 4.5, 2.7),
        (15, 11, 2.5, 1.5),
        # So short that the kubelet's own two seconds are enough for the application.
        (5, 4.5, 0, 0.5),
        (1, 0.8, 0, 0.2),
        (0, 0, 0, 0),
    ],
)
def test_the_deadline_leaves_the_application_its_time_to_stop(grace, deadline, app_stop, reserve):
    """deadline = t0 + grace - app_stop - reserve, and short grace periods still go mostly to requests."""
    budget = divide(USUAL, 15.0, grace)
    assert budget.deadline(100.0) == pytest.approx(100.0 + deadline)
    assert (budget.app_stop_s, budget.reserve_s) == pytest.approx((app_stop, reserve))


@pytest.mark.parametrize(("preset", "needed"), [("alb", 105), ("gce-neg", 90), ("agic", 135), ("mesh", 40)])
def test_a_sum_that_does_not_fit_names_the_numbers_to_change(preset, needed):
    """An operator reads what to set, and to what, without doing sums."""
    rules = PRESETS[preset][0]
    (problem,) = divide(USUAL, rules.max_s, 30.0).problems
    assert "terminationGracePeriodSeconds" in problem
    assert f"grace_period to at least {needed} s" in problem
    assert "propagation_max to at most 15 s" in problem
    for part in ("propagation_max", "leave_spread", "app_stop", "reserve"):
        assert part in problem
    assert divide(USUAL, rules.max_s, float(needed)).problems == ()


@pytest.mark.parametrize(("preset", "max_s"), [(name, rules.max_s) for name, (rules, _) in PRESETS.items()])
@pytest.mark.parametrize("grace", [*range(1, 60), *range(60, 601, 20)])
def test_every_grace_period_leaves_propagation_its_share(grace, preset, max_s):
    """From one second on the cluster has time to stop choosing the pod, and is served meanwhile."""
    budget = divide(USUAL, max_s, float(grace))
    deadline, refuse_from = budget.deadline(0.0), budget.deadline(0.0) - budget.refuse_window_s
    assert budget.propagation_max_s >= min(max_s, grace / 2)
    assert 0 < refuse_from < deadline < grace
    shares = budget.propagation_max_s + budget.leave_s + budget.app_stop_s + budget.reserve_s
    assert shares <= grace + 1e-9
    # Nobody is refused while the cluster may still send: propagation ends before.
    assert budget.propagation_max_s + budget.leave_margin_s <= deadline
    assert budget.propagation_max_s < refuse_from
    assert 0 < budget.leave_margin_s <= budget.leave_s
    # Beside a native sidecar work may go on while the kubelet still lets the application live.
    killed = max(grace, deadline + MIN_STOP_S)
    assert deadline <= deadline + budget.overtime_s <= killed - budget.reserve_s + 1e-9
    # The application has what it was to have, counted with what the kubelet adds.
    assert killed - deadline >= min(USUAL.app_stop, grace / 6) - 1e-9
    if grace >= max(max_s + 15, 16):
        assert (budget.leave_s, budget.app_stop_s, budget.reserve_s) == (7, 5, 3)
        assert (budget.refuse_window_s, budget.overtime_s, budget.problems) == (1, 0, ())


def test_an_application_that_needs_longer_to_stop_has_it_where_it_fits():
    """docs/operations.md: 15 + 5 + 2 + 20 + 3 = 45."""
    budget = divide(replace(USUAL, app_stop=20.0), 15.0, 45.0)
    assert (budget.app_stop_s, budget.deadline(0.0), budget.problems) == (20, 22, ())


def test_a_running_pod_shortens_propagation_rather_than_refuse():
    """A pod must not fail to start over a sum."""
    budget = divide(USUAL, 90.0, 30.0)
    assert budget.propagation_max_s == 15.0
    assert budget.deadline(0.0) == 22.0


def halves(least: int, most: int):
    """Durations in steps of half a second: sums of them are exact."""
    return st.integers(least * 2, most * 2).map(lambda number: number / 2)


shares = st.builds(
    LifecycleSettings, leave_spread=halves(0, 20), app_stop=halves(0, 20), reserve=halves(0, 20)
)


@given(shares, halves(0, 150), st.none() | halves(0, 300))
def test_shares_never_exceed_the_grace_period(wanted, max_s, grace):
    """Whatever was asked for, what is planned before the deadline fits in before the deadline."""
    budget = divide(wanted, max_s, grace)
    assert 0 <= budget.propagation_max_s <= max_s
    assert budget.deadline(0.0) + budget.app_stop_s + budget.reserve_s == pytest.approx(budget.grace_s)
    total = budget.propagation_max_s + budget.leave_s + budget.app_stop_s + budget.reserve_s
    assert total <= budget.grace_s + 1e-9
    if budget.problems and budget.grace_s > 0 and max_s > 0:
        assert budget.propagation_max_s > 0


@given(shares, halves(0, 150), halves(0, 300))
def test_following_the_advice_ends_the_problem(wanted, max_s, grace):
    """Either number in the sentence, once set, is enough."""
    problems = divide(wanted, max_s, grace).problems
    assume(problems)
    more = re.search(r"at least (\S+) s", problems[0])
    less = re.search(r"at most (\S+) s", problems[0])
    assert more is not None
    assert divide(wanted, max_s, float(more[1])).problems == ()
    if less is not None:
        assert divide(wanted, float(less[1]), grace).problems == ()


@given(st.integers(0, 3000), st.integers(1, 3))
@example(tenths=4, digits=1)
def test_a_sum_that_fits_exactly_fits_in_fractions_too(tenths, digits):
    """25.4 s are enough for 10.4 + 7 + 5 + 3, though not in binary fractions."""
    wanted = float(f"{10 + tenths / 10**digits:.3f}")
    grace = float(f"{wanted + 15:.3f}")
    assert divide(USUAL, wanted, grace).problems == ()


def test_a_grace_period_too_short_for_leaving_is_a_problem_without_propagation_too():
    """One rule everywhere: outside Kubernetes nothing propagates, but tunnels need their time to leave."""
    (problem,) = divide(USUAL, 0.0, 5.0).problems
    assert "leave_spread" in problem


# Settings that contradict one another in time.

CASES = {
    "margin": ({"PROPAGATION_MARGIN": "20s"}, "propagation_margin 20 s is longer than propagation_max 15 s"),
    "quiet": ({"PROPAGATION_QUIET": "16s"}, "propagation_quiet 16 s is longer"),
    "sparse": ({"PROPAGATION_MAX": "6s"}, "sparse_min 8 s is longer than propagation_max 6 s"),
    "refuse": ({"REFUSE_WINDOW": "22s"}, "refuse_window 22 s leaves no time"),
    "drain_timeout": (
        {"DRAIN_TIMEOUT": "1m"},
        (
            "drain_timeout 60 s is beyond the 22 s that grace period 30 s leaves for requests: its"
            " deadline ends them first; set terminationGracePeriodSeconds and grace_period to at least 68 s,"
            " or drain_timeout to at most 22 s"
        ),
    ),
    "delay": ({"READINESS_ON_DRAIN": "delay:30s"}, "delay:30s says 200 until"),
}


def warnings(**env: str) -> tuple[str, ...]:
    """What `config --check` says."""
    settings = {"PROPAGATION": "cluster", **env}
    return config.load({f"DRAINPROXY_{name}": text for name, text in settings.items()}).warnings


@pytest.mark.parametrize(("env", "sentence"), CASES.values(), ids=CASES.keys())
def test_a_contradiction_is_one_sentence(env, sentence):
    """It says which number is wrong and what to write."""
    (warning,) = warnings(**env)
    assert sentence in warning


@pytest.mark.parametrize("env", [{"DRAIN_TIMEOUT": "22s"}, {"DRAIN_TIMEOUT": "60s", "GRACE_PERIOD": "68s"}])
def test_a_drain_timeout_that_the_grace_period_holds_is_none(env):
    """Following the advice, either way, to the second."""
    assert warnings(**env) == ()


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_contradicts_itself(preset):
    """With the grace period it needs."""
    assert warnings(PROPAGATION=preset, GRACE_PERIOD="200s") == ()


def test_without_the_quiet_rule_sparse_min_is_no_matter():
    """The mesh preset has none."""
    assert warnings(PROPAGATION_QUIET="0s", PROPAGATION_MAX="6s") == ()
