"""The words with which a pod asks for the sidecar: a label, and annotations that say how.

Pure. Each field of Options is an annotation, and each setting that is no part of the wiring is one by its
own name (`drainproxy.io/app-stop`); the string under a field is its manual (docs/injection.md). Called by
patch.py.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from drainproxy.config import quote
from drainproxy.errors import InjectionRefused
from drainproxy.kinds import ConfigMapName, ContainerPort, EnvName, Host, Port, Quantity, Switch, UserId
from drainproxy.settings import Setting, rows, table

PREFIX = "drainproxy.io/"
LABEL = PREFIX + "inject"
REVISION_LABEL = PREFIX + "rev"
INJECTED_LABEL = PREFIX + "injected"
"""Written by us: what the PodMonitor selects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is chosen about the wiring; what the proxy does is chosen by its settings."""

    ports: tuple[ContainerPort, ...] = ()
    """The container ports that the sidecar takes over, by name or by number, comma-separated: several
    listeners under one lifecycle. Default: those that say that they speak HTTP, by a name that begins with
    http, grpc, h2c, web or api, by an httpGet or grpc probe, or by what a Service says; never those that
    databases and queues are known by."""

    capture: Literal["auto", "name", "env", "address", "redirect"] = "auto"
    """How callers reach the sidecar. name: the port's name moves to it. env: it keeps the number, and
    `app-port-env` tells the application another. address: it takes the same number at the pod's addresses,
    and `app-host-env` tells the application to listen on loopback. redirect: packets are led to it, where
    whoever runs the injector allows that. auto: the first of these that the annotations, the ports and the
    cluster allow."""

    app_port_env: tuple[EnvName, ...] = ()
    """Environment variables that tell the application its ports, one for each of `ports`: the sidecar keeps
    the numbers, and the application is told others. Numeric targetPorts and NetworkPolicies stay true."""

    app_host_env: EnvName | None = None
    """Environment variable that tells the application at which address to listen, 127.0.0.1: the sidecar
    takes the same numbers at the pod's addresses, and nothing else changes for callers."""

    upstream_port: tuple[Port, ...] = ()
    """Ports of the application, where Services already point at the sidecar: nothing is moved."""

    upstream_host: Host = "127.0.0.1"
    """Where in the pod the application listens: localhost for 127.0.0.1 or ::1, whichever answers; pod for
    the pod's own address, where it binds to that alone; or an IP address."""

    port: Port = 28080
    """The first of as many successive ports as are taken over. A native sidecar starts first, so this is
    never a common application port."""

    admin_port: Port = 29900
    """Port of probes, hooks and metrics."""

    protocol: tuple[Literal["http", "tcp"], ...] = ("http",)
    """What each port speaks; the last word holds for the ports after it. http is HTTP/1.1, HTTP/2 and gRPC in
    clear text; tcp is passed on unread, TLS too."""

    mode: Literal["auto", "native", "plain"] = "auto"
    """native: an init container with restartPolicy Always. plain: one more container. auto: native, but plain
    where a Service would not find the port's name in an init container, before Kubernetes 1.33."""

    mesh: Literal["auto", "istio", "linkerd", "none"] = "auto"
    """Whose proxy is going to stand in the pod. auto: by the words of the pod and of its namespace, which are
    `istio-injection`, `istio.io/rev`, `sidecar.istio.io/inject` and `linkerd.io/inject`. istio or linkerd:
    whatever these say; none: they mean nothing here. A proxy that is in the pod always counts."""

    grace: Literal["raise", "keep"] | None = None
    """Whether terminationGracePeriodSeconds may be raised to what the drain needs. Default: raise where a
    preset or a part of the sum was chosen, keep otherwise."""

    scrape_annotations: Switch = False
    """Whether the pod says by `prometheus.io/scrape`, `port` and `path` where the sidecar's metrics are, for
    a Prometheus that finds pods by these. A pod with annotations of that prefix keeps them as they are."""

    routes_config_map: ConfigMapName | None = None
    """ConfigMap with a routes file under the key routes.yaml."""

    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When nodes pull the image."""

    pure: Switch = False
    """Whether the sidecar runs its sources, where the image has them compiled: for whoever suspects the
    compiler. A request costs about half as much CPU again, and nothing else changes."""

    run_as_user: UserId = "65532"
    """User and group of the container; null where the platform chooses, as OpenShift does."""

    cpu_request: Quantity = "10m"
    """Without a request the pod's autoscaler cannot work."""

    cpu_limit: Quantity | None = None
    """For namespaces whose rules ask for one, 50m at least: once a limit below 1 is used up, the sidecar
    stands still for the rest of a tenth of a second, in mid drain too, and it starts more slowly. In a pod of
    the QoS class Guaranteed, what the pod's annotations do not request is then requested as it is limited, so
    that the class stays."""

    memory_request: Quantity = "64Mi"
    """What the scheduler counts with."""

    memory_limit: Quantity = "128Mi"
    """Beyond it the sidecar is killed; `max_connections` is counted from it (8192 with 128Mi, 1638 with
    64Mi), and how much may be held for clients."""


WIRING = frozenset(
    {
        "listen",
        "open_when",
        "upstream",
        "admin",
        "grace_period",
        "config",
        "routes",
        "control_socket",
        "termination_log",
    }
    | {
        "kubeconfig",
        "kubernetes_credentials",
        "pod_name",
        "pod_namespace",
        "pod_uid",
        "pod_ips",
        "node_name",
        "host_ips",
    }
    | {"tls_certificate", "tls_key", "tls_client", "tls_client_ca"}
    | {"upstream_ca", "upstream_server_name", "upstream_certificate", "upstream_key"}
)
"""Settings that the injector writes, or that name files which are not there."""

SUM = frozenset({"propagation", "propagation-max", "leave-spread", "app-stop", "reserve"})
"""Whoever chooses one of these has chosen a grace period."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a pod asks for."""

    options: Options
    settings: Mapping[str, str]
    """Environment of the proxy."""
    chosen: frozenset[str]
    """Names of what was written, without the prefix."""


def words() -> Iterator[tuple[str, Setting]]:
    """Yield every annotation's name, without the prefix, and what it means."""
    for setting in (*rows("injection", Options), *table()):
        if setting.name not in WIRING:
            yield setting.flag.removeprefix("--"), setting


def read(annotations: Mapping[str, Any], defaults: Mapping[str, str]) -> Wish:
    """Return what a pod's annotations ask for, `defaults` below them.

    Raises InjectionRefused with every annotation that makes no sense. Values of settings are not looked at.
    """
    asked = {name.removeprefix(PREFIX): text for name, text in annotations.items() if name.startswith(PREFIX)}
    given = {**defaults, **asked}
    known, problems = dict(words()), []
    options, environment = {}, {}
    for name, text in given.items():
        if (setting := known.get(name)) is None:
            close = difflib.get_close_matches(name, known, 1)
            problems.append(f"{PREFIX}{name} is no option" + (f"; did you mean {close[0]}?" if close else ""))
        elif not isinstance(text, str):
            problems.append(f"{PREFIX}{name}: {quote(str(text))} is not a string; put it in quotes")
        elif setting.room == "injection":
            try:
                options[setting.name] = _value(setting, text)
            except ValueError as error:
                problems.append(f"{PREFIX}{name}: {quote(text)} {error}; write {setting.kind.allowed}")
        else:
            environment[setting.env] = text
    if problems:
        raise InjectionRefused("invalid", problems)
    return Wish(Options(**options), environment, frozenset(given))


def _value(setting: Setting, text: str) -> Any:
    if setting.many:
        return tuple(setting.kind.read(part.strip()) for part in text.split(","))
    return setting.kind.read(text)
