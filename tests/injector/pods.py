"""Pods that ask for the sidecar by a label alone, and what becomes of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Pod = dict[str, Any]
PREFIX = "drainproxy.io/"
LABEL = {"drainproxy.io/inject": "true"}
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
SLEPT = "container app: its preStop hook only slept, and waits for the drain instead"
KEPT = "container app keeps its preStop hook: it ends in mid drain if that is over first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One pod. `listen` and `upstream` are what the sidecar gets; without them the pod stays as it is."""

    id: str
    pod: Pod
    listen: str = ""
    upstream: str = ""
    said: tuple[str, ...] = ()
    """Exactly what is said of an injected pod; of another, how each problem begins."""
    result: str = "injected"
    policy: str = ""
    """What the policy does with a pod that has no annotations: `same`, or why it leaves it alone.

    `http only`: it knows no port by another name, and leaves alone what the webhook takes over."""
    env: dict[str, str] = field(default_factory=dict)
    """More of the sidecar's environment."""
    grace: int | None = None
    namespace: str = "shop"


def app(name: str = "app", *ports: tuple[str, int], **more: Any) -> Pod:
    """Return a container; without ports it has http on 8080."""
    entries = [{"name": port, "containerPort": number} for port, number in ports or (("http", 8080),)]
    return {"name": name, "image": "example/app:1", "securityContext": RESTRICTED, "ports": entries, **more}


def pod(*containers: Pod, labels: Pod | None = None, annotations: Pod | None = None, **spec):
    """Return a pod that asks for the sidecar."""
    metadata: Pod = {"name": "web", "labels": {"app": "web", **LABEL, **(labels or {})}}
    if annotations is not None:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": list(containers or (app(),)), **spec},
    }


def wished(*containers: Pod, **options: str) -> Pod:
    """Return a pod with annotations of ours: app_stop="5s" is drainproxy.io/app-stop."""
    spec = options.pop("spec", {})
    named = {f"{PREFIX}{name.replace('_', '-')}": text for name, text in options.items()}
    return pod(*containers, annotations=named, **spec)


def hook(**handler: Any) -> Pod:
    """Return a container's lifecycle with a preStop hook."""
    return {"lifecycle": {"preStop": handler}}


def injected(
    name: str, made: Pod, listen: str = ":28080", upstream: str = "http://127.0.0.1:8080", **more
) -> Row:
    return Row(id=name, pod=made, listen=listen, upstream=upstream, **more)


def refused(name: str, made: Pod, *said: str, result: str = "refused", **more) -> Row:
    return Row(id=name, pod=made, said=said, result=result, **more)


def unchanged(name: str, made: Pod, **more) -> Row:
    return Row(id=name, pod=made, result="unchanged", **more)


SIDECAR = {"name": "proxy", "image": "example/proxy:1", "restartPolicy": "Always"}
ISTIO = {"name": "istio-proxy", "image": "example/istio:1"}
LINKERD = {"name": "linkerd-proxy", "image": "example/linkerd:1"}
PRESTOP = hook(exec={"command": ["drainproxy", "drain", "--prestop"]})
READY = {"httpGet": {"path": "/ready", "port": "http"}}

PLAIN_TABLE = [
    injected("one port", pod(), policy="same"),
    injected("no name yet", {**pod(), "metadata": {"generateName": "web-", "labels": LABEL}}, policy="same"),
    injected("no protocol, other name of the container", pod(app("server")), policy="same"),
    injected(
        "two containers",
        pod(app(), {"name": "helper", "image": "example/helper:1", "securityContext": RESTRICTED}),
        policy="same",
    ),
    injected(
        "the second container has the port",
        pod({"name": "logs", "image": "example/logs:1"}, app()),
        policy="same",
    ),
    injected(
        "the port is not the first",
        pod(app("app", ("metrics", 9090), ("http", 8000))),
        upstream="http://127.0.0.1:8000",
        said=("callers reach metrics 9090 around the sidecar, where nothing drains",),
        policy="same",
    ),
    injected(
        "a port without a name",
        pod(app(ports=[{"containerPort": 7000}, {"name": "http", "containerPort": 8080, "protocol": "TCP"}])),
        said=("callers reach port 7000 around the sidecar, where nothing drains",),
        policy="same",
    ),
    injected(
        "a UDP port beside it",
        pod(app(ports=[{"containerPort": 53, "protocol": "UDP"}, {"name": "http", "containerPort": 8080}])),
        policy="same",
    ),
    injected(
        "probes by name",
        pod(app(livenessProbe=READY, readinessProbe=READY, startupProbe={"tcpSocket": {"port": "http"}})),
        policy="same",
    ),
    injected(
        "probes by number",
        pod(app(livenessProbe={"httpGet": {"port": 8080}}, readinessProbe={"grpc": {"port": 8080}})),
        policy="same",
    ),
    injected(
        "a probe of another port",
        pod(app("app", ("http", 8080), ("admin", 9000), readinessProbe={"tcpSocket": {"port": "admin"}})),
        said=("callers reach admin 9000 around the sidecar, where nothing drains",),
        policy="same",
    ),
    injected(
        "a hook by name after the start",
        pod(app(lifecycle={"postStart": {"httpGet": {"path": "/warm", "port": "http"}}})),
        policy="same",
    ),
    injected(
        "an existing init container",
        pod(initContainers=[{"name": "migrate", "image": "example/migrate:1"}]),
        policy="same",
    ),
    injected(
        "an existing native sidecar",
        pod(initContainers=[{**SIDECAR, "ports": [{"containerPort": 15000}]}]),
        policy="same",
    ),
    injected("existing volumes", pod(volumes=[{"name": "data", "emptyDir": {}}]), policy="same"),
    injected("a sleep action", pod(app(**hook(sleep={"seconds": 15}))), said=(SLEPT,), policy="same"),
    injected("sleep", pod(app(**hook(exec={"command": ["sleep", "15"]}))), said=(SLEPT,), policy="same"),
    injected(
        "sleep in a shell",
        pod(app(**hook(exec={"command": ["/bin/sh", "-c", "sleep 15"]}))),
        said=(SLEPT,),
        policy="same",
    ),
    injected(
        "sleep after a start hook",
        pod(
            app(
                lifecycle={"postStart": {"exec": {"command": ["warm"]}}, "preStop": {"sleep": {"seconds": 1}}}
            )
        ),
        said=(SLEPT,),
        policy="same",
    ),
    injected(
        "a hook that does something",
        pod(app(**hook(exec={"command": ["/bin/sh", "-c", "nginx -s quit; sleep 15"]}))),
        said=(KEPT,),
        policy="same",
    ),
    injected(
        "a hook that waits for us",
        pod(app(**hook(httpGet={"path": "/drain/wait", "port": 29900}))),
        policy="same",
    ),
    injected("a long grace period", pod(terminationGracePeriodSeconds=120), grace=120, policy="same"),
    injected(
        "a short grace period",
        pod(terminationGracePeriodSeconds=20),
        grace=20,
        said=(
            (
                "a grace period of 20s shortens the drain: set terminationGracePeriodSeconds to 30, or"
                " drainproxy.io/grace: raise"
            ),
        ),
        policy="same",
    ),
    injected("no service account", pod(automountServiceAccountToken=False), policy="same"),
    injected("a service account", pod(serviceAccountName="web"), policy="same"),
    injected("a Job's pod", pod(restartPolicy="Never"), policy="same"),
    injected("a user of its own", pod(securityContext={"runAsUser": 1000, "fsGroup": 1000}), policy="same"),
    unchanged("already there", pod(initContainers=[{**SIDECAR, "name": "drainproxy"}]), policy="it is there"),
    unchanged("already there, plain", pod(app(), {"name": "drainproxy", "image": "x"}), policy="it is there"),
    unchanged(
        "wired by hand",
        pod(app(), {"name": "front", "image": "x", "command": ["/usr/bin/drainproxy"], "args": ["run"]}),
        policy="it is there",
    ),
    unchanged("opted out", pod(labels={"drainproxy.io/inject": "false"}), policy="not selected"),
    refused("host network", pod(hostNetwork=True), "hostNetwork", policy="hostNetwork"),
    refused("a system namespace", pod(), "pods of kube-system", namespace="kube-system", policy="namespace"),
    refused("Windows", pod(os={"name": "windows"}), "the sidecar runs on Linux", policy="Windows"),
    refused(
        "no port",
        pod({"name": "app", "image": "x"}),
        "no container port says that it speaks HTTP (there are: none)",
        policy="no port",
    ),
    injected(
        "another name", pod(app("app", ("web", 80))), upstream="http://127.0.0.1:80", policy="http only"
    ),
    injected(
        "gRPC alone, not asked for",
        pod(app("app", ("grpc", 50051))),
        upstream="http://127.0.0.1:50051",
        policy="http only",
    ),
    injected(
        "two that speak HTTP",
        pod(app("app", ("http", 8080), ("grpc", 50051))),
        ":28080,:28081",
        "http://127.0.0.1:8080,http://127.0.0.1:50051",
        policy="http only",
    ),
    injected(
        "a probe says that another one speaks HTTP",
        pod(app("app", ("http", 8080), ("admin", 9000), readinessProbe={"httpGet": {"port": "admin"}})),
        ":28080,:28081",
        "http://127.0.0.1:8080,http://127.0.0.1:9000",
        policy="http only",
    ),
    refused(
        "two of a name",
        pod(app("one"), app("two", ("http", 8081))),
        "port http is named by several",
        policy="ambiguous",
    ),
    refused(
        "UDP",
        pod(app(ports=[{"name": "http", "containerPort": 8080, "protocol": "UDP"}])),
        "port http is UDP",
        policy="no TCP",
    ),
    refused(
        "our port is taken",
        pod(app("app", ("http", 8080), ("api", 28080))),
        "port 28080 is container app's",
        policy="clash",
    ),
    refused(
        "our admin port is taken by a sidecar",
        pod(initContainers=[{**SIDECAR, "ports": [{"containerPort": 29900}]}]),
        "port 29900 is container proxy's",
        policy="clash",
    ),
    refused(
        "it speaks TLS",
        pod(app(readinessProbe={"httpGet": {"port": "http", "scheme": "HTTPS"}})),
        "port http speaks TLS",
        policy="TLS",
    ),
    refused("plain Istio", pod(app(), ISTIO), "the istio proxy would be gone in mid drain", policy="mesh"),
    refused(
        "plain Linkerd", pod(app(), LINKERD), "the linkerd proxy would be gone in mid drain", policy="mesh"
    ),
]
"""Pods without annotations of ours: what the policy sees, too."""
