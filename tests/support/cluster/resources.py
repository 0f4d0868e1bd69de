"""Which resources there are, and what a path means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource; `group` is empty for the core."""

    group: str
    plural: str
    kind: str
    namespaced: bool = True
    version: str = "v1"

    @property
    def api_version(self) -> str:
        """What objects carry as apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """How messages call it: endpointslices.discovery.k8s.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the path of a collection, or of one object."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        parts += ["namespaces", namespace] if namespace else []
        return "/" + "/".join([*parts, self.plural, *([name] if name else [])])


PODS = Resource("", "pods", "Pod")
LOGS = Resource("", "pods/log", "Pod")
"""What a container has said; it is read by the pod's name."""
SERVICES = Resource("", "services", "Service")
NAMESPACES = Resource("", "namespaces", "Namespace", namespaced=False)
NODES = Resource("", "nodes", "Node", namespaced=False)
SLICES = Resource("discovery.k8s.io", "endpointslices", "EndpointSlice")
EVENTS = Resource("events.k8s.io", "events", "Event")
DEPLOYMENTS = Resource("apps", "deployments", "Deployment")
REPLICA_SETS = Resource("apps", "replicasets", "ReplicaSet")
STATEFUL_SETS = Resource("apps", "statefulsets", "StatefulSet")
DAEMON_SETS = Resource("apps", "daemonsets", "DaemonSet")
ROLLOUTS = Resource("argoproj.io", "rollouts", "Rollout", version="v1alpha1")
AUTOSCALERS = Resource("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler", version="v2")
NETWORK_POLICIES = Resource("networking.k8s.io", "networkpolicies", "NetworkPolicy")
LIMIT_RANGES = Resource("", "limitranges", "LimitRange")
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
SUBJECT_REVIEWS = Resource(
    "authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)

ALL = (
    PODS,
    SERVICES,
    NAMESPACES,
    NODES,
    SLICES,
    EVENTS,
    DEPLOYMENTS,
    AUTOSCALERS,
    NETWORK_POLICIES,
    ACCESS_REVIEWS,
    SUBJECT_REVIEWS,
    Resource("", "configmaps", "ConfigMap"),
    Resource("", "serviceaccounts", "ServiceAccount"),
    REPLICA_SETS,
    STATEFUL_SETS,
    ROLLOUTS,
    LIMIT_RANGES,
    DAEMON_SETS,
    Resource("batch", "jobs", "Job"),
    Resource("networking.k8s.io", "ingresses", "Ingress"),
    Resource("policy", "poddisruptionbudgets", "PodDisruptionBudget"),
    Resource("rbac.authorization.k8s.io", "roles", "Role"),
    Resource("rbac.authorization.k8s.io", "rolebindings", "RoleBinding"),
)
_BY_PLACE = {(each.group, each.version, each.plural): each for each in ALL}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about."""

    resource: Resource
    namespace: str | None
    name: str | None


def target(path: str) -> Target | None:
    """Return what a path means; None where nothing has it."""
    match path.strip("/").split("/"):
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            return None
    namespace = None
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    if len(rest) == 3 and (rest[0], rest[2]) == ("pods", "log"):
        return Target(LOGS, namespace, rest[1])
    if len(rest) not in (1, 2):
        return None
    resource = _BY_PLACE.get((group, version, rest[0]))
    if resource is None or (namespace and not resource.namespaced):
        return None
    return Target(resource, namespace, rest[1] if len(rest) == 2 else None)


def discovery(path: str, version: str = "v1.36.0") -> dict[str, Any] | None:
    """Return what /version, /api, /apis and a group's own path say."""
    if path == "/version":
        major, minor = version.removeprefix("v").split(".")[:2]
        return {"major": major, "minor": minor, "gitVersion": version, "platform": "linux/amd64"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = sorted({(each.group, each.version) for each in ALL if each.group})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*each) for each in groups]}
    here = [each for each in ALL if path == each.path().rpartition("/")[0]]
    if not here:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": here[0].api_version,
        "resources": [
            {
                "name": each.plural,
                "kind": each.kind,
                "namespaced": each.namespaced,
                "verbs": ["create", "delete", "get", "list", "patch", "watch"],
            }
            for each in here
        ],
    }


def _group(group: str, version: str) -> dict[str, Any]:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}
