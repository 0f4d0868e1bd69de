"""A pod and its wishes become a pod with the sidecar, or a refusal with the reason.

Pure. `drainproxy inject`, the webhook and their tests call it; the chart's MutatingAdmissionPolicy does the
same in CEL, as far as CEL goes. A pod that has the sidecar stays as it is.
"""

import copy
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from drainproxy import __version__, config, flavour
from drainproxy.errors import ConfigError, InjectionRefused
from drainproxy.injector import pod_checks, redirection
from drainproxy.injector.annotations import (
    INJECTED_LABEL,
    LABEL,
    PREFIX,
    REVISION_LABEL,
    SUM,
    Options,
    Wish,
    read,
)
from drainproxy.injector.capture import Capture, Ground, decide
from drainproxy.injector.pod_checks import NAME, ROUTES_VOLUME, TOKEN_VOLUME, Around
from drainproxy.injector.refusal import refuse
from drainproxy.injector.takeover import Taken, take_over, unproxied
from drainproxy.podspec import DEFAULT_GRACE_S, sidecar

_ENV = re.compile(r"env DRAINPROXY_(\w+)")
"""How a problem names the source of a setting."""
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a directory
ROUTES_PATH = "/etc/drainproxy"
DOWNWARD = {
    "DRAINPROXY_HOST_IPS": "status.hostIP",
    "DRAINPROXY_NODE_NAME": "spec.nodeName",
    "DRAINPROXY_POD_NAME": "metadata.name",
    "DRAINPROXY_POD_NAMESPACE": "metadata.namespace",
    "DRAINPROXY_POD_UID": "metadata.uid",
}
POD_IPS = "DRAINPROXY_POD_IPS"

_POD_IP = "$(POD_IP)"

Pod = dict[str, Any]


@dataclass(frozen=True, slots=True)
class InjectorDefaults:
    """What whoever runs the injector has decided for every pod."""

    images: Mapping[str, str] = field(default_factory=lambda: {"": f"drainproxy:{__version__}"})
    """Revision (label drainproxy.io/rev) to image; "" is for pods without one."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Below every pod's annotations, by their names without the prefix."""
    kubernetes: tuple[int, int] | None = None
    """The cluster's version, where it is known."""
    redirect_image: str = ""
    """Image of the init container that leads packets to the sidecar; empty: no capture by redirect."""


NOWHERE = Around()


@dataclass(frozen=True, slots=True)
class Injected:
    """A pod with the sidecar."""

    pod: Pod
    capture: Capture
    taken: tuple[Taken, ...]
    config: config.Config
    """What the sidecar will run with."""
    said: tuple[str, ...]
    """What somebody should know: one sentence each."""


def inject(
    pod: Pod,
    defaults: InjectorDefaults,
    namespace: str = "",
    *,
    unasked: bool = False,
    around: Around = NOWHERE,
) -> Injected | str:
    """Return the pod with the sidecar, or why it stays as it is and should; never change what is given.

    `unasked`: a label on the pod is not needed. Raises InjectionRefused for what asks and cannot have it.
    """
    try:
        return _stays(pod, unasked=unasked) or _inject(copy.deepcopy(pod), defaults, namespace, around)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        # What a person has typed is looked at by no API server first.
        raise InjectionRefused("malformed", [f"it is not shaped as a pod ({error!r:.80})"]) from None


def _stays(pod: Pod, *, unasked: bool) -> str:
    word = ((pod.get("metadata") or {}).get("labels") or {}).get(LABEL)
    if word not in (None, "true", "false"):
        refuse(f'label {LABEL}: write "true" or "false", in quotes', result="invalid")
    if word == "false":
        return f"its label {LABEL} says false"
    if word is None and not unasked:
        return f'no label {LABEL}: "true" on its pods'
    return "" if sidecar(pod["spec"])[0] is None else "the sidecar is there"


def _inject(pod: Pod, defaults: InjectorDefaults, namespace: str, around: Around) -> Injected:
    metadata = pod["metadata"] = pod.get("metadata") or {}
    spec = pod["spec"]
    say: list[str] = []
    wish = read(metadata.get("annotations") or {}, {**defaults.annotations, **around.wishes()})
    options = pod_checks.fit_resources(pod, wish.options, say)
    mesh = pod_checks.mesh_of(pod, around, options.mesh)
    image = _image(metadata, defaults, around)
    pod_checks.check(pod, namespace)
    if mesh is not None:
        pod_checks.fit_mesh(pod, mesh, around, options.admin_port, say)
    ground = Ground(
        namespace_labels=around.namespace_labels,
        services=around.services,
        kubernetes=defaults.kubernetes,
        redirect=bool(defaults.redirect_image),
        mesh=mesh,
    )
    capture = decide(spec, options, ground)
    say += capture.said
    pod_checks.check_mode(spec, capture.mode)
    taken = take_over(spec, options, capture)
    pod_checks.wire_hooks(spec, options.admin_port, say)
    host = _host(options.upstream_host)
    environment = {
        "DRAINPROXY_LISTEN": ",".join(each.listen for each in taken),
        "DRAINPROXY_UPSTREAM": ",".join(f"{each.protocol}://{host}:{each.application}" for each in taken),
        "DRAINPROXY_ADMIN": f":{options.admin_port}",
        "DRAINPROXY_PROPAGATION": "cluster" if mesh is None else "mesh",
        "DRAINPROXY_GRACE_PERIOD": f"{spec.get('terminationGracePeriodSeconds', DEFAULT_GRACE_S)}s",
        "DRAINPROXY_RBAC": "slices",
        # A TCP probe of the application must not be answered before the application could.
        **({"DRAINPROXY_OPEN_WHEN": "application"} if capture.door in ("address", "redirect") else {}),
        **({flavour.PURE: "1"} if options.pure else {}),
        **wish.settings,
    }
    pod_checks.check_fit(spec, environment, options)
    loaded = _fit_grace(spec, environment, wish, say)
    if others := unproxied(spec, taken):
        say.append(f"callers reach {', '.join(others)} around the sidecar, where nothing drains")
    if capture.door == "redirect":
        writer = redirection.container(taken, defaults.redirect_image, options)
        spec["initContainers"] = [*(spec.get("initContainers") or ()), writer]
    key = "containers" if capture.mode == "plain" else "initContainers"
    spec[key] = [*(spec.get(key) or ()), _container(image, environment, taken, options, capture)]
    if volumes := list(_volumes(environment, options)):
        spec["volumes"] = [*(spec.get("volumes") or ()), *volumes]
    if options.scrape_annotations:
        pod_checks.announce_metrics(pod, options.admin_port, say)
    metadata["labels"] = {**(metadata.get("labels") or {}), INJECTED_LABEL: "true"}
    return Injected(pod, capture, tuple(taken), loaded, tuple(say))


def _host(chosen: str) -> str:
    """Return the host as it stands in a URL; the pod's address may be of either family."""
    if chosen == "pod":
        return f"[{_POD_IP}]"
    return f"[{chosen}]" if ":" in chosen else chosen


def _image(metadata: dict[str, Any], defaults: InjectorDefaults, around: Around) -> str:
    usual = (around.namespace_labels or {}).get(REVISION_LABEL, "")
    revision = (metadata.get("labels") or {}).get(REVISION_LABEL, usual)
    if revision not in defaults.images:
        known = ", ".join(sorted(filter(None, defaults.images))) or "none"
        said = config.quote(str(revision))
        refuse(f"label {REVISION_LABEL}: {said} is no revision; there are: {known}", result="invalid")
    return defaults.images[revision]


def _fit_grace(
    spec: dict[str, Any], environment: dict[str, str], wish: Wish, say: list[str]
) -> config.Config:
    """Load what the sidecar will load, and raise the pod's grace period where that is allowed."""
    loaded = _load(environment)
    budget = loaded.budget()
    if budget.problems:
        needed = math.ceil(budget.needed_s)
        chosen = not SUM.isdisjoint(wish.chosen)
        if wish.options.grace == "raise" or (wish.options.grace is None and chosen):
            say.append(f"terminationGracePeriodSeconds is raised from {budget.grace_s:g} to {needed}")
            spec["terminationGracePeriodSeconds"] = needed
            environment["DRAINPROXY_GRACE_PERIOD"] = f"{needed}s"
            loaded = _load(environment)
        else:
            say.append(
                f"a grace period of {budget.grace_s:g}s shortens the drain: set terminationGracePeriodSeconds"
                f" to {needed}, or {PREFIX}grace: raise"
            )
    # Beside a sum that does not fit, what makes no sense together.
    say += [each for each in loaded.warnings if each not in loaded.budget().problems]
    return loaded


def _load(environment: Mapping[str, str]) -> config.Config:
    # The kubelet fills in the pod's addresses, which nobody knows yet.
    known = {name: value.replace(_POD_IP, "192.0.2.1") for name, value in environment.items()}
    known[POD_IPS] = "192.0.2.1"
    try:
        return config.load(known)
    except ConfigError as error:
        raise InjectionRefused("invalid", [_ENV.sub(_annotation, each) for each in error.problems]) from None


def _annotation(match: re.Match[str]) -> str:
    return PREFIX + match[1].lower().replace("_", "-")


def _container(
    image: str, environment: Mapping[str, str], taken: list[Taken], options: Options, capture: Capture
) -> dict[str, Any]:
    native = capture.mode == "native"
    admin = {"name": "drain-admin", "containerPort": options.admin_port, "protocol": "TCP"}
    user = None if options.run_as_user == "null" else int(options.run_as_user)
    return {
        "name": NAME,
        "image": image,
        "imagePullPolicy": options.image_pull_policy,
        "args": ["run"],
        **({"restartPolicy": "Always"} if native else {}),
        "ports": [*(each.entry for each in taken), admin],
        "env": list(_env(environment, options, capture)),
        # SIGTERM comes to a native sidecar only after every application container has ended.
        **({"lifecycle": {"preStop": {"exec": {"command": [NAME, "drain", "--prestop"]}}}} if native else {}),
        # On the listeners only: it holds back the application's containers.
        "startupProbe": _probe("/startupz", options, periodSeconds=1, failureThreshold=60),
        "readinessProbe": _probe("/readyz", options, periodSeconds=5, failureThreshold=2, timeoutSeconds=2),
        "resources": pod_checks.resources(options),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            **({"runAsUser": user, "runAsGroup": user} if user else {}),
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"volumeMounts": mounts} if (mounts := list(_mounts(environment, options))) else {}),
    }


def _env(environment: Mapping[str, str], options: Options, capture: Capture) -> Iterator[dict[str, Any]]:
    paths = {**DOWNWARD, **({POD_IPS: "status.podIPs"} if capture.door == "address" else {})}
    if options.upstream_host == "pod":
        # Before what refers to it.
        yield {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}
    for name, value in environment.items():
        yield {"name": name, "value": value}
    if options.routes_config_map:
        yield {"name": "DRAINPROXY_ROUTES", "value": f"{ROUTES_PATH}/routes.yaml"}
    for name, path in paths.items():
        yield {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _probe(path: str, options: Options, **numbers: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": options.admin_port}, **numbers}


def _mounts(environment: Mapping[str, str], options: Options) -> Iterator[dict[str, Any]]:
    if environment["DRAINPROXY_RBAC"] != "none":
        yield {"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True}
    if options.routes_config_map:
        yield {"name": ROUTES_VOLUME, "mountPath": ROUTES_PATH, "readOnly": True}


def _volumes(environment: Mapping[str, str], options: Options) -> Iterator[dict[str, Any]]:
    """Yield what only the sidecar mounts. No emptyDir: `kubectl drain` and the cluster autoscaler leave pods
    with local storage alone unless they are told otherwise (Kubernetes: Safely Drain a Node)."""
    if environment["DRAINPROXY_RBAC"] != "none":
        authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
        token = {"path": "token", "expirationSeconds": 3607}
        yield {
            "name": TOKEN_VOLUME,
            "projected": {"sources": [{"serviceAccountToken": token}, {"configMap": authority}]},
        }
    if options.routes_config_map:
        yield {"name": ROUTES_VOLUME, "configMap": {"name": options.routes_config_map}}


def json_patch(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Yield the operations (RFC 6902) that make `after` of `before`; lists only grow at their end."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*after, *(key for key in before if key not in after)]:
            at = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                yield {"op": "remove", "path": at}
            elif key not in before:
                yield {"op": "add", "path": at, "value": after[key]}
            else:
                yield from json_patch(before[key], after[key], at)
    elif isinstance(before, list) and isinstance(after, list) and len(before) <= len(after):
        for i, each in enumerate(after):
            if i < len(before):
                yield from json_patch(before[i], each, f"{path}/{i}")
            else:
                yield {"op": "add", "path": f"{path}/-", "value": each}
    elif before != after:
        yield {"op": "replace", "path": path, "value": after}
