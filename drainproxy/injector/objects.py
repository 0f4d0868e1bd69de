"""The objects of a document: of which kind they are, where their pods are, and why some are left alone.

Pure. What a file holds may have any shape; nothing here takes one for granted. Called by manifest.py and
surroundings.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from drainproxy.kube.rules.selectors import listed, mapping

Path = tuple[str | int, ...]

_TEMPLATE = ("spec", "template")
TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("argoproj.io", "Rollout"): _TEMPLATE,
    ("apps.openshift.io", "DeploymentConfig"): _TEMPLATE,
    ("apps.kruise.io", "CloneSet"): _TEMPLATE,
    ("apps.kruise.io", "StatefulSet"): _TEMPLATE,
    ("apps.kruise.io", "DaemonSet"): _TEMPLATE,
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("", "ReplicationController"): _TEMPLATE,
    ("", "Pod"): (),
}
"""API group and kind, and where the pod is in it."""

ENDING = frozenset({"Job", "CronJob"})
"""Kinds whose pods are there to end."""

_KNATIVE = "Knative puts a proxy of its own before the application, which drains, and takes no other"
_LEFT_ALONE = {
    ("serving.knative.dev", "Service"): _KNATIVE,
    ("serving.knative.dev", "Configuration"): _KNATIVE,
}


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. `value` is the document's own, and may be changed."""

    group: str
    kind: str
    value: dict[str, Any]
    path: Path
    """Where it is in its document."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Its metadata."""
        return mapping(self.value.get("metadata"))

    @property
    def spec(self) -> dict[str, Any]:
        """Its spec."""
        return mapping(self.value.get("spec"))

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.kind}/{self.metadata.get('name') or self.metadata.get('generateName') or ''}"

    @property
    def namespace(self) -> str:
        """Its namespace, empty where it says none: it may be applied to any."""
        return str(self.metadata.get("namespace") or "")

    @property
    def annotations(self) -> dict[str, Any]:
        """Its annotations."""
        return mapping(self.metadata.get("annotations"))

    def near(self, other: "Thing") -> bool:
        """Tell whether both may be of one namespace."""
        return len({self.namespace, other.namespace} - {""}) < 2


def objects(value: Any, path: Path = (), of: tuple[str, str] | None = None) -> Iterator[Thing]:
    """Yield the objects of a document, those of lists too. `of`: group and kind of those that say none."""
    if not isinstance(value, dict):
        return
    group, _, _ = str(value.get("apiVersion") or "").rpartition("/")
    kind = str(value.get("kind"))
    items = value.get("items")
    if of is None and kind.endswith("List") and isinstance(items, list):
        # Items of a DeploymentList need not say what they are.
        usual = None if kind == "List" else (group, kind.removesuffix("List"))
        for i, item in enumerate(items):
            yield from objects(item, (*path, "items", i), usual if isinstance(item, dict) else None)
    elif of is not None and "kind" not in value:
        yield Thing(*of, value, path)
    else:
        yield Thing(group, kind, value, path)


def template(thing: Thing) -> tuple[dict[str, Any], Path] | None:
    """Return the pod of a workload, and where it is in the object; None if it is none."""
    if (path := TEMPLATES.get((thing.group, thing.kind))) is None:
        return None
    pod = thing.value
    for part in path:
        pod = mapping(pod.get(part))
    return pod, path


def left_alone(thing: Thing) -> str:
    """Say why an object that has pods stays as it is, whatever it asks for; empty if it need not."""
    if why := _LEFT_ALONE.get((thing.group, thing.kind)):
        return why
    if (thing.group, thing.kind) == ("argoproj.io", "Rollout") and "template" not in thing.spec:
        borrowed = mapping(thing.spec.get("workloadRef"))
        return f"its pods are those of {borrowed.get('kind')}/{borrowed.get('name')}: put the label there"
    known = (thing.group, thing.kind) in TEMPLATES
    if known or not listed(mapping(mapping(thing.spec.get("template")).get("spec")).get("containers")):
        return ""
    return f"a {thing.kind} of {thing.group or 'the core'} is not known: put the label on pods that it makes"
