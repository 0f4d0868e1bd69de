"""What a tier needs, and what a review's rules leave out."""

from __future__ import annotations

import pytest

from drainproxy.kube.permissions import TIERS, missing, needs

SLICES = {
    "verbs": ["get", "list", "watch"],
    "apiGroups": ["discovery.k8s.io"],
    "resources": ["endpointslices"],
}
POD = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
EVENTS = {"verbs": ["create"], "apiGroups": ["events.k8s.io"], "resources": ["events"]}
EVERYTHING = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}


def lacking(tier: str, *rules, **status):
    """Return what is missing as words."""
    found = missing({"resourceRules": list(rules), **status}, needs(tier), "pod-1")
    return [f"{need.verb} {need.resource}" for need in found]


ENOUGH = {
    "none": (),
    "slices": (SLICES,),
    "slices+pod": (SLICES, POD),
    "slices+pod+events": (SLICES, POD, EVENTS),
}


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_with_its_rules_lacks_nothing(tier):
    """What docs/kubernetes.md grants is what is needed; a star is as good."""
    assert lacking(tier, *ENOUGH[tier]) == []
    assert lacking(tier, EVERYTHING) == []


def test_each_tier_needs_what_the_one_before_needs():
    """They are steps."""
    assert lacking("slices+pod+events") == [
        "list endpointslices",
        "watch endpointslices",
        "get endpointslices",
        "get pods",
        "create events",
    ]
    assert lacking("slices+pod+events", SLICES, EVENTS) == ["get pods"]


def test_events_of_the_old_group_do_not_do():
    """They are written to events.k8s.io."""
    assert lacking("slices+pod+events", SLICES, POD, {**EVENTS, "apiGroups": [""]}) == ["create events"]


def test_a_rule_for_this_pod_alone_is_enough():
    """Where somebody writes a Role by hand for a StatefulSet's pod."""
    assert lacking("slices+pod", SLICES, {**POD, "resourceNames": ["pod-1"]}) == []
    assert lacking("slices+pod", SLICES, {**POD, "resourceNames": ["pod-2"]}) == ["get pods"]


def test_a_rule_for_named_slices_is_not():
    """Slices have generated names: list and watch cannot be limited to them."""
    assert "list endpointslices" in lacking("slices", {**SLICES, "resourceNames": ["web-1"]})


def test_an_incomplete_review_proves_nothing():
    """A webhook authorizer cannot list its rules."""
    assert lacking("slices", incomplete=True) == []
    assert lacking("none") == []
