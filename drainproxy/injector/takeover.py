"""Ports change hands as capture.py has decided, and whatever in the pod has to follow does.

Pure. Called by patch.py, on a pod that it may change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from drainproxy.injector import http_ports
from drainproxy.injector.annotations import PREFIX, Options
from drainproxy.injector.capture import UNPRIVILEGED_SYSCTL, Capture, Door, may_bind
from drainproxy.injector.http_ports import ContainerPort, handlers
from drainproxy.injector.refusal import refuse
from drainproxy.podspec import applications

Container = dict[str, Any]

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Taken:
    """One port: callers come to `listens`, the application is at `application`."""

    name: str
    listens: int
    application: int
    protocol: str
    entry: dict[str, Any]
    """As the sidecar's container declares it."""
    door: Door = "name"

    @property
    def callers(self) -> int:
        """The number that callers use: rules for packets lead from there to where the sidecar listens."""
        return self.application if self.door == "redirect" else self.listens

    @property
    def listen(self) -> str:
        """Where the sidecar listens, as `listen` is written; `pod` are the pod's own addresses."""
        return f"{'pod' if self.door == 'address' else ''}:{self.listens}"


def take_over(spec: dict[str, Any], options: Options, capture: Capture) -> list[Taken]:
    """Move ports in `spec` from the application to the sidecar. Raises InjectionRefused."""
    _look_for_clashes(spec, options, capture)
    if capture.door == "explicit":
        return [
            Taken("", number, each, http_ports.protocol(options, i), _entry("", number), "explicit")
            for i, each in enumerate(options.upstream_port)
            for number in (options.port + i,)
        ]
    return [_take(spec, port, i, options, capture.door) for i, port in enumerate(capture.ports)]


def unproxied(spec: dict[str, Any], taken: list[Taken]) -> list[str]:
    """Name the application's ports that callers reach around the sidecar."""
    ours = {each.application for each in taken}
    return [
        f"{port.name or 'port'} {port.number}"
        for port in http_ports.declared(spec)
        if port.number not in ours
    ]


def _entry(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {**({"name": name} if name else {}), "containerPort": number, "protocol": "TCP", **more}


def _take(spec: dict[str, Any], port: ContainerPort, i: int, options: Options, door: Door) -> Taken:
    protocol, number, new = http_ports.protocol(options, i), port.number, options.port + i
    if door == "redirect":
        return Taken(port.name, new, number, protocol, _entry("", new), door)
    if door == "address":
        for container in _owners(spec, port):
            _tell(container, str(options.app_host_env), LOOPBACK)
        return Taken(port.name, number, number, protocol, _entry("", number), door)
    listens, application = (number, new) if door == "env" else (new, number)
    [container] = _owners(spec, port)
    entry = next(
        each
        for each in container["ports"]
        if (each.get("name") or "", each["containerPort"]) == (port.name, number)
    )
    entry.pop("name", None)
    # A port of the node leads to where the name leads.
    moved = _entry(
        port.name, listens, **{key: entry.pop(key) for key in ("hostPort", "hostIP") if key in entry}
    )
    entry["containerPort"] = application
    if door == "env":
        _tell(container, options.app_port_env[i], str(application))
    for _, handler in handlers(container):
        if handler["port"] == (port.name or number) or (door == "env" and handler["port"] == number):
            handler["port"] = application
    return Taken(port.name, listens, application, protocol, moved, door)


def _owners(spec: dict[str, Any], port: ContainerPort) -> Iterator[Container]:
    return (each for each in applications(spec) if each["name"] == port.container)


def _tell(container: Container, variable: str, text: str) -> None:
    """Set the variable by which the application learns where to listen."""
    variables = container["env"] = container.get("env") or []
    for each in variables:
        if each["name"] == variable:
            if "valueFrom" in each:
                refuse(f"container {container['name']}: {variable} comes from elsewhere, and cannot be set")
            each["value"] = text
            return
    variables.append({"name": variable, "value": text})


def _look_for_clashes(spec: dict[str, Any], options: Options, capture: Capture) -> None:
    """Refuse a port that somebody else in the pod has declared: who starts first would take it."""
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    declared = {
        entry["containerPort"]: container["name"]
        for container in (*sidecars, *spec["containers"])
        for entry in container.get("ports") or ()
        if entry.get("protocol", "TCP") == "TCP"
    }
    count = len(options.upstream_port or capture.ports)
    news = () if capture.door == "address" else range(options.port, options.port + count)
    if (
        options.admin_port in news
        or (news and news[-1] > 65535)
        or not {*options.upstream_port}.isdisjoint(news)
    ):
        refuse(f"{PREFIX}port, admin-port and upstream-port meet, or end beyond 65535", result="invalid")
    for number in (*news, options.admin_port):
        name = "admin-port" if number == options.admin_port else "port"
        if number in declared:
            refuse(f"port {number} is container {declared[number]}'s: set {PREFIX}{name} to a free one")
        if not may_bind(spec, number):
            refuse(f"{PREFIX}{name}: port {number} needs root, or the pod's sysctl {UNPRIVILEGED_SYSCTL}")
