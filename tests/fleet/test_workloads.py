"""When a rollout is over, which pods are a workload's, and how they are asked for."""

from __future__ import annotations

from typing import Any

import pytest

from drainproxy.errors import KubernetesError
from drainproxy.fleet.workloads import is_pod_of, selector, unsettled
from drainproxy.kube.owners import Kind, kind_of


def of(word: str) -> Kind:
    """Return a kind by what people call it."""
    kind = kind_of(word)
    assert kind is not None
    return kind


DEPLOYMENT, ROLLOUT, STATEFUL_SET, DAEMON_SET = map(of, ("deploy", "rollout", "sts", "ds"))


def deployment(**status: Any) -> dict[str, Any]:
    """Return a Deployment of three pods, rolled out but for what differs."""
    over = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}
    return {"metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": {**over, **status}}


@pytest.mark.parametrize(
    ("status", "waits"),
    [
        ({}, ""),
        ({"observedGeneration": 1}, "the controller has not seen it yet"),
        ({"updatedReplicas": 1}, "1 of 3 pods are new"),
        ({"replicas": 4}, "1 old pods are to be ended"),
        ({"availableReplicas": 2}, "2 of 3 pods are available"),
    ],
)
@pytest.mark.parametrize("kind", [DEPLOYMENT, ROLLOUT])
def test_a_deployment_is_over_as_kubectl_says_it(kind, status, waits):
    """Seen, updated, old ones gone, new ones available."""
    assert unsettled(kind, deployment(**status)) == waits


def test_argo_writes_the_generation_as_text():
    """And counts like a Deployment."""
    assert unsettled(ROLLOUT, deployment(observedGeneration="2")) == ""


def stateful(**status: Any) -> dict[str, Any]:
    """Return a StatefulSet of three pods, rolled out but for what differs."""
    over = {"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "updatedReplicas": 3}
    same = {"currentRevision": "a", "updateRevision": "a"}
    return {"metadata": {"generation": 1}, "spec": {"replicas": 3}, "status": {**over, **same, **status}}


@pytest.mark.parametrize(
    ("status", "spec", "waits"),
    [
        ({}, {}, ""),
        ({"updatedReplicas": 0}, {}, ""),
        ({"updateRevision": "b", "updatedReplicas": 1}, {}, "1 of 3 pods are new"),
        (
            {"updateRevision": "b", "updatedReplicas": 1},
            {"updateStrategy": {"rollingUpdate": {"partition": 2}}},
            "",
        ),
        ({"updateRevision": "b", "updatedReplicas": 0}, {"updateStrategy": {"type": "OnDelete"}}, ""),
        ({"readyReplicas": 2}, {}, "2 of 3 pods are available"),
    ],
)
def test_a_stateful_set_is_over_when_all_behind_its_partition_are_new(status, spec, waits):
    """Those before it stay old, on purpose."""
    thing = stateful(**status)
    thing["spec"] |= spec
    assert unsettled(STATEFUL_SET, thing) == waits


def test_a_daemon_set_counts_nodes():
    """As many as want one."""
    status = {"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 2}
    thing = {"metadata": {"generation": 1}, "spec": {}, "status": {**status, "numberAvailable": 3}}
    assert unsettled(DAEMON_SET, thing) == "2 of 3 pods are new"
    thing["status"]["updatedNumberScheduled"] = 3
    assert unsettled(DAEMON_SET, thing) == ""


def test_labels_and_expressions_become_one_selector():
    """All four operators."""
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "env", "operator": "NotIn", "values": ["test"]},
        {"key": "live", "operator": "Exists"},
        {"key": "old", "operator": "DoesNotExist"},
    ]
    said = {"matchLabels": {"app": "web"}, "matchExpressions": expressions}
    assert selector({"spec": {"selector": said}}) == "app=web,tier in (a,b),env notin (test),live,!old"


def test_without_a_selector_nobody_knows_whose_pods_they_are():
    """All of a namespace would be wrong."""
    with pytest.raises(KubernetesError):
        selector({"spec": {}})


def test_pods_are_known_by_their_replica_set_or_by_their_name():
    """An old ReplicaSet may be gone."""
    assert is_pod_of("web", "web-zzz-x2x9k", ["web-zzz"])
    assert is_pod_of("web", "web-5d4f7c9b8-x2x9k", [])
    assert not is_pod_of("web", "web-api-5d4f7c9b8-x2x9k", ["web-zzz"])
