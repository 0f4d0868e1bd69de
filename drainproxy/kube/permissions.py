"""What may the pod's ServiceAccount do, and what does the chosen tier need?

Pure but for the one question. Called by cluster.py at start and by `drainproxy check`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from drainproxy.kube.client import Api

REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
"""Every authenticated subject may ask this (Kubernetes: system:basic-user)."""

ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Need:
    """One verb on one resource, and what is lost without it."""

    verb: str
    group: str
    resource: str
    lost: str


_EVIDENCE = "drains go by time and quiet"
TIERS: dict[str, tuple[Need, ...]] = {
    "none": (),
    "slices": (
        Need("list", "discovery.k8s.io", "endpointslices", _EVIDENCE),
        Need("watch", "discovery.k8s.io", "endpointslices", "each own slice is read again and again"),
        Need("get", "discovery.k8s.io", "endpointslices", "slices are not followed where watches fail"),
    ),
    "slices+pod": (Need("get", "", "pods", "the real grace period and the cause stay unknown"),),
    "slices+pod+events": (Need("create", "events.k8s.io", "events", "no Event tells of a cut request"),),
}
"""Tier -> what it needs beside the tiers before it."""


def needs(tier: str) -> list[Need]:
    """Return everything that a tier needs."""
    names = list(TIERS)
    return [need for name in names[: names.index(tier) + 1] for need in TIERS[name]]


async def ask(api: Api, namespace: str) -> Mapping[str, Any]:
    """Return what we may do in a namespace (SelfSubjectRulesReview). Raises KubernetesError."""
    body = _review("SelfSubjectRulesReview", namespace=namespace)
    return await api.create(REVIEW, body, lambda review: dict(review["status"]), verb="read")


async def missing_for(api: Api, namespace: str, account: str, tier: str) -> list[Need]:
    """Return what a ServiceAccount may not do of what a tier needs, asked verb by verb by somebody else.

    Raises KubernetesError.
    """
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    subject = {"user": f"system:serviceaccount:{namespace}:{account}", "groups": groups}
    lacking = []
    for need in needs(tier):
        wanted = {"namespace": namespace, "verb": need.verb, "group": need.group, "resource": need.resource}
        body = _review("SubjectAccessReview", **subject, resourceAttributes=wanted)
        if not await api.create(ACCESS, body, lambda review: bool(review["status"]["allowed"]), verb="read"):
            lacking.append(need)
    return lacking


def _review(kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}


def missing(status: Mapping[str, Any], wanted: Iterable[Need], name: str) -> list[Need]:
    """Return what a review's rules leave out; nothing where the authorizer cannot list them all.

    `name`: of our own pod, which a rule's resourceNames may single out.
    """
    if status.get("incomplete"):
        return []
    rules = status.get("resourceRules") or []
    return [need for need in wanted if not any(_allows(rule, need, name) for rule in rules)]


def _allows(rule: Mapping[str, Any], need: Need, name: str) -> bool:
    named = rule.get("resourceNames") or ()
    return (
        not {"*", need.verb}.isdisjoint(rule.get("verbs") or ())
        and not {"*", need.group}.isdisjoint(rule.get("apiGroups") or ())
        and not {"*", need.resource}.isdisjoint(rule.get("resources") or ())
        and (not named or (need.resource == "pods" and name in named))
    )
