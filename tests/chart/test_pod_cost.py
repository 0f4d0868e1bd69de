"""Who may patch pods for their deletion cost: what the Role grants, what the policy beside it leaves of it.

CEL is evaluated by cel-cpp, typed objects read as maps.
"""

from __future__ import annotations

import copy

import pytest

from drainproxy.kube.permissions import POD_COST, needs
from drainproxy.kube.pod_cost import ANNOTATION
from tests.chart.rendering import ROOT, documents, one
from tests.chart.standards import assert_valid
from tests.chart.test_manifests import build, pytestmark  # noqa: F401 - both need kubectl

cel = pytest.importorskip(
    "cel_expr_python.cel", reason="cel-expr-python is not installed; make .venv/group-deploy"
)
MANIFEST = ROOT / "manifests" / "pod-cost"
ACCOUNT = "system:serviceaccount:shop:default"
POD = {
    "metadata": {
        "name": "web-1",
        "labels": {"app": "web"},
        "annotations": {"note": "x"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "uid": "r"}],
    },
    "spec": {"containers": [{"name": "app", "image": "shop:1"}]},
}


def allowed(after, *, name: str = "web-1", user: str = ACCOUNT, bound: str | None = "web-1", before=POD):
    """Tell whether the policy lets an update pass; None where it does not look at it."""
    policy = one(build(MANIFEST), "ValidatingAdmissionPolicy")["spec"]
    extra = {} if bound is None else {"extra": {"authentication.kubernetes.io/pod-name": [bound]}}
    about = {"name": name, "namespace": "shop", "userInfo": {"username": user, **extra}}
    names = ("object", "oldObject", "request", "variables")
    environment = cel.NewEnv(
        config=cel.NewEnvConfigFromYaml("name: policy\nextensions:\n- name: optional\n"),
        variables=dict.fromkeys(names, cel.Type.DYN),
    )
    data = {"object": after, "oldObject": before, "request": about, "variables": {}}

    def value(expression):
        return environment.compile(expression).eval(data=data).value()

    if not all(value(each["expression"]) for each in policy["matchConditions"]):
        return None
    for each in policy["variables"]:
        found = value(each["expression"])
        data["variables"] = {**data["variables"], each["name"]: _plain(found)}
    return all(value(each["expression"]) for each in policy["validations"])


def _plain(value):
    return (
        {_plain(k): _plain(v) for k, v in value.items()}
        if hasattr(value, "items")
        else getattr(value, "value", lambda: value)()
    )


def changed(*path: str, to) -> dict:
    """Return the pod with one thing changed, or taken away (None)."""
    pod = copy.deepcopy(POD)
    *way, last = path
    at = pod
    for each in way:
        at = at.setdefault(each, {})
    if to is None:
        del at[last]
    else:
        at[last] = to
    return pod


COST = changed("metadata", "annotations", ANNOTATION, to="10")


def test_its_own_cost_may_be_written_changed_and_taken_away():
    """By a token that is bound to that pod."""
    assert allowed(COST)
    assert allowed(changed("metadata", "annotations", ANNOTATION, to="100"), before=COST)
    assert allowed(POD, before=COST)
    bare = changed("metadata", "annotations", to=None)
    assert allowed({**bare, "metadata": {**bare["metadata"], "annotations": {ANNOTATION: "1"}}}, before=bare)


@pytest.mark.parametrize("bound", ["web-2", None], ids=["another pod's token", "a token of no pod"])
def test_no_other_pods_cost_may_be_written(bound):
    """Whoever has the ServiceAccount elsewhere has nothing of it here."""
    assert allowed(COST, bound=bound) is False


@pytest.mark.parametrize(
    "after",
    [
        changed("spec", "containers", to=[{"name": "app", "image": "evil:1"}]),
        changed("spec", "activeDeadlineSeconds", to=1),
        changed("metadata", "labels", "app", to="till"),
        changed("metadata", "labels", to=None),
        changed("metadata", "ownerReferences", to=None),
        changed("metadata", "finalizers", to=["never"]),
        changed("metadata", "annotations", "note", to="y"),
        changed("metadata", "annotations", "note", to=None),
        changed("metadata", "annotations", to=None),
        changed("metadata", "annotations", "drainproxy.io/report", to="{}"),
    ],
    ids=str,
)
def test_nothing_else_of_a_pod_may_be_changed(after):
    """Images, labels by which Services choose, owners, other annotations."""
    assert allowed(after) is False


@pytest.mark.parametrize("user", ["alice", "system:serviceaccount:shop:till", "system:node:a"])
def test_others_are_not_looked_at(user):
    """The policy takes nothing from people, controllers and kubelets."""
    assert allowed(changed("metadata", "labels", "app", to="till"), user=user, bound=None) is None


def test_the_role_is_the_tiers_and_the_charts():
    """One meaning of a tier; every document is valid, and is bound in the namespace that it names."""
    found = build(MANIFEST)
    assert_valid(found)
    rules = one(found, "Role")["rules"]
    granted = {(verb, *rule["apiGroups"], *rule["resources"]) for rule in rules for verb in rule["verbs"]}
    assert granted == {(need.verb, need.group, need.resource) for need in needs(POD_COST)}
    values = {"sidecar": {"rbac": POD_COST}, "rbac": {"namespaces": [{"name": "default"}]}}
    assert rules == one(documents(values), "Role")["rules"]
    binding = one(found, "ValidatingAdmissionPolicyBinding")["spec"]
    chosen = binding["matchResources"]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert chosen == one(found, "Role")["metadata"]["namespace"]
    assert binding["policyName"] == one(found, "ValidatingAdmissionPolicy")["metadata"]["name"]
