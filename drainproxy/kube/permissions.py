"""What may the pod's ServiceAccount do, and what does the chosen tier need?

Asked verb by verb: what lists all rules at once is incomplete wherever a webhook authorizes. Called by
cluster.py at start and by `drainproxy check`.
"""

from dataclasses import dataclass

from drainproxy.kube.client import Api


@dataclass(frozen=True, slots=True)
class Need:
    """One verb on one resource, and what is lost without it."""

    verb: str
    group: str
    resource: str
    lost: str


POD_COST = "slices+pod+events+pod-cost"
"""The last tier: who may change a pod is sent all of it in the answer, and so may read it anyway."""

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
    POD_COST: (Need("patch", "", "pods", "pods with long-lived work are deleted as soon as idle ones"),),
}
"""Tier -> what it needs beside the tiers before it."""


def includes(tier: str, other: str) -> bool:
    """Tell whether a tier is another, or above it."""
    names = list(TIERS)
    return names.index(tier) >= names.index(other)


def needs(tier: str) -> list[Need]:
    """Return everything that a tier needs."""
    names = list(TIERS)
    return [need for name in names[: names.index(tier) + 1] for need in TIERS[name]]


async def lacking(api: Api, tier: str, namespace: str, *, name: str = "", account: str = "") -> list[Need]:
    """Return what we may not do of what a tier needs, or what `account` may not. Raises KubernetesError.

    `name`: of our own pod, which a Role's resourceNames may single out.
    """
    # Every authenticated subject may ask about itself (Kubernetes: system:basic-user).
    kind, subject = "SelfSubjectAccessReview", {}
    if account:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        subject = {"user": f"system:serviceaccount:{namespace}:{account}", "groups": groups}
        kind = "SubjectAccessReview"
    found = []
    for need in needs(tier):
        wanted = {"namespace": namespace, "verb": need.verb, "group": need.group, "resource": need.resource}
        if need.resource == "pods":
            wanted["name"] = name
        spec = {**subject, "resourceAttributes": wanted}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        path = f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
        if not await api.create(path, body, lambda review: bool(review["status"]["allowed"]), verb="read"):
            found.append(need)
    return found
