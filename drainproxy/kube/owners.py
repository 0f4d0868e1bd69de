"""Whose is a pod? Kinds of workloads as people write them, and what their controllers leave on pods.

Pure. Labels are anybody's: a canary, a second release or a debug pod may have the same. What a controller
owns says so in its ownerReferences (Kubernetes: Owners and Dependents). Called by survey.py and
check_command.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Thing = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind with a pod template."""

    kind: str
    plural: str
    root: str
    """Its API group's and version's path."""
    short: tuple[str, ...] = ()
    between: "Kind | None" = None
    """What it owns, and what owns its pods."""

    def path(self, namespace: str, name: str) -> str:
        """Return an object's path."""
        return f"{self.root}/namespaces/{namespace}/{self.plural}/{name}"

    def names(self) -> set[str]:
        """Return every word that kubectl takes for it, in lower case."""
        group, version = self.root.split("/")[-2:]
        words = {self.kind.lower(), self.plural, *self.short}
        return words | {f"{word}{tail}" for word in words for tail in (f".{group}", f".{version}.{group}")}


_APPS = "/apis/apps/v1"
_REPLICA_SETS = Kind("ReplicaSet", "replicasets", _APPS, ("rs",))
_REPLICATION = Kind("ReplicationController", "replicationcontrollers", "/api/v1")
KINDS = (
    Kind("Deployment", "deployments", _APPS, ("deploy",), _REPLICA_SETS),
    Kind("StatefulSet", "statefulsets", _APPS, ("sts",)),
    Kind("DaemonSet", "daemonsets", _APPS, ("ds",)),
    _REPLICA_SETS,
    Kind("Rollout", "rollouts", "/apis/argoproj.io/v1alpha1", ("ro",), _REPLICA_SETS),
    Kind("DeploymentConfig", "deploymentconfigs", "/apis/apps.openshift.io/v1", ("dc",), _REPLICATION),
    Kind("CloneSet", "clonesets", "/apis/apps.kruise.io/v1alpha1", ("clone",)),
)


def kind_of(word: str) -> Kind | None:
    """Return what kubectl would take a word for: deploy, Deployment, deployments, deployment.apps."""
    return next((kind for kind in KINDS if word.lower() in kind.names()), None)


def controller(thing: Thing) -> Thing | None:
    """Return the one reference that says who manages a thing."""
    references = (thing.get("metadata") or {}).get("ownerReferences") or ()
    return next((each for each in references if each.get("controller")), None)


def owned(thing: Thing, owner: Thing) -> bool:
    """Tell whether a thing is managed by an owner: a name may be used again, a uid is not."""
    reference, metadata = controller(thing), owner["metadata"]
    if reference is None or reference.get("name") != metadata.get("name"):
        return False
    # Items of a list say no kind of themselves.
    if "kind" in owner and reference.get("kind") != owner["kind"]:
        return False
    return bool(reference.get("uid", metadata.get("uid")) == metadata.get("uid"))


def owned_by_name(pod: Thing, workload: Thing) -> bool:
    """Tell it by names alone, where what stands between may not be read: it is called NAME-HASH."""
    reference = controller(pod)
    if reference is None or reference.get("kind") not in {"ReplicaSet", "ReplicationController"}:
        return False
    name, _, last = str(reference.get("name")).rpartition("-")
    return bool(last and name == workload["metadata"].get("name"))


def labels(thing: Thing | None) -> Mapping[str, Any]:
    """Return the labels of a thing, none where it has none or is not there."""
    return ((thing or {}).get("metadata") or {}).get("labels") or {}


def label(thing: Thing | None, name: str) -> str:
    """Return a label of a thing, empty where it has none."""
    return str(labels(thing).get(name, ""))


def stays(pod: Thing) -> bool:
    """Tell whether a pod neither ends nor has ended."""
    ended = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
    return "deletionTimestamp" not in pod["metadata"] and not ended
