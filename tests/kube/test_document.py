"""What docs/kubernetes.md shows is what the code wants: pods without a problem, a Role for each tier."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from drainproxy.check import wiring
from drainproxy.kube.lint import spec_problems
from drainproxy.kube.permissions import TIERS, missing, needs
from drainproxy.lifecycle.propagation import PRESETS
from drainproxy.lifecycle.report import Cause
from drainproxy.podspec import sidecar

PAGE = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text()


def shown(name: str) -> dict[str, Any]:
    """Return the YAML below a mark."""
    (text,) = re.findall(rf"<!-- yaml: {name} -->\n\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    return yaml.safe_load(text)


@pytest.mark.parametrize("name", ["native", "plain"])
def test_a_pod_that_is_shown_has_no_problem(name):
    """Neither its timers and hooks nor the settings of its sidecar."""
    spec = shown(name)["spec"]
    ours, native = sidecar(spec)
    assert native == (name == "native")
    meant = wiring(ours)
    assert meant.problems == ()
    assert spec_problems(spec, meant.grace_s, meant.propagation_max_s) == []
    assert meant.needed_grace_s <= spec["terminationGracePeriodSeconds"]


def test_both_pods_differ_in_what_makes_them_native():
    """Everything else is the same container."""
    native, plain = (sidecar(shown(name)["spec"])[0] for name in ("native", "plain"))
    only = {key: native[key] for key in native if key not in plain}
    assert only.keys() == {"restartPolicy", "lifecycle"}
    assert {key: native[key] for key in plain} == plain


@pytest.mark.parametrize("tier", TIERS)
def test_the_role_grants_each_tier_and_no_more(tier):
    """Rule by rule, one a tier."""
    rules = shown("role")["rules"]
    granted = rules[: list(TIERS).index(tier)]
    assert missing({"resourceRules": granted}, needs(tier), "web") == []
    if granted:
        assert missing({"resourceRules": granted[:-1]}, needs(tier), "web") != []
    assert f"`{tier}`" in PAGE


def test_every_preset_and_every_cause_is_explained():
    """A name that an operator meets has a row."""
    for name in (*(preset for preset in PRESETS if preset != "none"), *Cause):
        assert f"| `{name}` |" in PAGE
