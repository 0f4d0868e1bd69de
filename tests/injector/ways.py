"""The ways by which a pod gets the sidecar, as functions of the same shape."""

from __future__ import annotations

import base64
import copy
import json
from typing import TYPE_CHECKING, Any

import yaml

from drainproxy.injector.manifest import process
from drainproxy.injector.patch import InjectorDefaults
from drainproxy.injector.review import answer

if TYPE_CHECKING:
    from tests.injector.pods import Pod, Row

HOUSE = InjectorDefaults(kubernetes=(1, 36))


def placed(row: Row) -> Pod:
    """Return the row's pod in its namespace, as the API server hands it over."""
    pod = json.loads(json.dumps(row.pod))
    pod["metadata"]["namespace"] = row.namespace
    return pod


def by_file(row: Row, defaults: InjectorDefaults = HOUSE) -> tuple[Pod, list[str]]:
    """Return what `drainproxy inject` makes of the pod in a file, and what it says."""
    [document] = process(yaml.safe_dump(placed(row), sort_keys=False), defaults, every=False)
    [workload] = document.workloads
    said = workload.injected.said if workload.injected else workload.refusal
    return yaml.safe_load(document.after), list(said)


def review(pod: Any, **request: Any) -> bytes:
    """Return an AdmissionReview of a pod's creation."""
    usual = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "shop",
        "object": pod,
        "oldObject": None,
        "dryRun": False,
    }
    kind = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return json.dumps({**kind, "request": {**usual, **request}}).encode()


def by_webhook(row: Row, defaults: InjectorDefaults = HOUSE) -> tuple[Pod, list[str]]:
    """Return what the webhook's answer makes of the pod, and what it says."""
    pod = placed(row)
    reply = answer(review(pod, namespace=row.namespace), defaults)
    response = json.loads(reply.body)["response"]
    patch = json.loads(base64.b64decode(response.get("patch", "W10=")))
    return patched(pod, patch), [each.removeprefix("no sidecar: ") for each in reply.said]


def patched(document: Any, operations: list[dict[str, Any]]) -> Any:
    """Apply a JSON patch (RFC 6902) the way it is written there, one operation after the other."""
    document = copy.deepcopy(document)
    for operation in operations:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        at = document
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at[part]
        if isinstance(at, list):
            where = len(at) if last == "-" else int(last)
            if operation["op"] == "add":
                at.insert(where, operation["value"])
                continue
            last = where
        if operation["op"] == "remove":
            del at[last]
        else:
            assert operation["op"] == "add" or last in at or isinstance(at, list), operation
            at[last] = operation["value"]
    return document
