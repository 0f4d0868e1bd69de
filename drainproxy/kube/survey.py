"""Reads from a live cluster what `drainproxy check` judges: a workload and everything that touches its pods.

What may not be read becomes a reason instead of an answer. Called by check_command.py; verdicts.py judges.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.kube import owners
from drainproxy.kube.client import Api
from drainproxy.kube.permissions import Need, lacking
from drainproxy.kube.rules.selectors import fits

Thing = dict[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
"""Label of an EndpointSlice (Kubernetes: EndpointSlices, ownership)."""


@dataclass(slots=True)
class Survey:
    """What was found. `unread`: what could not be, and why."""

    workload: Thing
    pod: Thing
    """`metadata` and `spec` of a running pod, where a webhook has had its say; else of the template."""
    pods: list[Thing] = field(default_factory=list)
    """The workload's own that run, the newest first."""
    services: list[Thing] = field(default_factory=list)
    slices: list[Thing] = field(default_factory=list)
    autoscalers: list[Thing] = field(default_factory=list)
    policies: list[Thing] = field(default_factory=list)
    limits: list[Thing] = field(default_factory=list)
    """LimitRanges of the namespace."""
    namespace: Thing | None = None
    lacking: list[Need] = field(default_factory=list)
    version: tuple[int, int] | None = None
    """The cluster's, where it is known."""
    api_addresses: list[str] = field(default_factory=list)
    """Of the API server, as pods reach it."""
    api_ports: list[int] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Note why something cannot be read."""
        try:
            yield
        except KubernetesError as error:
            self.unread[what] = str(error)


async def survey(api: Api, kind: owners.Kind, name: str, namespace: str) -> Survey:
    """Read a workload and its surroundings. Raises KubernetesError where the workload cannot be read."""
    place = f"namespaces/{namespace}"
    workload = await api.get(kind.path(namespace, name), dict)
    # In a single object's answer they always are; a fake or a proxy may leave them out.
    workload.setdefault("kind", kind.kind)
    template = await _template(api, workload, namespace)
    found = Survey(workload, {"metadata": template.get("metadata") or {}, "spec": template["spec"]})
    read = _Reader(api, found)
    found.pods = await _pods(read, found, kind, place)
    if found.pods:
        found.pod = found.pods[0]
    labels = owners.labels(found.pod)
    found.slices = await read("slices", f"/apis/discovery.k8s.io/v1/{place}/endpointslices")
    named = {owners.label(each, SERVICE_NAME) for each in found.slices if endpoints_of(each, found.pods)}
    found.services = await read(
        "services",
        f"/api/v1/{place}/services",
        # Rows of a Service without a selector are written by hand, and lead callers all the same.
        lambda each: _selects(each, labels) or each["metadata"]["name"] in named,
    )
    found.autoscalers = await read(
        "autoscalers",
        f"/apis/autoscaling/v2/{place}/horizontalpodautoscalers",
        lambda each: _scales(each, name, workload),
    )
    found.policies = await read(
        "policies",
        f"/apis/networking.k8s.io/v1/{place}/networkpolicies",
        lambda each: fits(each["spec"].get("podSelector"), labels),
    )
    found.limits = await read("limits", f"/api/v1/{place}/limitranges")
    with found.trying("namespace"):
        found.namespace = await api.get(f"/api/v1/{place}", dict)
    with found.trying("version"):
        found.version = await api.get("/version", _version)
    await _api_server(read, found)
    return found


async def permissions(api: Api, found: Survey, tier: str, namespace: str) -> None:
    """Add what the pod's ServiceAccount lacks for a tier."""
    account = found.pod["spec"].get("serviceAccountName") or "default"
    with found.trying("permissions"):
        found.lacking = await lacking(api, tier, namespace, account=account)


def endpoints_of(piece: Thing, pods: list[Thing]) -> list[Thing]:
    """Return the rows of an EndpointSlice that are these pods."""
    uids = {each["metadata"].get("uid") for each in pods} - {None}
    names = {each["metadata"].get("name") for each in pods}
    return [
        row
        for row in piece.get("endpoints") or ()
        if (target := row.get("targetRef") or {}).get("kind", "Pod") == "Pod"
        and (target["uid"] in uids if target.get("uid") and uids else target.get("name") in names)
    ]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads lists, and notes what cannot be read."""

    api: Api
    found: Survey

    async def __call__(
        self,
        what: str,
        path: str,
        wanted: Callable[[Thing], bool] = lambda _: True,
        query: Mapping[str, str] | None = None,
    ) -> list[Thing]:
        things: list[Thing] = []
        with self.found.trying(what):
            await self.api.list(path, query or {}, lambda item: things.append(item) if wanted(item) else None)
        return things


async def _template(api: Api, workload: Thing, namespace: str) -> Thing:
    """Return a workload's pod template; an Argo Rollout may borrow that of a Deployment."""
    spec = workload["spec"]
    reference = spec.get("workloadRef")
    if "template" not in spec and reference is not None:
        kind = owners.kind_of(str(reference.get("kind")))
        if kind is None:
            raise KubernetesError(f"its workloadRef is a {reference.get('kind')}", reason="malformed")
        spec = await api.get(kind.path(namespace, reference["name"]), lambda each: each["spec"])
    template = spec.get("template")
    if not isinstance(template, dict) or not isinstance(template.get("spec"), dict):
        raise KubernetesError("it has no pod template", reason="malformed")
    return template


async def _pods(read: _Reader, found: Survey, kind: owners.Kind, place: str) -> list[Thing]:
    """Return the workload's running pods: its own by their controllers, whatever else has their labels."""
    between: list[Thing] | None = []
    if kind.between is not None:
        between = await read(
            "replicas",
            f"{kind.between.root}/{place}/{kind.between.plural}",
            lambda each: owners.owned(each, found.workload),
        )
        if "replicas" in found.unread:
            between = None
    selector = found.workload["spec"].get("selector") or {}
    running = await read("pods", f"/api/v1/{place}/pods", owners.stays)
    pods = [each for each in running if _owned(each, found.workload, kind, between)]
    # What has no controller is adopted by the one whose selector it fits.
    pods = pods or [each for each in running if selector and _adoptable(each, selector)]
    return sorted(pods, key=lambda each: str(each["metadata"].get("creationTimestamp", "")), reverse=True)


def _owned(pod: Thing, workload: Thing, kind: owners.Kind, between: list[Thing] | None) -> bool:
    if kind.between is None:
        return owners.owned(pod, workload)
    if between is None:
        return owners.owned_by_name(pod, workload)
    return any(owners.owned(pod, each) for each in between)


def _adoptable(pod: Thing, selector: Thing) -> bool:
    return owners.controller(pod) is None and fits(selector, owners.labels(pod))


async def _api_server(read: _Reader, found: Survey) -> None:
    """Read where pods find the API server, if a policy governs their way out."""
    if not any("egress" in each["spec"] for each in found.policies):
        return
    pieces = await read(
        "API server",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        query={"labelSelector": f"{SERVICE_NAME}=kubernetes"},
    )
    found.api_ports = [int(port["port"]) for piece in pieces for port in piece.get("ports") or ()]
    rows = [row for piece in pieces for row in piece.get("endpoints") or ()]
    found.api_addresses = [str(address) for row in rows for address in row.get("addresses") or ()]


def _version(said: Thing) -> tuple[int, int]:
    # A provider's minor may end in a plus.
    match = re.match(r"v?(\d+)\.(\d+)", str(said["gitVersion"]))
    if match is None:
        raise ValueError("it is no version")
    return int(match[1]), int(match[2])


def _selects(service: Thing, labels: Mapping[str, str]) -> bool:
    selector = service["spec"].get("selector") or {}
    return bool(selector) and selector.items() <= labels.items()


def _scales(autoscaler: Thing, name: str, workload: Thing) -> bool:
    target = autoscaler["spec"]["scaleTargetRef"]
    return bool(target["name"] == name and target["kind"] == workload.get("kind", target["kind"]))
