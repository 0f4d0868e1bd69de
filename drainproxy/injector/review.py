"""AdmissionReview v1: a question of the API server in, its answer out. A pod is always admitted.

Pure. Called by server.py.
"""

import base64
import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drainproxy.errors import InjectionRefused
from drainproxy.injector.annotations import LABEL
from drainproxy.injector.notice import Notice
from drainproxy.injector.patch import NOWHERE, Injected, InjectorDefaults, inject, json_patch
from drainproxy.injector.pod_checks import Around
from drainproxy.injector.takeover import Taken
from drainproxy.kube.owners import controller, labels
from drainproxy.log import plain

VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"

MAX_WARNING_CHARS = 120
"""Longer ones may be cut by the API server (Kubernetes: Dynamic Admission Control, response)."""
MAX_WARNINGS = 16
MAX_CONTAINERS = 50_000
"""Objects and lists in a review, roughly: 3 MiB could hold a million, which are 100 MB and two seconds. A pod
with everything has a few thousand."""


class Malformed(Exception):
    """No AdmissionReview of what is asked about here; says why."""


WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server gets, and what the webhook's log and metrics say of it."""

    body: bytes
    result: str
    pod: str
    """Namespace and name of what was asked about."""
    said: tuple[str, ...]
    notice: Notice | None = None
    """What the owner of the pod is told of it."""


Known = Callable[[str], Around]
"""What is known of a namespace, by its name."""


def nothing_known(_: str) -> Around:
    """Nobody has asked."""
    return NOWHERE


def answer(body: bytes, defaults: InjectorDefaults, known: Known = nothing_known) -> Answer:
    """Answer one review of a pod's creation. Raises Malformed."""
    asked = _Question.read(body)
    if (asked.kind, asked.operation) != ("Pod", "CREATE"):
        raise Malformed(f"only {KIND} {VERSION} of the creation of pods is answered")
    return asked.answered(*_verdict(asked.thing, asked.namespace, defaults, known), patches=True)


def check(body: bytes, defaults: InjectorDefaults, known: Known = nothing_known) -> Answer:
    """Answer one review of a workload: whoever applies it hears what will become of its pods.

    Raises Malformed.
    """
    asked = _Question.read(body)
    if asked.kind not in WORKLOADS or asked.operation not in {"CREATE", "UPDATE"}:
        raise Malformed(f"only {KIND} {VERSION} of {', '.join(sorted(WORKLOADS))} is answered here")
    spec = asked.thing.get("spec")
    pod = spec.get("template") if isinstance(spec, dict) else None
    if not isinstance(pod, dict):
        raise Malformed("it has no pod template")
    return asked.answered(*_verdict(pod, asked.namespace, defaults, known), patches=False)


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked about."""

    uid: str
    kind: str
    operation: str
    namespace: str
    name: str
    thing: dict[str, Any]
    dry_run: bool

    @classmethod
    def read(cls, body: bytes) -> "_Question":
        """Raises Malformed."""
        if body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
            raise Malformed(f"it has more than {MAX_CONTAINERS} objects and lists")
        try:
            review = json.loads(body)
            request = review["request"]
            uid, thing = request["uid"], request["object"]
            # A pod of a controller has no name yet.
            name = thing["metadata"].get("name") or thing["metadata"].get("generateName") or ""
            said_kind = (review["apiVersion"], review["kind"])
            kind, operation = thing["kind"], request["operation"]
            namespace, dry_run = request.get("namespace") or "", bool(request.get("dryRun"))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise Malformed(f"it is no {KIND} of a pod ({type(error).__name__})") from None
        if said_kind != (VERSION, KIND) or not isinstance(uid, str):
            raise Malformed(f"only {KIND} {VERSION} is answered")
        return cls(uid, str(kind), str(operation), str(namespace), str(name), thing, dry_run)

    def answered(
        self, outcome: Injected | str, result: str, said: tuple[str, ...], *, patches: bool
    ) -> Answer:
        """Return the answer: it is always admitted."""
        response: dict[str, Any] = {"uid": self.uid, "allowed": True}
        if patches and isinstance(outcome, Injected):
            patch = json.dumps(list(json_patch(self.thing, outcome.pod)), separators=(",", ":"))
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}
        if said:
            lines = [
                line
                for each in said
                for line in textwrap.wrap(plain(f"drainproxy: {each}"), MAX_WARNING_CHARS)
            ]
            response["warnings"] = lines[:MAX_WARNINGS]
        document = {"apiVersion": VERSION, "kind": KIND, "response": response}
        notice = self._notice(outcome, result, said) if patches and not self.dry_run else None
        return Answer(json.dumps(document).encode(), result, f"{self.namespace}/{self.name}", said, notice)

    def _notice(self, outcome: Injected | str, result: str, said: tuple[str, ...]) -> Notice | None:
        owner = controller(self.thing)
        if owner is None or result == "unchanged":
            return None
        if isinstance(outcome, Injected):
            return Notice(owner, self.namespace, "Injected", ", ".join(map(_shown, outcome.taken)))
        asked = LABEL in labels(self.thing)
        # Who is asked for by a namespace alone may well have no use for it.
        return Notice(owner, self.namespace, "InjectionSkipped", "; ".join(said), warning=asked)


def _verdict(
    pod: dict[str, Any], namespace: str, defaults: InjectorDefaults, known: Known
) -> tuple[Injected | str, str, tuple[str, ...]]:
    """Return what becomes of a pod, in a word, and what is said of it. Raises Malformed."""
    try:
        outcome = inject(pod, defaults, namespace, unasked=True, around=known(namespace))
    except InjectionRefused as refusal:
        if refusal.result == "malformed":
            raise Malformed(str(refusal)) from None
        return "", refusal.result, tuple(f"no sidecar: {problem}" for problem in refusal.problems)
    return (outcome, "unchanged", ()) if isinstance(outcome, str) else (outcome, "injected", outcome.said)


def _shown(taken: Taken) -> str:
    name = f"{taken.name} " if taken.name else ""
    return f"port {name}{taken.callers} -> drainproxy -> {taken.application} ({taken.door})"
