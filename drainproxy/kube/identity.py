"""Which pod is this? From the Downward API's environment, through settings.

Pure. Called by app.py: without an identity nothing is asked of the cluster.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drainproxy.kube.settings import KubeSettings
from drainproxy.lifecycle.report import Place

_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]"
"""What Kubernetes makes names of: no vowels, and no digits that look like letters
(apimachinery: util/rand, SafeEncodeString)."""
_MADE_UP = re.compile(rf"(.+?)(-{_RANDOM}{{6,10}})?-{_RANDOM}{{5}}|(.+)-[0-9]+")
"""A workload's name, a template's hash and a pod's own end; or a name and an ordinal."""


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


def place(settings: KubeSettings) -> Place:
    """Return whose reports these are, as far as the pod was told."""
    name = settings.pod_name or ""
    return Place(
        pod=name,
        namespace=settings.pod_namespace or "",
        node=settings.node_name or "",
        workload=settings.workload or workload_of(name),
    )


def workload_of(pod_name: str) -> str:
    """Return the workload's name, of which a controller has made the pod's; the whole where none has."""
    made = _MADE_UP.fullmatch(pod_name)
    return pod_name if made is None else made[1] or made[3]
