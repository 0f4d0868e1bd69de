"""What the API server refuses, the parts of validation that a careless client meets; and whose a field is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.cluster.resources import EVENTS

if TYPE_CHECKING:
    from tests.support.cluster.resources import Target

_EVENT_TEXTS = {"reportingController": 253, "reportingInstance": 128, "action": 128, "reason": 128}
"""Required, with the most bytes they may have (pkg/apis/core/validation/events.go)."""

MAX_NOTE_BYTES = 1024

POD_COST = "controller.kubernetes.io/pod-deletion-cost"


def invalid(target: Target, body: dict[str, Any]) -> str | None:
    """Return what is wrong with an object to be created."""
    if body.get("kind") != target.resource.kind or body.get("apiVersion") != target.resource.api_version:
        return f"the object is no {target.resource.api_version} {target.resource.kind}"
    metadata = body.get("metadata") or {}
    if metadata.get("namespace", target.namespace) != target.namespace:
        return "metadata.namespace: does not match the namespace of the request"
    if not metadata.get("name") and not metadata.get("generateName"):
        return "metadata.name: Required value: name or generateName is required"
    return _invalid_event(body) if target.resource is EVENTS else None


def _invalid_event(body: dict[str, Any]) -> str | None:
    texts = {name: body.get(name) or "" for name in _EVENT_TEXTS}
    note = body.get("note") or ""
    wrong = {
        **{f"{name}: Required value": not text for name, text in texts.items()},
        **{f"{name}: Too long": len(text.encode()) > _EVENT_TEXTS[name] for name, text in texts.items()},
        "eventTime: Required value, with microseconds": "." not in (body.get("eventTime") or ""),
        "type: Invalid value": body.get("type") not in ("Normal", "Warning"),
        "note: can have at most 1024 characters": len(note.encode()) > MAX_NOTE_BYTES,
        "involvedObject.namespace: does not match event.namespace": (body.get("regarding") or {}).get(
            "namespace"
        )
        != body["metadata"].get("namespace"),
        "a deprecated field: needs to be unset": any(name.startswith("deprecated") for name in body),
    }
    return next((problem for problem, is_so in wrong.items() if is_so), None)


def invalid_annotations(thing: dict[str, Any]) -> str | None:
    """Return what is wrong with an object's annotations (ValidatePodSpecificAnnotations)."""
    cost = (thing["metadata"].get("annotations") or {}).get(POD_COST)
    if cost is None or (str(cost) == str(int(cost)) and -(2**31) <= int(cost) < 2**31):
        return None
    return f"metadata.annotations[{POD_COST}]: Invalid value: {cost!r}: must be a 32bit integer"


def managed(thing: dict[str, Any], change: dict[str, Any], manager: str) -> None:
    """Write down that a manager has set these annotations: they are nobody else's any more."""
    names = {f"f:{name}" for name in (change.get("metadata") or {}).get("annotations") or {}}
    kept = []
    for entry in thing["metadata"].get("managedFields") or ():
        fields = entry["fieldsV1"]["f:metadata"]["f:annotations"]
        if entry["manager"] == manager:
            names |= fields.keys()
        elif left := {name: {} for name in fields if name not in names}:
            kept.append({**entry, "fieldsV1": {"f:metadata": {"f:annotations": left}}})
    fields_v1 = {"f:metadata": {"f:annotations": {name: {} for name in sorted(names)}}}
    kept.append({"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsV1": fields_v1})
    thing["metadata"]["managedFields"] = kept
