"""Shapes of pods that people run, with the label and nothing else: what is captured, through which door.

Written here after the kinds of workloads that public charts and examples have; none is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.injector.pods import ISTIO, LINKERD, SIDECAR, hook, pod

if TYPE_CHECKING:
    from tests.injector.pods import Pod

UNNAMED = "port {} has no name that could move to the sidecar: name it"
LOW = "port {} needs root: set the pod's sysctl net.ipv4.ip_unprivileged_port_start to 0"
NOTHING = "no container port says that it speaks HTTP (there are: {}): name it http, or set"
TLS = "port {} speaks TLS, which is not terminated here"
DOORS = ("name", "env", "address", "redirect")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One pod. `ports` are those that are captured, as `NAME NUMBER`; none where nothing says HTTP."""

    id: str
    pod: Pod
    ports: tuple[str, ...] = ()
    without: str = "name"
    """The door of `auto` where redirect is not allowed; empty where there is none."""
    allowed: str = ""
    """The door where it is; the same if nothing is said."""
    refused: str = ""
    """How the reason begins where nothing is captured, whatever is allowed."""
    partly: bool = False
    """Without redirect only some of the ports are captured."""
    doors: dict[str, str] = field(default_factory=dict)
    """How the reason begins for a door that was asked for; one that is not here can be had."""
    services: tuple[dict[str, Any], ...] = ()

    @property
    def http(self) -> bool:
        """Whether a port of it speaks HTTP in clear text."""
        return not self.refused


def box(name: str, *ports: Any, **more: Any) -> Pod:
    """Return a container: a port is 8080, "http 8080", or as a pod spec has it."""
    return {"name": name, "image": f"example/{name}:1", "ports": [_entry(each) for each in ports], **more}


def _entry(port: Any) -> Pod:
    if isinstance(port, int):
        return {"containerPort": port}
    if isinstance(port, str):
        name, number = port.split()
        return {"name": name, "containerPort": int(number)}
    return port


def asks(port: int | str, path: str = "/healthz", **more: Any) -> Pod:
    """Return a container's readiness probe over HTTP."""
    return {"readinessProbe": {"httpGet": {"path": path, "port": port, **more}}}


def grpc(port: int) -> Pod:
    """Return probes by gRPC."""
    return {"readinessProbe": {"grpc": {"port": port}}, "livenessProbe": {"grpc": {"port": port}}}


def connects(port: int | str) -> Pod:
    """Return a container's readiness probe by a connect."""
    return {"readinessProbe": {"tcpSocket": {"port": port}}}


def service(port: Any, **more: Any) -> dict[str, Any]:
    """Return the spec of a Service that leads to a port."""
    return {"ports": [{"port": 80, "targetPort": port, **more}]}


def named(id_: str, made: Pod, *ports: str, **more: Any) -> Shape:
    """A shape whose ports have names: every door is open."""
    return Shape(id=id_, pod=made, ports=ports, **more)


def bare(id_: str, made: Pod, number: int, **more: Any) -> Shape:
    """A shape with one port without a name: no name could move."""
    doors = {"name": UNNAMED.format(number)}
    if number < 1024:
        doors |= dict.fromkeys(("env", "address"), LOW.format(number))
    return Shape(id=id_, pod=made, ports=(f" {number}",), without="", allowed="redirect", doors=doors, **more)


def silent(id_: str, made: Pod, reason: str, **more: Any) -> Shape:
    """A shape of which nothing says HTTP: no door, whoever asks."""
    return Shape(id=id_, pod=made, without="", refused=reason, doors=dict.fromkeys(DOORS, reason), **more)


def low(number: int) -> dict[str, str]:
    """The doors at which the sidecar would listen on the application's own number, below 1024."""
    return dict.fromkeys(("env", "address"), LOW.format(number))


FRONT = [
    named("web application", pod(box("web", "http 8080", **asks("http"))), "http 8080"),
    named("no probe at all", pod(box("web", "http 3000")), "http 3000"),
    named("its port is called web", pod(box("web", "web 5000")), "web 5000"),
    named("its port is called api", pod(box("api", "api 8000", **connects("api"))), "api 8000"),
    named("its port is called http-web", pod(box("site", "http-web 8081")), "http-web 8081"),
    named("h2c by its name", pod(box("edge", "h2c 8080")), "h2c 8080"),
    named("port 80 by a name", pod(box("nginx", "http 80")), "http 80", doors=low(80)),
    named(
        "port 80, and the sysctl",
        pod(
            box("nginx", "http 80"),
            securityContext={"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
        ),
        "http 80",
    ),
    named(
        "clear text beside TLS",
        pod(box("proxy", "http 80", "https 443", **asks("http"))),
        "http 80",
        doors=low(80),
    ),
    named(
        "an ingress controller",
        pod(box("controller", "http 8080", "https 8443", "webhook 9443", **asks(10254))),
        "http 8080",
    ),
    named(
        "another one",
        pod(box("router", "web 8000", "websecure 8443", "metrics 9100", **connects("web"))),
        "web 8000",
    ),
    bare("nginx without a name, probed", pod(box("nginx", 80, **asks(80, "/"))), 80),
    bare("one unnamed port, probed", pod(box("shop", 8080, **asks(8080, "/_healthz"))), 8080),
    bare(
        "one unnamed port, started by a probe",
        pod(box("slow", 8080, startupProbe={"httpGet": {"port": 8080}})),
        8080,
    ),
    bare(
        "one unnamed port, kept alive by a probe",
        pod(box("old", 9080, livenessProbe={"httpGet": {"port": 9080}})),
        9080,
    ),
    bare(
        "one unnamed port, warmed by a hook",
        pod(box("warm", 8080, lifecycle={"postStart": {"httpGet": {"path": "/warm", "port": 8080}}})),
        8080,
    ),
    bare(
        "a Service's name says http", pod(box("details", 9080)), 9080, services=(service(9080, name="http"),)
    ),
    bare(
        "a Service's appProtocol says so",
        pod(box("orders", 8079)),
        8079,
        services=(service(8079, appProtocol="kubernetes.io/h2c"),),
    ),
    Shape(
        id="a Service that leads to the number",
        pod=pod(box("web", "http 8080")),
        ports=("http 8080",),
        allowed="redirect",
        services=(service(8080, name="http"),),
    ),
    named(
        "a Service that leads to the name",
        pod(box("web", "http 8080")),
        "http 8080",
        services=(service("http"),),
    ),
    named(
        "a name that says nothing, and a Service that does",
        pod(box("ui", "main 8501")),
        "main 8501",
        services=(service("main", appProtocol="http"),),
    ),
]
"""What callers of the cluster ask."""

CALLS = [
    bare("gRPC without a name, probed", pod(box("cart", 7070, **grpc(7070))), 7070),
    bare("gRPC of a language with slow starts", pod(box("ads", 9555, **grpc(9555))), 9555),
    named("gRPC by its name", pod(box("users", "grpc 50051", **grpc(50051))), "grpc 50051"),
    named("gRPC-web", pod(box("gate", "grpc-web 9000")), "grpc-web 9000"),
    named("both", pod(box("both", "http 8080", "grpc 9090")), "http 8080", "grpc 9090"),
    named("a gateway", pod(box("gateway", "http 8080", "http-admin 8001")), "http 8080", "http-admin 8001"),
    silent("gRPC over TLS", pod(box("vault", "grpc-tls 8443")), TLS.format("grpc-tls")),
]

METRICS = [
    named("metrics by a name of their own", pod(box("app", "http 8080", "metrics 9090")), "http 8080"),
    named(
        "metrics that a probe asks",
        pod(box("app", "http 8080", "metrics 9090", **asks("metrics"))),
        "http 8080",
        "metrics 9090",
    ),
    named("metrics over HTTP", pod(box("operator", "http-metrics 9402")), "http-metrics 9402"),
    Shape(
        id="a management port without a name",
        pod=pod(box("spring", "http 8080", 8081, **asks(8081, "/actuator/health"))),
        ports=("http 8080", " 8081"),
        partly=True,
        allowed="redirect",
        doors={"name": UNNAMED.format(8081)},
    ),
    named("a probe of a port that nobody declares", pod(box("app", "http 8080", **asks(9000))), "http 8080"),
    named("a server of time series", pod(box("series", "web 9090", **asks("web", "/-/ready"))), "web 9090"),
    named(
        "logs",
        pod(box("logs", "http-metrics 3100", "grpc 9095", "memberlist 7946")),
        "http-metrics 3100",
        "grpc 9095",
    ),
    named("dashboards", pod(box("boards", "boards 3000", "gossip 9094", **asks(3000))), "boards 3000"),
    named(
        "a server of continuous delivery",
        pod(box("server", "server 8080", "metrics 8083", **asks(8080))),
        "server 8080",
    ),
]
"""What is watched."""

STORES = [
    silent(
        "a database", pod(box("db", "postgresql 5432", **connects(5432))), NOTHING.format("postgresql 5432")
    ),
    silent("a database without a name", pod(box("db", 3306)), NOTHING.format("3306")),
    silent("a database that is called web", pod(box("db", "web 5432")), NOTHING.format("web 5432")),
    silent("a cache", pod(box("cache", "redis 6379")), NOTHING.format("redis 6379")),
    silent("a queue", pod(box("queue", "amqp 5672", "epmd 4369")), NOTHING.format("amqp 5672, epmd 4369")),
    named("a queue with its pages", pod(box("queue", "amqp 5672", "http-stats 15672")), "http-stats 15672"),
    silent(
        "a log of events",
        pod(box("log", "client 9092", "peer 9093")),
        NOTHING.format("client 9092, peer 9093"),
    ),
    named("a search engine", pod(box("search", "http 9200", "transport 9300")), "http 9200"),
    named("an object store", pod(box("store", "api 9000", "console 9001", **asks("api"))), "api 9000"),
    bare("an object store without names", pod(box("store", 9000, **asks(9000))), 9000),
    silent("a store of documents", pod(box("documents", 27017)), NOTHING.format("27017")),
    silent("mail", pod(box("mail", "smtp 25")), NOTHING.format("smtp 25")),
]
"""What keeps things."""

SILENT = [
    silent("a worker", pod(box("worker")), NOTHING.format("none")),
    silent("one unnamed port, and nothing more", pod(box("app", 8080)), NOTHING.format("8080")),
    silent(
        "one unnamed port, probed by a connect",
        pod(box("app", 8080, **connects(8080))),
        NOTHING.format("8080"),
    ),
    silent("TLS alone", pod(box("app", "https 8443")), TLS.format("https")),
    silent("TLS by its probe", pod(box("app", 8443, **asks(8443, scheme="HTTPS"))), TLS.format("8443")),
    silent("an admission webhook", pod(box("hook", "webhook 9443")), TLS.format("webhook")),
    silent(
        "UDP", pod(box("dns", {"name": "http", "containerPort": 8080, "protocol": "UDP"})), "port http is UDP"
    ),
]
"""Of which nothing says that it speaks HTTP in clear text."""

COMPANY = [
    named("beside a logger", pod(box("web", "http 8080"), box("logger")), "http 8080"),
    named("the second container", pod(box("php", 9000), box("nginx", "http 8080")), "http 8080"),
    named(
        "ports of two containers",
        pod(box("web", "http 8080"), box("api", "api 8081")),
        "http 8080",
        "api 8081",
    ),
    Shape(
        id="two containers with one name",
        pod=pod(box("one", "http 8080"), box("two", "http 8081")),
        ports=("http 8080", "http 8081"),
        without="",
        allowed="redirect",
        doors=dict.fromkeys(("name", "env"), "port http is named by several containers: one, two"),
    ),
    named(
        "an init container",
        pod(box("web", "http 8080"), initContainers=[{"name": "wait", "image": "x"}]),
        "http 8080",
    ),
    named(
        "a native sidecar",
        pod(box("web", "http 8080"), initContainers=[{**SIDECAR, "ports": [{"containerPort": 15000}]}]),
        "http 8080",
    ),
    named("a hook that sleeps", pod(box("web", "http 8080", **hook(sleep={"seconds": 5}))), "http 8080"),
    named(
        "a port of the node",
        pod(box("web", {"name": "http", "containerPort": 8080, "hostPort": 8080})),
        "http 8080",
    ),
    named(
        "labels of its own user",
        pod(box("web", "http 8080"), securityContext={"runAsUser": 1000}),
        "http 8080",
    ),
    named("an empty list of volumes", pod(box("web", "http 8080"), volumes=[]), "http 8080"),
    named(
        "a long grace period", pod(box("web", "http 8080"), terminationGracePeriodSeconds=600), "http 8080"
    ),
    Shape(
        id="a Job with a page", pod=pod(box("job", "http 8080"), restartPolicy="Never"), ports=("http 8080",)
    ),
    Shape(
        id="two names of one port",
        pod=pod(box("web", "http 8080", "web 8080")),
        ports=("http 8080", "web 8080"),
    ),
    named(
        "Istio as a native sidecar",
        pod(box("web", "http 8080"), initContainers=[{**ISTIO, "restartPolicy": "Always"}]),
        "http 8080",
        doors={"redirect": "the istio proxy leads packets itself"},
    ),
    named(
        "Linkerd as a native sidecar",
        pod(box("web", "http 8080"), initContainers=[{**LINKERD, "restartPolicy": "Always"}]),
        "http 8080",
        doors={"redirect": "the linkerd proxy leads packets itself"},
    ),
]
"""Who else is in the pod, and what else it has."""

SHAPES = [*FRONT, *CALLS, *METRICS, *STORES, *SILENT, *COMPANY]
