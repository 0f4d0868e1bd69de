"""Timers that contradict one another are named, with the number to change."""

from __future__ import annotations

import pytest

from drainproxy import config
from drainproxy.lifecycle.propagation import PRESETS

CASES = {
    "margin": ({"PROPAGATION_MARGIN": "20s"}, "propagation_margin 20 s is longer than propagation_max 15 s"),
    "quiet": ({"PROPAGATION_QUIET": "16s"}, "propagation_quiet 16 s is longer"),
    "sparse": ({"PROPAGATION_MAX": "6s"}, "sparse_min 8 s is longer than propagation_max 6 s"),
    "refuse": ({"REFUSE_WINDOW": "22s"}, "refuse_window 22 s leaves no time"),
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


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_contradicts_itself(preset):
    """With the grace period it needs."""
    assert warnings(PROPAGATION=preset, GRACE_PERIOD="200s") == ()


def test_without_the_quiet_rule_sparse_min_is_no_matter():
    """The mesh preset has none."""
    assert warnings(PROPAGATION_QUIET="0s", PROPAGATION_MAX="6s") == ()
