"""What docs/kubernetes.md shows is what the code wants: pods without a problem, a Role for each tier."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from drainproxy.cli.check_command import wiring
from drainproxy.injector.patch import Injected, inject
from drainproxy.kube.lint import spec_problems
from drainproxy.kube.permissions import TIERS, needs
from drainproxy.kube.settings import KubeSettings
from drainproxy.lifecycle.propagation import PRESETS
from drainproxy.lifecycle.report import Cause
from drainproxy.podspec import sidecar
from tests.injector.pods import app, pod
from tests.injector.ways import HOUSE

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
    assert meant.warnings == ()
    assert spec_problems(spec, meant.lifecycle.grace_period, meant.rules.max_s) == []
    assert meant.budget().needed_s <= spec["terminationGracePeriodSeconds"]


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
    grants = {
        (verb, group, resource)
        for rule in granted
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert grants == {(need.verb, need.group, need.resource) for need in needs(tier)}
    assert f"`{tier}`" in PAGE


def test_the_binding_gives_what_the_role_grants():
    """To the ServiceAccount that a pod has which names none."""
    assert shown("binding")["roleRef"]["name"] == shown("role")["metadata"]["name"]
    assert shown("binding")["subjects"] == [{"kind": "ServiceAccount", "name": "default"}]


def test_the_token_is_where_it_is_looked_for():
    """The volume that injection adds, mounted on the default of `kubernetes_credentials`."""
    made = inject(pod(app()), HOUSE, "shop")
    assert isinstance(made, Injected)
    token = shown("token")
    assert token["volume"] in made.pod["spec"]["volumes"]
    assert token["mount"] in sidecar(made.pod["spec"])[0]["volumeMounts"]
    assert token["mount"]["mountPath"] == KubeSettings().kubernetes_credentials


def test_every_preset_and_every_cause_is_explained():
    """A name that an operator meets has a row."""
    for name in (*PRESETS, *Cause):
        assert f"| `{name}` |" in PAGE
