"""YAML documents in, YAML documents out: the workloads in them that ask for it get the sidecar.

Pure. All documents are read first, since what leads to a pod stands beside it. What is not changed stays byte
for byte, also what is no YAML; nothing is rejected. Called by cli/inject_command.py.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from drainproxy.errors import InjectionRefused, OutOfPlace
from drainproxy.injector.annotations import LABEL
from drainproxy.injector.edit import LOADER, CannotEdit, edit, line_of
from drainproxy.injector.finding import Finding, Moved
from drainproxy.injector.objects import ENDING, Path, Thing, left_alone, objects, template
from drainproxy.injector.patch import Injected, InjectorDefaults, inject, json_patch
from drainproxy.injector.pod_checks import Around
from drainproxy.injector.surroundings import judge, services_of
from drainproxy.kube.rules.selectors import listed, mapping

MAX_NODES = 1_000_000
"""In one document, anchors written out: a few kilobytes of them could stand for any number."""

_SEPARATOR = re.compile(r"^---(?=\s|$)[^\n]*\n?", re.MULTILINE)
"""At the beginning of a line it is one wherever it stands (YAML 1.2 section 9.1.2)."""


@dataclass(slots=True)
class Workload:
    """`injected` or `refusal`, or neither: it does not ask, or has the sidecar."""

    name: str
    thing: Thing
    document: "Document"
    injected: Injected | None = None
    refusal: tuple[str, ...] = ()
    why_not: str = ""

    @property
    def namespace(self) -> str:
        """Its namespace, empty where it says none."""
        return self.thing.namespace


@dataclass(slots=True)
class Document:
    """One document: what was read, what it became, and what there is to say about each workload in it."""

    before: str
    after: str
    file: str = ""
    line: int = 0
    """Where it begins in its file, from 0."""
    workloads: list[Workload] = field(default_factory=list)
    problem: str = ""
    """Why it is passed on as it is, where somebody should know."""
    things: list[Thing] = field(default_factory=list)
    read: Any = None
    """What it says; `things` are parts of a copy that may be changed."""
    becomes: Any = None

    def place(self, path: Path = ()) -> str:
        """Say where something stands in it."""
        return self.at(line_of(self.before, path) if path else 0)

    def at(self, line: int) -> str:
        """Say where a line of it, counted from 0, is."""
        return f"{self.file}, line {self.line + line + 1}" if self.file else f"line {self.line + line + 1}"


@dataclass(slots=True)
class Stream:
    """Everything that was read, and what there is to say of it as a whole."""

    documents: list[Document]
    findings: list[tuple[Document, Finding]] = field(default_factory=list)

    @property
    def workloads(self) -> list[Workload]:
        """Every workload, in its order."""
        return [each for document in self.documents for each in document.workloads]

    def said(self) -> Iterator[str]:
        """Say what leads around a sidecar or is cut off by it, with the line to change."""
        for document, finding in self.findings:
            where = document.place((*finding.thing.path, *finding.path))
            yield f"{where}: {finding.thing.name}: {finding.text}"


def process(text: str, defaults: InjectorDefaults, *, every: bool) -> list[Document]:
    """Return the documents of one text; joined again they are what to apply."""
    return read([("", text)], defaults, every=every).documents


def read(
    files: Iterable[tuple[str, str]], defaults: InjectorDefaults, *, every: bool, services: bool = False
) -> Stream:
    """Return the documents of files, by their names.

    `every`: also workloads without the label, but not those whose label says no. `services`: what leads to
    the pods is changed too.
    """
    stream = Stream([document for name, text in files for document in _split(name, text)])
    for document in stream.documents:
        _parse(document)
    things = [(document, thing) for document in stream.documents for thing in document.things]
    for document, thing in things:
        if (workload := _workload(document, thing, things, defaults, every=every)) is not None:
            document.workloads.append(workload)
    _look_around(stream, things, services=services)
    for document in stream.documents:
        _write(document)
    return stream


def _split(name: str, text: str) -> Iterator[Document]:
    begin = 0
    for separator in _SEPARATOR.finditer(text):
        content = re.sub(r"^---|#.*", "", separator[0]).strip()
        if separator.start() > begin:
            yield _piece(name, text, begin, separator.start())
        begin = separator.end()
        if content:
            begin = separator.start()
            continue
        yield _piece(name, text, separator.start(), begin)
    if begin < len(text):
        yield _piece(name, text, begin, len(text))


def _piece(name: str, text: str, begin: int, end: int) -> Document:
    return Document(text[begin:end], text[begin:end], name, text.count("\n", 0, begin))


def _parse(document: Document) -> None:
    if "kind" not in document.before and "items" not in document.before:
        return
    try:
        loaded = yaml.load(document.before, Loader=LOADER)  # noqa: S506 - it is a safe one
        document.read, document.becomes = (_unshared(loaded, iter(range(MAX_NODES))) for _ in range(2))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or " ".join(str(error).split())
        where = document.at(mark.line if mark else 0)
        document.problem = f"{where}: no YAML, passed on as it is: {why[:200]}"
        return
    document.things = list(objects(document.becomes))


def _workload(
    document: Document,
    thing: Thing,
    things: Sequence[tuple[Document, Thing]],
    defaults: InjectorDefaults,
    *,
    every: bool,
) -> Workload | None:
    """Patch a workload in place, if it asks for it; None if it has no pods."""
    workload = Workload(thing.name, thing, document)
    if why := left_alone(thing):
        labels = mapping(mapping(mapping(thing.spec.get("template")).get("metadata")).get("labels"))
        asks = str(labels.get(LABEL)) == "true"
        workload.refusal, workload.why_not = ((why,), "") if asks else ((), why)
        return workload
    if (found := template(thing)) is None:
        return None
    pod, _ = found
    labels = mapping(mapping(pod.get("metadata")).get("labels"))
    beside = [each for _, each in things]
    around = _around(thing, labels, beside)
    try:
        outcome = inject(pod, defaults, thing.namespace, unasked=every, around=around)
        if isinstance(outcome, str):
            workload.why_not = outcome
        else:
            workload.injected = outcome
    except InjectionRefused as refusal:
        skipped = isinstance(refusal, OutOfPlace) or thing.kind in ENDING
        if skipped and LABEL not in labels:
            # Nobody has asked for this one.
            workload.why_not = "; ".join(refusal.problems)
        else:
            workload.refusal = tuple(refusal.problems)
    return workload


def _specs(thing: Thing, labels: dict[str, Any], things: Sequence[Thing]) -> Iterator[dict[str, Any]]:
    """Yield the specs of the Services that lead to a pod, whatever else stands in them."""
    for service in services_of(thing, labels, things):
        ports = map(mapping, listed(service.spec.get("ports")))
        usable = [each for each in ports if all(isinstance(value, int | str) for value in each.values())]
        yield {**service.spec, "ports": usable}


def _around(thing: Thing, labels: dict[str, Any], things: Sequence[Thing]) -> Around:
    """Return what the files say of a pod's surroundings; its namespace may be in none of them."""
    services = list(_specs(thing, labels, things))
    for each in things:
        if (each.group, each.kind) == ("", "Namespace") and each.metadata.get("name") == thing.namespace:
            return Around(mapping(each.metadata.get("labels")), services, each.annotations)
    return Around(services=services)


def _look_around(stream: Stream, things: Sequence[tuple[Document, Thing]], *, services: bool) -> None:
    """Find what leads around the sidecars, or is cut off by them; a workload that would be stays as it is."""
    places = {id(thing): document for document, thing in things}
    for workload in stream.workloads:
        if workload.injected is None:
            continue
        moved = Moved(workload.thing, workload.injected)
        findings = list(judge(moved, [thing for _, thing in things]))
        if services:
            for finding in findings:
                if finding.fix is not None:
                    finding.fix()
            findings = [each for each in findings if each.fix is None]
        if cut := [each for each in findings if each.cuts_off]:
            findings = cut
            where = [f"{places[id(each.thing)].place(each.thing.path)}: {each.thing.name}" for each in cut]
            workload.injected = None
            # A door that keeps the number needs no change there.
            ways = "change it (--services does), or keep the number by app-port-env or app-host-env"
            workload.refusal = (f"it would be cut off by {', '.join(dict.fromkeys(where))}: {ways}",)
        stream.findings += [(places[id(each.thing)], each) for each in findings]


def _write(document: Document) -> None:
    """Put what has changed into the document's text."""
    for workload in document.workloads:
        if workload.injected is not None and (found := template(workload.thing)) is not None:
            pod, _ = found
            pod.clear()
            pod.update(workload.injected.pod)
    if document.becomes == document.read:
        return
    try:
        operations = json_patch(document.read, document.becomes)
        document.after = edit(document.before, operations, document.becomes)
    except CannotEdit as error:
        _give_up(document, f"{document.at(error.line)}: the document cannot be changed: {error}")
    except RecursionError:
        _give_up(document, f"{document.at(0)}: the document cannot be changed: it is nested too deeply")


def _give_up(document: Document, why: str) -> None:
    changed = [each for each in document.workloads if each.injected is not None]
    for each in changed:
        each.injected, each.refusal = None, (why,)
    if not changed:
        document.problem = why


def _unshared(value: Any, budget: Iterator[int]) -> Any:
    """Write out what anchors stand for: a change of one place must not be one of another."""
    if next(budget, None) is None:
        raise ValueError("it is larger than any manifest")
    if isinstance(value, dict):
        return {key: _unshared(each, budget) for key, each in value.items()}
    return [_unshared(each, budget) for each in value] if isinstance(value, list) else value
