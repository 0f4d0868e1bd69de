"""How callers reach the sidecar of a pod: which ports, through which door, and in which kind of container.

Pure, and changes nothing: takeover.py does what is decided here. A door that was asked for and cannot be had
is refused with the reason; of `auto`, the first that can be had is taken. docs/injection.md draws it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drainproxy.errors import InjectionRefused
from drainproxy.injector.annotations import PREFIX, Options
from drainproxy.injector.http_ports import ContainerPort, choose
from drainproxy.injector.refusal import refuse

Door = Literal["name", "env", "address", "redirect", "explicit"]
Mode = Literal["native", "plain"]

NAMES_IN_INIT_CONTAINERS = (1, 33)
"""Until then a Service looks for its targetPort's name in `containers` only (kubernetes #128850)."""
FIRST_UNPRIVILEGED = 1024
UNPRIVILEGED_SYSCTL = "net.ipv4.ip_unprivileged_port_start"
ENFORCED = "pod-security.kubernetes.io/enforce"
FORBIDDING = frozenset({"baseline", "restricted"})
"""Levels of the Pod Security Standards that refuse NET_ADMIN (baseline: capabilities)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is known of the place where a pod is to run, beyond the pod."""

    namespace: str = ""
    namespace_labels: Mapping[str, str] | None = None
    """None: nobody has asked."""
    services: Sequence[Mapping[str, Any]] = ()
    """Specs of the Services that are known to lead to it."""
    kubernetes: tuple[int, int] | None = None
    """The cluster's version, where it is known."""
    redirect: bool = False
    """An init container may write rules for packets."""
    mesh: str | None = None


@dataclass(frozen=True, slots=True)
class Capture:
    """What takeover.py is to do. Without ports where Services already lead to the sidecar."""

    door: Door
    ports: tuple[ContainerPort, ...]
    mode: Mode
    said: tuple[str, ...] = ()


def decide(spec: Mapping[str, Any], options: Options, ground: Ground) -> Capture:
    """Return how the ports of a pod are captured. Raises InjectionRefused."""
    _refuse_contradictions(options)
    if options.upstream_port:
        return Capture("explicit", (), _mode(options, "explicit", (), ground, spec))
    ports = tuple(choose(spec, options, ground.services))
    asked, said = _asked(options), []
    if asked is not None:
        if not (why := _OBSTACLES[asked](spec, options, ground, ports)):
            return _captured(asked, ports, options, ground, spec)
        if asked != "redirect" or not _forbidden(ground):
            refuse(why)
        said = [why]
    for door in _automatic(ground, ports):
        if not _OBSTACLES[door](spec, options, ground, ports):
            return _captured(door, ports, options, ground, spec, *said)
    named = tuple(port for port in ports if port.name)
    if named and not options.ports and not _name(spec, options, ground, named):
        # What is not taken is named by takeover.unproxied.
        return _captured("name", named, options, ground, spec, *said)
    why = f"{_name(spec, options, ground, ports)}; {_redirect(spec, options, ground, ports)}; {_WAYS}"
    raise InjectionRefused("refused", [why])


def _automatic(ground: Ground, ports: Sequence[ContainerPort]) -> tuple[Door, ...]:
    return ("redirect", "name") if _numbers(ground, ports) else ("name", "redirect")


_WAYS = f"or set {PREFIX}app-host-env or app-port-env where the application reads its address from a variable"


def _refuse_contradictions(options: Options) -> None:
    wishes = {
        "upstream-port": bool(options.upstream_port),
        "app-port-env": bool(options.app_port_env),
        "app-host-env": options.app_host_env is not None,
    }
    chosen = [name for name, wished in wishes.items() if wished]
    if len(chosen) > 1:
        refuse(f"{PREFIX}{chosen[0]} and {PREFIX}{chosen[1]} contradict one another", result="invalid")
    needed = {"env": "app-port-env", "address": "app-host-env"}.get(options.capture)
    if options.capture != "auto" and chosen not in ([], [needed]):
        refuse(
            f"{PREFIX}capture: {options.capture} and {PREFIX}{chosen[0]} contradict one another",
            result="invalid",
        )
    if needed is not None and not chosen:
        refuse(f"{PREFIX}capture: {options.capture} needs {PREFIX}{needed}", result="invalid")
    if options.app_port_env and options.ports and len(options.app_port_env) != len(options.ports):
        refuse(f"{PREFIX}app-port-env: write one variable for each of {PREFIX}ports", result="invalid")
    if len({*options.upstream_port}) < len(options.upstream_port):
        refuse(f"{PREFIX}upstream-port: it names a port twice", result="invalid")


def _asked(options: Options) -> Door | None:
    if options.capture != "auto":
        return options.capture
    if options.app_port_env:
        return "env"
    return None if options.app_host_env is None else "address"


def _numbers(ground: Ground, ports: Sequence[ContainerPort]) -> bool:
    """Tell whether a Service leads to one of the ports by number, which does not follow a name that moves."""
    numbers = {port.number for port in ports}
    return any(
        each.get("targetPort", each.get("port")) in numbers
        for service in ground.services
        for each in service.get("ports") or ()
    )


def _captured(
    door: Door,
    ports: tuple[ContainerPort, ...],
    options: Options,
    ground: Ground,
    spec: Mapping[str, Any],
    *said: str,
) -> Capture:
    mode = _mode(options, door, ports, ground, spec)
    if _moves_names(door, ports) and mode == "native" and ground.kubernetes is None:
        said += (f"before Kubernetes 1.33 no Service finds the port's name there: set {PREFIX}mode: plain",)
    if door == "redirect":
        # A rule goes by the number, whatever its names.
        ports = tuple({port.number: port for port in reversed(ports)}[number] for number in _once(ports))
        if ground.namespace_labels is None:
            said += ("redirect's init container has NET_ADMIN: PodSecurity must be privileged here",)
    return Capture(door, ports, mode, said)


def _once(ports: Sequence[ContainerPort]) -> list[int]:
    return list(dict.fromkeys(port.number for port in ports))


def _moves_names(door: Door, ports: Sequence[ContainerPort]) -> bool:
    return door in ("name", "env") and any(port.name for port in ports)


def _mode(
    options: Options, door: Door, ports: Sequence[ContainerPort], ground: Ground, spec: Mapping[str, Any]
) -> Mode:
    if options.mode != "auto":
        return options.mode
    old = ground.kubernetes is not None and ground.kubernetes < NAMES_IN_INIT_CONTAINERS
    return "plain" if old and _moves_names(door, ports) and _stays(spec) else "native"


def _stays(spec: Mapping[str, Any]) -> bool:
    return bool(spec.get("restartPolicy", "Always") == "Always")


def may_bind(spec: Mapping[str, Any], port: int) -> bool:
    """Tell whether a container without privileges may listen on a port."""
    sysctls = (spec.get("securityContext") or {}).get("sysctls") or ()
    return port >= FIRST_UNPRIVILEGED or any(
        each["name"] == UNPRIVILEGED_SYSCTL and int(each["value"]) <= port for each in sysctls
    )


# Why a door cannot be had: a sentence, empty where it can.


def _name(spec: Mapping[str, Any], options: Options, ground: Ground, ports: tuple[ContainerPort, ...]) -> str:
    if bare := [port for port in ports if not port.name]:
        return f"port {bare[0]} has no name that could move to the sidecar: name it"
    return _shared(ports) or _lost(spec, options, ground)


def _shared(ports: Sequence[ContainerPort]) -> str:
    """Tell of a name that several containers have: which of them Services mean, nobody says."""
    for port in ports:
        if len(among := [each.container for each in ports if each.name == port.name]) > 1:
            return f"port {port} is named by several containers: {', '.join(among)}"
    return ""


def _lost(spec: Mapping[str, Any], options: Options, ground: Ground) -> str:
    """Tell of a name that no Service would find."""
    if ground.kubernetes is None or ground.kubernetes >= NAMES_IN_INIT_CONTAINERS or options.mode == "plain":
        return ""
    if options.mode == "native":
        return f"a Service would not find the port's name before Kubernetes 1.33: set {PREFIX}mode: plain"
    # A plain sidecar would keep it from completing.
    why = "a Service would not find the port's name before Kubernetes 1.33, and a plain sidecar never ends"
    return "" if _stays(spec) else why


def _env(spec: Mapping[str, Any], options: Options, ground: Ground, ports: tuple[ContainerPort, ...]) -> str:
    if len(options.app_port_env) != len(ports):
        many = ", ".join(map(str, ports))
        return f"{PREFIX}app-port-env: write one variable for each port that is taken over ({many})"
    return (
        _unknown(ports)
        or _shared(ports)
        or _privileged(spec, ports)
        or (_lost(spec, options, ground) if any(port.name for port in ports) else "")
    )


def _address(
    spec: Mapping[str, Any], options: Options, _ground: Ground, ports: tuple[ContainerPort, ...]
) -> str:
    if options.upstream_host not in ("127.0.0.1", "localhost", "::1"):
        return f"{PREFIX}upstream-host: capture by address needs the application on loopback"
    return _unknown(ports) or _privileged(spec, ports)


def _redirect(
    _spec: Mapping[str, Any], options: Options, ground: Ground, ports: tuple[ContainerPort, ...]
) -> str:
    if not ground.redirect:
        return "redirect is not allowed here"
    if level := _forbidden(ground):
        return f"the namespace's PodSecurity level {level} does not allow redirect"
    if ground.mesh is not None:
        return f"the {ground.mesh} proxy leads packets itself, so that redirect would see none"
    if options.admin_port in {port.number for port in ports}:
        return f"port {options.admin_port} is the sidecar's admin port: set {PREFIX}admin-port"
    return ""


def _forbidden(ground: Ground) -> str:
    """Return the level of the namespace that does not let redirect's init container in."""
    level = (ground.namespace_labels or {}).get(ENFORCED, "")
    return level if level in FORBIDDING else ""


def _unknown(ports: Sequence[ContainerPort]) -> str:
    """Tell of a port of which nobody knows the container that is to be told something."""
    return next((f"no container declares port {port}" for port in ports if not port.container), "")


def _privileged(spec: Mapping[str, Any], ports: Sequence[ContainerPort]) -> str:
    low = [port.number for port in ports if not may_bind(spec, port.number)]
    return f"port {low[0]} needs root: set the pod's sysctl {UNPRIVILEGED_SYSCTL} to 0" if low else ""


_Obstacle = Callable[[Mapping[str, Any], Options, Ground, tuple[ContainerPort, ...]], str]
_OBSTACLES: Mapping[str, _Obstacle] = {"name": _name, "env": _env, "address": _address, "redirect": _redirect}
