"""Which container ports of a pod speak HTTP, as far as anything says so.

Pure, and never a guess: what nothing says is asked for, and what speaks TLS or is a database is left alone
unless it is named. Called by capture.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drainproxy.errors import InjectionRefused, OutOfPlace
from drainproxy.injector.annotations import PREFIX, Options
from drainproxy.injector.refusal import refuse
from drainproxy.podspec import applications

SAYS_HTTP = re.compile(r"http(?!s)|grpc(?!s)|h2c|web(?!hook|-?secure)|api")
SAYS_TLS = re.compile(r"(^|-)(https|m?tls|grpcs|ssl|wss)|^web-?secure|^webhook")
TLS_NUMBERS = frozenset({443, 6443, 8443, 9443})
"""A port called web or api speaks TLS there, more often than not."""
HTTP_PROTOCOLS = re.compile(r"(kubernetes\.io/)?(http2?|h2c|grpc|grpc-web|ws)", re.IGNORECASE)
"""appProtocol of a Service's port (Kubernetes: Service, application protocol)."""
DATABASES = frozenset(
    {1433, 1521, 2181, 2380, 3306, 4222, 5432, 5433, 5671, 5672, 6379, 6380, 6432, 7687, 9042, 9092}
    | {11211, 16379, 26257, 26379, 27017, 27018, 27019, 33060}
)
"""What databases, caches and queues listen on; none of them is taken unasked, whatever it is called."""
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """One TCP port of an application; `container` is empty where none declares the number."""

    name: str
    number: int
    container: str

    def __str__(self) -> str:
        """Return it as a person would call it."""
        return self.name or str(self.number)


def choose(
    spec: Mapping[str, Any], options: Options, services: Sequence[Mapping[str, Any]]
) -> list[ContainerPort]:
    """Return the ports to take over: those asked for, or those that say HTTP. Raises InjectionRefused.

    `services`: specs of those that are known to lead to the pod.
    """
    if len({*options.ports}) < len(options.ports):
        refuse(f"{PREFIX}ports: it names a port twice", result="invalid")
    if not options.ports:
        return _unasked(spec, services)
    found = [port for wanted in options.ports for port in _named(spec, wanted)]
    numbers = [port.number for port in found]
    if twice := {each for each in numbers if numbers.count(each) > 1}:
        several = [port for port in found if port.number in twice]
        if len({port.container for port in several}) < len(several):
            refuse(f"{PREFIX}ports: {' and '.join(map(str, several))} are the same port", result="invalid")
    for i, port in enumerate(found):
        if protocol(options, i) == "http" and speaks_tls(spec, port):
            refuse_tls(port)
    return found


def protocol(options: Options, i: int) -> str:
    """Return what the port at place `i` speaks: the last word holds for those after it."""
    return options.protocol[min(i, len(options.protocol) - 1)]


def refuse_tls(port: ContainerPort) -> None:
    """Raise InjectionRefused."""
    refuse(f"port {port} speaks TLS, which is not terminated here: {PREFIX}protocol: tcp passes it on unread")


def handlers(container: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield whatever in a container's probes and hooks goes to a port, by its kind."""
    places = [container.get(probe) or {} for probe in PROBES]
    places += [hook or {} for hook in (container.get("lifecycle") or {}).values() if isinstance(hook, dict)]
    for place in places:
        for kind in ("httpGet", "tcpSocket", "grpc"):
            if place.get(kind):
                yield kind, place[kind]


def declared(spec: Mapping[str, Any], *protocols: str) -> list[ContainerPort]:
    """Return the ports that the application's containers declare, of TCP unless others are asked for."""
    return [
        ContainerPort(entry.get("name") or "", entry["containerPort"], container["name"])
        for container in applications(spec)
        for entry in container.get("ports") or ()
        if entry.get("protocol", "TCP") in (protocols or ("TCP",))
    ]


def _named(spec: Mapping[str, Any], wanted: str) -> list[ContainerPort]:
    """Return the ports of that name or number: several where containers share a name."""
    ports = declared(spec)
    if wanted.isdecimal():
        found = [port for port in ports if port.number == int(wanted)]
        # A container need not declare what it listens on.
        return found[:1] or [ContainerPort("", int(wanted), "")]
    if found := [port for port in ports if port.name == wanted]:
        return found
    _refuse_other(spec, lambda name: name == wanted)
    why = f"no container port is named {wanted} (there are: {_list(ports)}): name it, or set {PREFIX}ports"
    raise InjectionRefused("refused", [why])


def _unasked(spec: Mapping[str, Any], services: Sequence[Mapping[str, Any]]) -> list[ContainerPort]:
    saying = {port: why for port in declared(spec) if (why := _says_http(spec, port, services))}
    found = [port for port in saying if not speaks_tls(spec, port) and port.number not in DATABASES]
    if found:
        return found
    for port in declared(spec):
        # With tcp it would do; but whether that is meant nobody has said.
        if speaks_tls(spec, port) and (port in saying or SAYS_TLS.search(port.name)):
            refuse_tls(port)
    _refuse_other(spec, lambda name: bool(SAYS_HTTP.match(name)))
    asked = f"name it http, or set {PREFIX}ports"
    why = f"no container port says that it speaks HTTP (there are: {_list(declared(spec))}): {asked}"
    raise OutOfPlace(why)


def _says_http(spec: Mapping[str, Any], port: ContainerPort, services: Sequence[Mapping[str, Any]]) -> str:
    if SAYS_HTTP.match(port.name) and (port.number not in TLS_NUMBERS or port.name.startswith("http")):
        return "its name"
    for container in applications(spec):
        if container["name"] != port.container:
            continue
        for kind, handler in handlers(container):
            if kind != "tcpSocket" and handler.get("port") in (port.name or port.number, port.number):
                return "a probe"
    for service in services:
        for each in service.get("ports") or ():
            target = each.get("targetPort", each.get("port"))
            words = str(each.get("appProtocol") or ""), str(each.get("name") or "")
            if target in (port.name or port.number, port.number) and (
                HTTP_PROTOCOLS.fullmatch(words[0]) or SAYS_HTTP.match(words[1])
            ):
                return "a Service"
    return ""


def speaks_tls(spec: Mapping[str, Any], port: ContainerPort) -> bool:
    """Tell whether a port's name or a probe of it says TLS."""
    if SAYS_TLS.search(port.name):
        return True
    return any(
        handler.get("scheme") == "HTTPS" and handler.get("port") in (port.name or port.number, port.number)
        for container in applications(spec)
        if container["name"] == port.container
        for _, handler in handlers(container)
    )


def _refuse_other(spec: Mapping[str, Any], fits: Any) -> None:
    """Refuse a port that would be it, were it of TCP."""
    for container in applications(spec):
        for entry in container.get("ports") or ():
            if fits(entry.get("name") or "") and entry.get("protocol", "TCP") != "TCP":
                refuse(f"port {entry['name']} is {entry['protocol']}: only TCP is proxied")


def _list(ports: Sequence[ContainerPort]) -> str:
    names = [f"{port.name} {port.number}" if port.name else str(port.number) for port in ports]
    return ", ".join(sorted(names)) or "none"
