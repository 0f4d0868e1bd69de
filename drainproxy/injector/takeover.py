"""Which ports the sidecar takes over, and what in the pod has to follow.

Pure. Three ways: *named* moves the port's name to the sidecar, *env* leaves the number to the sidecar and
tells the application another, *explicit* moves nothing. What is ambiguous is refused, never guessed. Called
by patch.py, on a pod that it may change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from drainproxy.errors import InjectionRefused
from drainproxy.injector.annotations import PREFIX, Options
from drainproxy.podspec import applications

Container = dict[str, Any]

TLS_NAMES = ("https", "tls")
FIRST_UNPRIVILEGED = 1024
UNPRIVILEGED_SYSCTL = "net.ipv4.ip_unprivileged_port_start"
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


@dataclass(frozen=True, slots=True)
class Taken:
    """One port: callers come to `listens`, the application is at `application`."""

    name: str
    listens: int
    application: int
    protocol: str
    entry: dict[str, Any]
    """As the sidecar's container declares it."""


def take_over(spec: dict[str, Any], options: Options) -> list[Taken]:
    """Move ports in `spec` from the application to the sidecar. Raises InjectionRefused."""
    _look_for_clashes(spec, options)
    if options.upstream_port:
        if options.app_port_env:
            refuse(f"{PREFIX}upstream-port and {PREFIX}app-port-env contradict one another", result="invalid")
        return [
            Taken("", options.port + i, number, _protocol(options, i), _entry("", options.port + i))
            for i, number in enumerate(options.upstream_port)
        ]
    if options.app_port_env and len(options.app_port_env) != len(options.ports):
        refuse(f"{PREFIX}app-port-env: write one variable for each of {PREFIX}ports", result="invalid")
    return [_take(spec, name, i, options) for i, name in enumerate(options.ports)]


def refuse(*problems: str, result: str = "refused") -> NoReturn:
    """Raise InjectionRefused."""
    raise InjectionRefused(result, list(problems))


def unproxied(spec: dict[str, Any], taken: list[Taken]) -> list[str]:
    """Name the application's ports that callers reach around the sidecar."""
    ours = {each.application for each in taken}
    return [
        f"{entry.get('name') or 'port'} {entry['containerPort']}"
        for container in applications(spec)
        for entry in container.get("ports") or ()
        if entry["containerPort"] not in ours and entry.get("protocol", "TCP") == "TCP"
    ]


def _protocol(options: Options, i: int) -> str:
    return options.protocol[min(i, len(options.protocol) - 1)]


def _entry(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {**({"name": name} if name else {}), "containerPort": number, "protocol": "TCP", **more}


def _take(spec: dict[str, Any], name: str, i: int, options: Options) -> Taken:
    container, entry = _owner(spec, name)
    protocol, number, new = _protocol(options, i), entry["containerPort"], options.port + i
    if entry.get("protocol", "TCP") != "TCP":
        refuse(f"port {name} is {entry['protocol']}: only TCP is proxied")
    if protocol == "http" and name.startswith(TLS_NAMES):
        _refuse_tls(name)
    told = bool(options.app_port_env)
    listens, application = (number, new) if told else (new, number)
    del entry["name"]
    # A port of the node leads to where the name leads.
    moved = _entry(name, listens, **{key: entry.pop(key) for key in ("hostPort", "hostIP") if key in entry})
    entry["containerPort"] = application
    if told:
        _tell(container, options.app_port_env[i], application)
        if listens < FIRST_UNPRIVILEGED and not _may_bind(spec, listens):
            refuse(f"port {listens} needs root: set the pod's sysctl {UNPRIVILEGED_SYSCTL} to 0")
    for handler in _handlers(container):
        if handler["port"] == name or (told and handler["port"] == number):
            if protocol == "http" and handler.get("scheme") == "HTTPS":
                _refuse_tls(name)
            handler["port"] = application
    return Taken(name, listens, application, protocol, moved)


def _refuse_tls(name: str) -> NoReturn:
    refuse(f"port {name} speaks TLS, which is not terminated here: {PREFIX}protocol: tcp passes it on unread")


def _owner(spec: dict[str, Any], name: str) -> tuple[Container, dict[str, Any]]:
    named = [
        (container, entry)
        for container in applications(spec)
        for entry in container.get("ports") or ()
        if entry.get("name")
    ]
    found = [(container, entry) for container, entry in named if entry["name"] == name]
    if not found:
        others = ", ".join(sorted({entry["name"] for _, entry in named})) or "none"
        refuse(f"no container port is named {name} (there are: {others}): name it, or set {PREFIX}ports")
    if len(found) > 1:
        refuse(f"port {name} is named by several containers: {', '.join(each['name'] for each, _ in found)}")
    return found[0]


def _tell(container: Container, variable: str, number: int) -> None:
    """Set the variable by which the application learns its port."""
    variables = container["env"] = container.get("env") or []
    for each in variables:
        if each["name"] == variable:
            if "valueFrom" in each:
                refuse(f"container {container['name']}: {variable} comes from elsewhere, and cannot be set")
            each["value"] = str(number)
            return
    variables.append({"name": variable, "value": str(number)})


def _may_bind(spec: dict[str, Any], port: int) -> bool:
    sysctls = (spec.get("securityContext") or {}).get("sysctls") or ()
    return any(each["name"] == UNPRIVILEGED_SYSCTL and int(each["value"]) <= port for each in sysctls)


def _handlers(container: Container) -> Iterator[dict[str, Any]]:
    """Yield whatever in a container's probes and hooks goes to a port."""
    places = [container.get(probe) or {} for probe in PROBES]
    places += [hook or {} for hook in (container.get("lifecycle") or {}).values() if isinstance(hook, dict)]
    for place in places:
        for kind in ("httpGet", "tcpSocket", "grpc"):
            if place.get(kind):
                yield place[kind]


def _look_for_clashes(spec: dict[str, Any], options: Options) -> None:
    """Refuse a port that somebody else in the pod has declared: who starts first would take it."""
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    declared = {
        entry["containerPort"]: container["name"]
        for container in (*sidecars, *spec["containers"])
        for entry in container.get("ports") or ()
    }
    count = len(options.upstream_port or options.ports)
    news = range(options.port, options.port + count)
    if options.admin_port in news or news[-1] > 65535 or not {*options.upstream_port}.isdisjoint(news):
        refuse(f"{PREFIX}port, admin-port and upstream-port meet, or end beyond 65535", result="invalid")
    for number in (*news, options.admin_port):
        if number in declared:
            name = "admin-port" if number == options.admin_port else "port"
            refuse(f"port {number} is container {declared[number]}'s: set {PREFIX}{name} to a free one")
