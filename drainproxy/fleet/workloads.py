"""Which objects are workloads, which pods are theirs, and whether a rollout of one is over.

Pure. The rules of being over are those of `kubectl rollout status` (kubectl: polymorphichelpers,
rollout_status.go), and of Argo Rollouts for theirs.
"""

from collections.abc import Collection, Mapping
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.kube.identity import workload_of
from drainproxy.kube.owners import Kind

Thing = Mapping[str, Any]


def all_of(kind: Kind, namespace: str) -> str:
    """Return the path of all workloads of a kind."""
    return kind.path(namespace, "").rstrip("/")


def selector(workload: Thing) -> str:
    """Return what chooses a workload's pods, as a query has it. Raises KubernetesError where nothing does."""
    said = workload.get("spec", {}).get("selector") or {}
    terms = [f"{name}={value}" for name, value in (said.get("matchLabels") or {}).items()]
    for each in said.get("matchExpressions") or ():
        values = ",".join(each.get("values") or ())
        terms.append(
            {
                "In": f"{each['key']} in ({values})",
                "NotIn": f"{each['key']} notin ({values})",
                "Exists": each["key"],
                "DoesNotExist": f"!{each['key']}",
            }[each["operator"]]
        )
    if not terms:
        raise KubernetesError("it has no selector that tells its pods", reason="malformed")
    return ",".join(terms)


def is_pod_of(name: str, pod: str, replica_sets: Collection[str]) -> bool:
    """Tell by its name whether a pod was a workload's."""
    return pod.rpartition("-")[0] in replica_sets or workload_of(pod) == name


def unsettled(kind: Kind, workload: Thing) -> str:
    """Say what a rollout still waits for; empty once it is over."""
    spec, status = workload["spec"], workload.get("status") or {}
    observed = status.get("observedGeneration", 0)
    if int(observed or 0) < int((workload.get("metadata") or {}).get("generation", 0)):
        return "the controller has not seen it yet"
    wanted, updated, available, old = _counts(kind, spec, status)
    if updated < wanted - old:
        return f"{updated} of {wanted - old} pods are new"
    if kind.between is not None and status.get("replicas", 0) > updated:
        return f"{status.get('replicas', 0) - updated} old pods are to be ended"
    if available < wanted:
        return f"{available} of {wanted} pods are available"
    return ""


def _counts(kind: Kind, spec: Thing, status: Thing) -> tuple[int, int, int, int]:
    """Return how many pods there should be, are new, are available, and may stay old."""
    wanted = spec.get("replicas", 1)
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    old = 0
    if kind.kind == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
    elif kind.kind == "ReplicaSet":
        updated = status.get("replicas", 0)
    elif kind.kind == "StatefulSet":
        available = status.get("readyReplicas", 0)
        old = ((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition", 0)
        if status.get("updateRevision", "") == status.get("currentRevision", ""):
            # All are of one revision, and then nobody counts who was updated.
            updated = max(updated, status.get("replicas", wanted))
    if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        # Pods become new when somebody deletes them, and nothing is on its way.
        updated = wanted
    return wanted, updated, available, min(old, wanted)
