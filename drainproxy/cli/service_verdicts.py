"""Do callers reach the application through drainproxy? Verdicts over Services and their real endpoints.

Pure. What the EndpointSlice controller has resolved counts more than what a name should mean. A sentence is a
failure, a Doubt what cannot be told. Called by verdicts.py.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drainproxy import podspec
from drainproxy.addresses import UpstreamAddress
from drainproxy.config import Config
from drainproxy.kube.owners import label
from drainproxy.kube.survey import SERVICE_NAME, Survey, endpoints_of

NAMES_IN_INIT_CONTAINERS = (1, 33)
"""Before, the EndpointSlice controller looks for a port's name in `containers` only (kubernetes #128850)."""

SCRAPED = re.compile(r"metrics|prom|scrape|admin|status")
"""In the name of a port that Prometheus is sent to, rather than callers."""


class Doubt(str):
    """What cannot be told, in place of a failure."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One TCP port of a Service that chooses the pods."""

    service: Mapping[str, Any]
    port: Mapping[str, Any]
    target: int | str
    numbers: frozenset[int]
    """Ports of the pods to which it leads; none: nobody is sent there."""

    @property
    def name(self) -> str:
        """The Service's name."""
        return str(self.service["metadata"]["name"])


def routes(found: Survey) -> Iterator[Route]:
    """Yield where each TCP port of each Service leads."""
    for service in found.services:
        for port in service["spec"].get("ports") or ():
            if port.get("protocol", "TCP") == "TCP":
                target = port.get("targetPort") or port["port"]
                yield Route(service, port, target, _numbers(found, service, port, target))


def target_ports(found: Survey, config: Config) -> Iterator[str]:
    """Say which Services lead around drainproxy, to nobody, or to its admin port."""
    if not found.services and "services" not in found.unread:
        yield Doubt(
            "no Service selects these pods: right for a worker; if they have callers, label the pods as a"
            " Service selects them"
        )
    for address in config.proxy.listen:
        if address.loopback:
            yield f"drainproxy listens on {address}, where no Service leads; set listen to :{address.port}"
    led_away = podspec.redirected(found.pod["spec"])
    ours = {address.port for address in config.proxy.listen}
    taken = ours | {port for port, to in led_away.items() if to in ours}
    for route in routes(found):
        sent = f"Service {route.name} sends port {route.port['port']} to {route.target}"
        if not route.numbers:
            yield f"{sent}, {_nobody(found, str(route.target))}"
        elif route.numbers <= taken:
            continue
        elif config.admin.admin.port in route.numbers:
            if not SCRAPED.search(f"{route.port.get('name', '')} {route.target} {route.name}"):
                yield f"{sent}, drainproxy's admin port, which has no application; {_instead(config)}"
        else:
            yield f"{sent}, around drainproxy; {_both(found, route, taken) or _instead(config)}"


def always_ready(found: Survey) -> Iterator[str]:
    """Name the Services whose endpoints stay ready until their pods are gone, unless another has callers."""
    honest = [route for route in routes(found) if not route.service["spec"].get("publishNotReadyAddresses")]
    led = {number for route in honest for number in route.numbers}
    for service in found.services:
        if not service["spec"].get("publishNotReadyAddresses"):
            continue
        numbers = {number for each in routes(found) if each.service is service for number in each.numbers}
        # A headless one for peers says nothing, and does no harm beside one that leads to the same ports.
        if service["spec"].get("clusterIP") == "None" and numbers <= led and led:
            continue
        yield (
            f"Service {service['metadata']['name']} has publishNotReadyAddresses: its endpoints stay ready"
            " until their pods are gone, and callers come to the last moment; take it off, and give peers a"
            " headless Service of their own"
        )


def upstreams(spec: Mapping[str, Any], config: Config) -> Iterator[str]:
    """Say where drainproxy looks for the application and no container listens, as far as they say."""
    others = [each for each in podspec.containers(spec) if not podspec.is_ours(each)]
    applications = [
        each
        for each in others
        if each.get("name") not in podspec.MESH_PROXIES
        and (each in spec["containers"] or each.get("restartPolicy") == "Always")
    ]
    declared = {
        int(port["containerPort"])
        for each in applications
        for port in each.get("ports") or ()
        if port.get("protocol", "TCP") == "TCP"
    }
    for address in config.proxy.upstream:
        if not _in_the_pod(address) or address.port in declared:
            continue
        if any(_mentions(each, address.port) for each in applications):
            continue
        if declared:
            known = ", ".join(map(str, sorted(declared)))
            yield (
                f"upstream is {address}, where nobody is known to listen (the containers declare {known});"
                " set upstream to the application's port, or declare this one"
            )
        else:
            yield Doubt(f"upstream is {address}, and no container says where it listens")


def _numbers(
    found: Survey, service: Mapping[str, Any], port: Mapping[str, Any], target: int | str
) -> frozenset[int]:
    """Return where a Service's port leads, by its EndpointSlices, else as their controller would find it."""
    pods = [each for each in found.pods if podspec.sidecar(each["spec"])[0] is not None]
    pieces = [
        each
        for each in found.slices
        if label(each, SERVICE_NAME) == service["metadata"]["name"] and endpoints_of(each, pods)
    ]
    if pieces:
        return frozenset(
            int(entry["port"])
            for piece in pieces
            for entry in piece.get("ports") or ()
            if (entry.get("name") or "") == (port.get("name") or "") and entry.get("port")
        )
    if isinstance(target, int) or target.isdecimal():
        return frozenset({int(target)})
    meant = podspec.named_port(found.pod["spec"], target, native=_native_names(found))
    return frozenset({meant[1]} if meant else ())


def _native_names(found: Survey) -> bool:
    return found.version is None or found.version >= NAMES_IN_INIT_CONTAINERS


def _nobody(found: Survey, name: str) -> str:
    if podspec.named_port(found.pod["spec"], name) and not _native_names(found):
        version = ".".join(map(str, found.version or ()))
        return (
            f"a name that Kubernetes {version} finds in no native sidecar (1.33 does): nobody is sent there;"
            " set its targetPort to the number, or drainproxy.io/mode to plain"
        )
    return "a name that no container's port has: nobody is sent there"


def _both(found: Survey, route: Route, taken: set[int]) -> str:
    """Say that the application has the name of our port too: it comes first, and wins."""
    spec, target = found.pod["spec"], str(route.target)
    ours, _ = podspec.sidecar(spec)
    own = {port.get("name"): port["containerPort"] for port in (ours or {}).get("ports") or ()}
    meant = podspec.named_port(spec, target)
    if own.get(target) not in taken or meant is None or meant[1] in taken:
        return ""
    return f"container {meant[0]} has a port of that name too, which comes first: take the name away there"


def _instead(config: Config) -> str:
    return f"set its targetPort to {config.proxy.listen[0].port}"


def _in_the_pod(address: UpstreamAddress) -> bool:
    return not address.path and (
        address.host in {"localhost", "::1", "192.0.2.1"} or address.host.startswith("127.")
    )


def _mentions(container: Mapping[str, Any], port: int) -> bool:
    """Tell whether a container's command, environment or probes name a port."""
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    words += [each.get("value") or "" for each in container.get("env") or ()]
    for name in podspec.PROBES:
        probe = container.get(name) or {}
        words += [(probe.get(kind) or {}).get("port", "") for kind in ("httpGet", "tcpSocket", "grpc")]
    return any(re.search(rf"(?<![0-9]){port}(?![0-9])", str(word)) for word in words)
