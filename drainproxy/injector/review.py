"""AdmissionReview v1: a question of the API server in, its answer out. A pod is always admitted.

Pure. Called by server.py.
"""

import base64
import json
import textwrap
from dataclasses import dataclass
from typing import Any

from drainproxy.errors import InjectionRefused
from drainproxy.injector.patch import InjectorDefaults, inject, json_patch
from drainproxy.log import plain

VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"

MAX_WARNING_CHARS = 120
"""Longer ones may be cut by the API server (Kubernetes: Dynamic Admission Control, response)."""
MAX_WARNINGS = 16
MAX_CONTAINERS = 50_000
"""Objects and lists in a review, roughly: 3 MiB could hold a million, which are 100 MB and two seconds. A pod
with everything has a few thousand."""


class Malformed(Exception):
    """No AdmissionReview of a pod's creation; says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server gets, and what the webhook's log and metrics say of it."""

    body: bytes
    result: str
    pod: str
    said: tuple[str, ...]


def answer(body: bytes, defaults: InjectorDefaults) -> Answer:
    """Answer one review. Raises Malformed."""
    if body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
        raise Malformed(f"it has more than {MAX_CONTAINERS} objects and lists")
    try:
        review = json.loads(body)
        request = review["request"]
        uid, pod = request["uid"], request["object"]
        namespace = request.get("namespace") or ""
        # A pod of a controller has no name yet.
        name = pod["metadata"].get("name") or pod["metadata"].get("generateName") or ""
        said_kind = (review["apiVersion"], review["kind"], pod["kind"], request["operation"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Malformed(f"it is no {KIND} of a pod ({type(error).__name__})") from None
    if said_kind != (VERSION, KIND, "Pod", "CREATE") or not isinstance(uid, str):
        raise Malformed(f"only {KIND} {VERSION} of the creation of pods is answered")
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    said: tuple[str, ...] = ()
    result = "unchanged"
    try:
        outcome = inject(pod, defaults, str(namespace), unasked=True)
        if not isinstance(outcome, str):
            result, said = "injected", outcome.said
            patch = json.dumps(list(json_patch(pod, outcome.pod)), separators=(",", ":"))
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}
    except InjectionRefused as refusal:
        if refusal.result == "malformed":
            raise Malformed(str(refusal)) from None
        result, said = refusal.result, tuple(f"no sidecar: {problem}" for problem in refusal.problems)
    if said:
        lines = [
            line for each in said for line in textwrap.wrap(plain(f"drainproxy: {each}"), MAX_WARNING_CHARS)
        ]
        response["warnings"] = lines[:MAX_WARNINGS]
    document = {"apiVersion": VERSION, "kind": KIND, "response": response}
    return Answer(json.dumps(document).encode(), result, f"{namespace}/{name}", said)
