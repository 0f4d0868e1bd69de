"""Where the sidecar cannot work, and what stands beside it: meshes and the hooks of other containers.

Pure. What would lose requests quietly is refused with the reason; what is doubtful is said. Called by
patch.py, on a pod that it may change.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from drainproxy import podspec
from drainproxy.errors import OutOfPlace
from drainproxy.injector.annotations import PREFIX, Options
from drainproxy.injector.refusal import refuse
from drainproxy.kube.owners import labels
from drainproxy.podspec import MESH_PROXIES, WAIT_PATH, applications, pre_stop, sleeps
from drainproxy.proxy.limits.capacity import BASE_BYTES

NAME, REDIRECT_NAME = "drainproxy", "drainproxy-redirect"
TOKEN_VOLUME, ROUTES_VOLUME = "drainproxy-token", "drainproxy-routes"
MAX_UID = 2**31 - 1
"""What an API server takes (k8s.io/apimachinery, validation.IsValidUserID)."""
_MIN_LIMIT = f"{BASE_BYTES // 1024**2}Mi"
_SUFFIXES = {"": 1, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
_SUFFIXES |= {"T": 1e12, "Ti": 1024**4}
_BOTH = ("cpu", "memory")

SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
MIRROR = "kubernetes.io/config.mirror"
ISTIO_INJECT, ISTIO_REVISION, LINKERD_INJECT = (
    "sidecar.istio.io/inject",
    "istio.io/rev",
    "linkerd.io/inject",
)
SCRAPED = "prometheus.io/"
"""Prefix of the annotations that Prometheus' own example of a configuration finds pods by."""


def check(pod: dict[str, Any], namespace: str) -> None:
    """Raise InjectionRefused where the sidecar has no business, or would do harm."""
    metadata, spec = pod.get("metadata") or {}, pod["spec"]
    namespace = namespace or metadata.get("namespace") or ""
    if namespace in SYSTEM_NAMESPACES or MIRROR in (metadata.get("annotations") or {}):
        raise OutOfPlace(f"pods of {namespace or 'the kubelet'} belong to Kubernetes itself")
    if spec.get("hostNetwork"):
        raise OutOfPlace("hostNetwork: the sidecar's ports would be ports of the node")
    if (spec.get("os") or {}).get("name") == "windows":
        raise OutOfPlace("the sidecar runs on Linux only")


def check_fit(spec: dict[str, Any], environment: Mapping[str, str], options: Options) -> None:
    """Raise InjectionRefused with what an API server would refuse in the whole pod, on our account."""
    if say := list(_unfit(options)):
        refuse(*say, result="invalid")
    ours = {NAME, REDIRECT_NAME}
    for each in podspec.containers(spec):
        if each.get("name") in ours:
            refuse(f"a container is called {each['name']} already, and is not ours")
    wanted = {TOKEN_VOLUME} if environment["DRAINPROXY_RBAC"] != "none" else set()
    wanted |= {ROUTES_VOLUME} if options.routes_config_map else set()
    for volume in spec.get("volumes") or ():
        if volume.get("name") in wanted:
            refuse(f"a volume is called {volume['name']} already, and is not ours")


def _unfit(options: Options) -> Iterator[str]:
    """Yield what makes no sense about the container's resources and its user."""
    if _quantity(options.memory_limit) < BASE_BYTES:
        yield f"{PREFIX}memory-limit: {options.memory_limit} is below {_MIN_LIMIT}, which it needs itself"
    if _quantity(options.memory_request) > _quantity(options.memory_limit):
        yield (
            f"{PREFIX}memory-request: {options.memory_request} is above memory-limit {options.memory_limit}"
        )
    if options.cpu_limit is not None:
        if podspec.cores(options.cpu_limit) < podspec.cores(podspec.MIN_CPU_LIMIT):
            least = podspec.MIN_CPU_LIMIT
            yield f"{PREFIX}cpu-limit: {options.cpu_limit} is below {least}, the least it was tried with"
        if podspec.cores(options.cpu_request) > podspec.cores(options.cpu_limit):
            yield f"{PREFIX}cpu-request: {options.cpu_request} is above cpu-limit {options.cpu_limit}"
    if options.run_as_user != "null" and int(options.run_as_user) > MAX_UID:
        yield f"{PREFIX}run-as-user: {options.run_as_user} is above {MAX_UID}"


def resources(options: Options) -> dict[str, dict[str, str]]:
    """Return the resources of each container of ours."""
    limit = {} if options.cpu_limit is None else {"cpu": options.cpu_limit}
    return {
        "requests": {"cpu": options.cpu_request, "memory": options.memory_request},
        "limits": {**limit, "memory": options.memory_limit},
    }


def fit_resources(pod: dict[str, Any], options: Options, say: list[str]) -> Options:
    """Keep the pod's QoS class where a CPU limit allows that, and say what such a limit does."""
    if options.cpu_limit is not None and podspec.cores(options.cpu_limit) < 1:
        say.append(
            f"cpu-limit {options.cpu_limit}: once that is used up the sidecar stands still for the rest of a"
            " tenth of a second, in mid drain too; 1 or more never does that"
        )
    spec = pod["spec"]
    # Its own resources decide about a pod's class where it has them (Kubernetes: Pod Quality of Service).
    if spec.get("resources") or not all(map(_guaranteed, podspec.containers(spec))):
        return options
    if options.cpu_limit is not None:
        own = podspec.annotations(pod)
        if f"{PREFIX}cpu-request" not in own:
            options = replace(options, cpu_request=options.cpu_limit)
        if f"{PREFIX}memory-request" not in own:
            options = replace(options, memory_request=options.memory_limit)
    if not _guaranteed({"resources": resources(options)}):
        say.append(
            f"its QoS class is no longer Guaranteed: that takes {PREFIX}cpu-limit, and requests as limits"
        )
    return options


def _guaranteed(container: Mapping[str, Any]) -> bool:
    """Tell whether a container requests as much as it is limited to; what it does not request is that."""
    given = container.get("resources") or {}
    limits, requests = given.get("limits") or {}, given.get("requests") or {}
    return all(name in limits and _same(requests.get(name, limits[name]), limits[name]) for name in _BOTH)


def _same(one: Any, other: Any) -> bool:
    """Tell whether two quantities are one, however they are written."""
    try:
        return str(one) == str(other) or _quantity(str(one)) == _quantity(str(other))
    except (KeyError, ValueError):
        return False


def _quantity(text: str) -> float:
    """Return the number that a quantity stands for (Kubernetes: Quantity)."""
    number = text.rstrip("mkMGTKi")
    return float(number) * _SUFFIXES[text[len(number) :]]


def check_mode(spec: dict[str, Any], mode: str) -> None:
    """Raise InjectionRefused where a container of this mode would do harm."""
    if mode == "plain" and spec.get("restartPolicy", "Always") != "Always":
        refuse("a plain sidecar would keep a pod that runs to completion from completing; use mode native")


@dataclass(frozen=True, slots=True)
class Around:
    """What is known of a pod's surroundings."""

    namespace_labels: Mapping[str, str] | None = None
    """None: nobody knows them."""
    services: Sequence[Mapping[str, Any]] = ()
    """Specs of the Services that lead to it."""
    namespace_annotations: Mapping[str, str] = field(default_factory=dict)

    def wishes(self) -> dict[str, str]:
        """Return what the namespace asks for its pods, by names without the prefix."""
        said = self.namespace_annotations.items()
        return {name.removeprefix(PREFIX): text for name, text in said if str(name).startswith(PREFIX)}


def mesh_of(pod: dict[str, Any], around: Around, chosen: str) -> str | None:
    """Return istio or linkerd if their proxy is in the pod, or is going to be. `chosen`: the option mesh."""
    for each in podspec.containers(pod["spec"]):
        if each.get("name") in MESH_PROXIES:
            return MESH_PROXIES[each["name"]]
    if chosen != "auto":
        return None if chosen == "none" else chosen
    if _istio(pod, around.namespace_labels or {}):
        return "istio"
    word = podspec.annotations(pod).get(LINKERD_INJECT, around.namespace_annotations.get(LINKERD_INJECT))
    return "linkerd" if word in ("enabled", "ingress") else None


def _istio(pod: dict[str, Any], namespace: Mapping[str, str]) -> bool:
    """Tell whether one of Istio's webhooks is going to take the pod.

    `istio-injection` of the namespace goes before its revision, and keeps the pod's own words from counting
    where it says no; else these go first (Istio: Controlling the injection policy).
    """
    own = labels(pod).get(ISTIO_INJECT, podspec.annotations(pod).get(ISTIO_INJECT))
    if own == "false":
        return False
    if "istio-injection" in namespace:
        return namespace["istio-injection"] == "enabled"
    return own == "true" or bool(namespace.get(ISTIO_REVISION) or labels(pod).get(ISTIO_REVISION))


def fit_mesh(pod: dict[str, Any], mesh: str, around: Around, admin_port: int, say: list[str]) -> None:
    """Keep the admin port out of the mesh, and refuse a mesh's proxy that would be gone in mid drain."""
    # What a namespace says to Linkerd holds for pods that do not say it themselves (Linkerd: Proxy
    # Configuration): a list of ours in the pod would hide the namespace's.
    inherited = {
        name: value
        for name, value in around.namespace_annotations.items()
        if name.startswith(("config.linkerd.io/", "config.alpha.linkerd.io/"))
    }
    effective = {**pod, "metadata": {"annotations": {**inherited, **podspec.annotations(pod)}}}
    if gone := podspec.gone_in_mid_drain(effective, mesh):
        refuse(gone)
    present = any(each.get("name") in MESH_PROXIES for each in podspec.containers(pod["spec"]))
    if not present and not podspec.outlasts(effective, mesh):
        say.append(f"the {mesh} proxy must outlast the drain: {podspec.to_outlast(mesh)}")
    ports, setting = podspec.excluded_ports(effective, mesh), podspec.EXCLUDED_PORTS[mesh]
    if str(admin_port) not in ports:
        excluded = {setting: ",".join([*ports, str(admin_port)])}
        pod["metadata"]["annotations"] = {**podspec.annotations(pod), **excluded}
        if present:
            say.append(f"the {mesh} proxy is there already: in the template, set {setting} to {admin_port}")


def announce_metrics(pod: dict[str, Any], admin_port: int, say: list[str]) -> None:
    """Say to a Prometheus that goes by annotations where the sidecar's metrics are.

    One pod has room for one such target: who has taken it keeps it, whatever it says.
    """
    own = podspec.annotations(pod)
    ours = {"scrape": "true", "port": str(admin_port), "path": "/metrics"}
    wanted = {f"{SCRAPED}{name}": text for name, text in ours.items()}
    if not any(str(name).startswith(SCRAPED) for name in own):
        pod["metadata"]["annotations"] = {**own, **wanted}
    elif not wanted.items() <= own.items():
        say.append(
            f"it keeps its own {SCRAPED} annotations: these do not lead a scrape to the sidecar's metrics"
            f" at :{admin_port}/metrics"
        )


def wire_hooks(spec: dict[str, Any], admin_port: int, say: list[str]) -> None:
    """Keep every application container alive until the drain is over."""
    for container in applications(spec):
        hook, name = pre_stop(container), container["name"]
        if hook.get("httpGet", {}).get("path") == WAIT_PATH:
            continue
        if hook and not sleeps(hook):
            say.append(f"container {name} keeps its preStop hook: it ends in mid drain if that is over first")
            continue
        if hook:
            say.append(f"container {name}: its preStop hook only slept, and waits for the drain instead")
        container["lifecycle"] = {
            **(container.get("lifecycle") or {}),
            "preStop": {"httpGet": {"path": WAIT_PATH, "port": admin_port}},
        }
