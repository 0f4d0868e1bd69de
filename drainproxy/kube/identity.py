"""Which pod is this? From the Downward API's environment, through settings.

Pure. Called by app.py: without an identity nothing is asked of the cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drainproxy.kube.settings import KubeSettings


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """What the pod is called in the cluster; empty where it was not told."""

    namespace: str
    name: str
    uid: str
    node: str

    def is_target(self, reference: Mapping[str, Any]) -> bool:
        """Tell whether an ObjectReference names this pod.

        By UID, since a StatefulSet's next pod has this one's name.
        """
        if self.uid:
            return reference.get("uid") == self.uid
        return reference.get("kind") == "Pod" and reference.get("name") == self.name


def identity(settings: KubeSettings) -> PodIdentity | None:
    """Return who we are, or None where that cannot be told."""
    if not settings.pod_namespace or not (settings.pod_uid or settings.pod_name):
        return None
    return PodIdentity(
        namespace=settings.pod_namespace,
        name=settings.pod_name or "",
        uid=settings.pod_uid or "",
        node=settings.node_name or "",
    )
