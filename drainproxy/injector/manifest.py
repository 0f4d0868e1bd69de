"""YAML documents in, YAML documents out: the workloads in them that ask for it get the sidecar.

Pure. What is not changed stays byte for byte, also what is no YAML; nothing is rejected. Called by
cli/main.py for `drainproxy inject`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from drainproxy.errors import InjectionRefused
from drainproxy.injector.edit import CannotEdit, edit
from drainproxy.injector.patch import Injected, InjectorDefaults, inject, json_patch

TEMPLATES = {
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("argoproj.io", "Rollout"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("", "Pod"): (),
}
"""API group and kind, and where the pod is in it."""

MAX_NODES = 1_000_000
"""In one document, anchors written out: a few kilobytes of them could stand for any number."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SEPARATOR = re.compile(r"^---(?=\s|$)[^\n]*\n?", re.MULTILINE)
"""At the beginning of a line it is one wherever it stands (YAML 1.2 section 9.1.2)."""


@dataclass(slots=True)
class Workload:
    """`injected` or `refusal`, or neither: it does not ask, or has the sidecar."""

    name: str
    namespace: str
    injected: Injected | None = None
    refusal: tuple[str, ...] = ()
    why_not: str = ""


@dataclass(slots=True)
class Document:
    """One document: what was read, what it became, and what there is to say about each workload in it."""

    before: str
    after: str
    workloads: list[Workload] = field(default_factory=list)
    problem: str = ""
    """Why it is passed on as it is, where somebody should know."""
    services: list[dict[str, Any]] = field(default_factory=list)


def process(text: str, defaults: InjectorDefaults, *, every: bool) -> Iterator[Document]:
    """Yield the documents of `text`; joined again they are what to apply.

    `every`: also workloads without the label, but not those whose label says no.
    """
    begin = 0
    for separator in _SEPARATOR.finditer(text):
        content = re.sub(r"^---|#.*", "", separator[0]).strip()
        if separator.start() > begin:
            yield _document(text[begin : separator.start()], defaults, every=every)
        begin = separator.end()
        if content:
            begin = separator.start()
            continue
        yield Document(separator[0], separator[0])
    if begin < len(text):
        yield _document(text[begin:], defaults, every=every)


def _document(text: str, defaults: InjectorDefaults, *, every: bool) -> Document:
    document = Document(text, text)
    if "kind" not in text:
        return document
    try:
        loaded = yaml.load(text, Loader=_LOADER)  # noqa: S506 - it is a safe one
        before, after = (_unshared(loaded, iter(range(MAX_NODES))) for _ in range(2))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        document.problem = f"no YAML, passed on as it is: {' '.join(str(error).split())[:200]}"
        return document
    for thing in _objects(after):
        group, kind = str(thing.get("apiVersion", "")).rpartition("/")[0], str(thing.get("kind"))
        if (group, kind) == ("", "Service"):
            document.services.append(thing)
        elif (path := TEMPLATES.get((group, kind))) is not None:
            document.workloads.append(_one(thing, path, defaults, every=every))
    if any(each.injected for each in document.workloads):
        try:
            document.after = edit(text, json_patch(before, after), after)
        except (CannotEdit, RecursionError) as error:
            for each in document.workloads:
                if each.injected:
                    each.injected, each.refusal = None, (f"the document cannot be changed: {error}",)
    return document


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(value, dict):
        return
    if value.get("kind") == "List" and isinstance(value.get("items"), list):
        for item in value["items"]:
            yield from _objects(item)
    else:
        yield value


def _one(
    thing: dict[str, Any], path: tuple[str, ...], defaults: InjectorDefaults, *, every: bool
) -> Workload:
    """Patch a workload in place, if it asks for it."""
    metadata = _mapping(thing.get("metadata"))
    name = f"{thing['kind']}/{metadata.get('name') or metadata.get('generateName', '')}"
    workload = Workload(name, str(metadata.get("namespace") or ""))
    pod = thing
    for part in path:
        pod = _mapping(pod.get(part))
    try:
        outcome = inject(pod, defaults, workload.namespace, unasked=every)
        if isinstance(outcome, str):
            workload.why_not = outcome
        else:
            workload.injected = outcome
            pod.clear()
            pod.update(outcome.pod)
    except InjectionRefused as refusal:
        workload.refusal = tuple(refusal.problems)
    return workload


def detours(documents: list[Document]) -> Iterator[str]:
    """Name the Services among the documents that go around a sidecar, and what to write there."""
    services = [each for document in documents for each in document.services]
    for workload in (each for document in documents for each in document.workloads):
        if workload.injected is None:
            continue
        labels = workload.injected.pod["metadata"]["labels"].items()
        for service in services:
            metadata, spec = _mapping(service.get("metadata")), _mapping(service.get("spec"))
            # What says no namespace may be applied to any.
            if len({workload.namespace, str(metadata.get("namespace") or "")} - {""}) > 1:
                continue
            selector = _mapping(spec.get("selector"))
            ports = map(_mapping, (selector and selector.items() <= labels and spec.get("ports")) or ())
            targets = [port.get("targetPort", port.get("port")) for port in ports]
            for taken in workload.injected.taken:
                if taken.application in targets:
                    around = f"targetPort {taken.application} goes around {workload.name}'s sidecar"
                    yield f"Service/{metadata.get('name')}: {around}: write {taken.name or taken.listens}"


def _unshared(value: Any, budget: Iterator[int]) -> Any:
    """Write out what anchors stand for: a change of one place must not be one of another."""
    if next(budget, None) is None:
        raise ValueError("it is larger than any manifest")
    if isinstance(value, dict):
        return {key: _unshared(each, budget) for key, each in value.items()}
    return [_unshared(each, budget) for each in value] if isinstance(value, list) else value


def _mapping(value: Any) -> dict[str, Any]:
    """Return what should be a mapping: in a file it may be anything."""
    return value if isinstance(value, dict) else {}
