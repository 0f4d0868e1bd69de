"""Reads from a live cluster what `drainproxy check` judges: a workload and everything that touches its pods.

What may not be read becomes a reason instead of an answer. Called by check_command.py; verdicts.py judges.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.kube.client import Api
from drainproxy.kube.permissions import Need, lacking

Thing = dict[str, Any]

KINDS = {
    "deploy": "deployments",
    "deployment": "deployments",
    "sts": "statefulsets",
    "statefulset": "statefulsets",
    "ds": "daemonsets",
    "daemonset": "daemonsets",
}


@dataclass(slots=True)
class Survey:
    """What was found. `unread`: what could not be, and why."""

    workload: Thing
    pod: Thing
    """`metadata` and `spec` of a running pod, where a webhook has had its say; else of the template."""
    services: list[Thing] = field(default_factory=list)
    autoscalers: list[Thing] = field(default_factory=list)
    policies: list[Thing] = field(default_factory=list)
    namespace: Thing | None = None
    lacking: list[Need] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Note why something cannot be read."""
        try:
            yield
        except KubernetesError as error:
            self.unread[what] = str(error)


async def survey(api: Api, kind: str, name: str, namespace: str) -> Survey:
    """Read a workload and its surroundings. Raises KubernetesError where the workload cannot be read."""
    place = f"namespaces/{namespace}"
    workload = await api.get(f"/apis/apps/v1/{place}/{KINDS[kind]}/{name}", dict)
    template = workload["spec"]["template"]
    found = Survey(workload, {"metadata": template.get("metadata") or {}, "spec": template["spec"]})
    selector = (workload["spec"].get("selector") or {}).get("matchLabels") or {}

    async def read(what: str, path: str, wanted: Callable[[Thing], bool]) -> list[Thing]:
        things: list[Thing] = []
        with found.trying(what):
            await api.list(path, {}, lambda item: things.append(item) if wanted(item) else None)
        return things

    pods = await read("pods", f"/api/v1/{place}/pods", lambda each: _runs(each, selector))
    if pods:
        found.pod = max(pods, key=lambda each: str(each["metadata"].get("creationTimestamp", "")))
    labels = found.pod["metadata"].get("labels") or {}
    found.services = await read("services", f"/api/v1/{place}/services", lambda each: _selects(each, labels))
    found.autoscalers = await read(
        "autoscalers",
        f"/apis/autoscaling/v2/{place}/horizontalpodautoscalers",
        lambda each: _scales(each, name, workload),
    )
    found.policies = await read(
        "policies",
        f"/apis/networking.k8s.io/v1/{place}/networkpolicies",
        lambda each: _fits(each["spec"].get("podSelector") or {}, labels),
    )
    with found.trying("namespace"):
        found.namespace = await api.get(f"/api/v1/{place}", dict)
    return found


async def permissions(api: Api, found: Survey, tier: str, namespace: str) -> None:
    """Add what the pod's ServiceAccount lacks for a tier."""
    account = found.pod["spec"].get("serviceAccountName") or "default"
    with found.trying("permissions"):
        found.lacking = await lacking(api, tier, namespace, account=account)


def _runs(pod: Thing, selector: Mapping[str, str]) -> bool:
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    return bool(selector) and selector.items() <= labels.items() and "deletionTimestamp" not in metadata


def _selects(service: Thing, labels: Mapping[str, str]) -> bool:
    selector = service["spec"].get("selector") or {}
    return bool(selector) and selector.items() <= labels.items()


def _scales(autoscaler: Thing, name: str, workload: Thing) -> bool:
    target = autoscaler["spec"]["scaleTargetRef"]
    return bool(target["name"] == name and target["kind"] == workload.get("kind", target["kind"]))


def _fits(selector: Thing, labels: Mapping[str, str]) -> bool:
    """Tell whether a LabelSelector chooses a pod with these labels; an unknown operator counts as yes."""
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    for each in selector.get("matchExpressions") or ():
        value, values = labels.get(each["key"]), each.get("values") or ()
        fits = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not fits.get(each["operator"], True):
            return False
    return True
