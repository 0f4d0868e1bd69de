"""Pods that ask for the sidecar with annotations, and what becomes of each."""

from __future__ import annotations

from tests.injector.pods import ISTIO, LINKERD, PLAIN_TABLE, READY, app, hook, injected, pod, refused, wished

WISHES = [
    injected(
        "a preset raises the grace period",
        wished(propagation="alb"),
        grace=105,
        env={"DRAINPROXY_PROPAGATION": "alb"},
        said=("terminationGracePeriodSeconds is raised from 30 to 105",),
    ),
    injected(
        "a preset that may not",
        wished(propagation="alb", grace="keep"),
        said=(
            (
                "a grace period of 30s shortens the drain: set terminationGracePeriodSeconds to 105, or"
                " drainproxy.io/grace: raise"
            ),
        ),
    ),
    injected(
        "a longer stop",
        wished(app_stop="20s"),
        grace=45,
        env={"DRAINPROXY_APP_STOP": "20s"},
        said=("terminationGracePeriodSeconds is raised from 30 to 45",),
    ),
    injected(
        "raised without a preset",
        wished(grace="raise", spec={"terminationGracePeriodSeconds": 10}),
        grace=30,
        said=("terminationGracePeriodSeconds is raised from 10 to 30",),
    ),
    injected(
        "a drain-timeout that the grace period does not hold",
        wished(drain_timeout="1m30s"),
        said=(
            (
                "drain_timeout 90 s is beyond the 22 s that grace period 30 s leaves for requests: its"
                " deadline ends them first; set terminationGracePeriodSeconds and grace_period to at least"
                " 98 s, or drain_timeout to at most 22 s"
            ),
        ),
        env={"DRAINPROXY_DRAIN_TIMEOUT": "1m30s"},
    ),
    injected(
        "several ports",
        wished(app("app", ("http", 8080), ("api", 8081)), ports="http,api"),
        ":28080,:28081",
        "http://127.0.0.1:8080,http://127.0.0.1:8081",
    ),
    injected(
        "ports of two containers",
        wished(app("one"), app("two", ("api", 9000)), ports="http, api"),
        ":28080,:28081",
        "http://127.0.0.1:8080,http://127.0.0.1:9000",
    ),
    injected(
        "gRPC",
        wished(app("app", ("grpc", 50051), readinessProbe={"grpc": {"port": 50051}}), ports="grpc"),
        upstream="http://127.0.0.1:50051",
    ),
    injected(
        "TLS passed on unread",
        wished(app("app", ("https", 8443)), ports="https", protocol="tcp"),
        upstream="tcp://127.0.0.1:8443",
    ),
    injected(
        "told by the environment",
        wished(app(env=[{"name": "PORT", "value": "8080"}]), app_port_env="PORT"),
        ":8080",
        "http://127.0.0.1:28080",
    ),
    injected(
        "told by a new variable",
        wished(app(livenessProbe=READY, readinessProbe={"tcpSocket": {"port": 8080}}), app_port_env="PORT"),
        ":8080",
        "http://127.0.0.1:28080",
    ),
    injected(
        "told, port 80",
        wished(
            app("app", ("http", 80)),
            app_port_env="PORT",
            spec={
                "securityContext": {
                    "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
                }
            },
        ),
        ":80",
        "http://127.0.0.1:28080",
    ),
    injected("explicit", wished(app(ports=[]), upstream_port="8080")),
    injected(
        "explicit, two",
        wished(app(ports=[]), upstream_port="8080,8081", port="20000"),
        ":20000,:20001",
        "http://127.0.0.1:8080,http://127.0.0.1:8081",
    ),
    injected(
        "other ports", wished(port="18080", admin_port="19900"), ":18080", env={"DRAINPROXY_ADMIN": ":19900"}
    ),
    injected(
        "a port of the node",
        wished(app(ports=[{"name": "http", "containerPort": 8080, "hostPort": 80}]), rbac="slices"),
    ),
    injected("on localhost", wished(upstream_host="localhost"), ":28080", "http://localhost:8080"),
    injected("on ::1", wished(upstream_host="::1"), ":28080", "http://[::1]:8080"),
    injected("on the pod's address", wished(upstream_host="pod"), ":28080", "http://[$(POD_IP)]:8080"),
    refused(
        "nowhere",
        wished(upstream_host="example.com"),
        'drainproxy.io/upstream-host: "example.com" is neither; write localhost, pod, or an IP address',
        result="invalid",
    ),
    injected("plain", wished(mode="plain")),
    injected("no API", wished(rbac="none"), env={"DRAINPROXY_RBAC": "none"}),
    injected(
        "routes",
        wished(routes_config_map="web-routes"),
        env={"DRAINPROXY_ROUTES": "/etc/drainproxy/routes.yaml"},
    ),
    injected("the platform chooses the user", wished(run_as_user="null")),
    injected("resources", wished(cpu_request="50m", memory_request="96Mi", memory_limit="256Mi")),
    injected("the sources", wished(pure="true"), env={"DRAINPROXY_PURE": "1"}),
    injected("what is compiled", wished(pure="false")),
    refused(
        "the sources, perhaps",
        wished(pure="perhaps"),
        'drainproxy.io/pure: "perhaps" is neither true nor false; write true or false',
        result="invalid",
    ),
    injected("told to scrapes", wished(scrape_annotations="true")),
    injected("not told to scrapes", wished(scrape_annotations="false")),
    injected(
        "told to scrapes of another port",
        wished(scrape_annotations="true", admin_port="19900"),
        env={"DRAINPROXY_ADMIN": ":19900"},
    ),
    injected(
        "scraped already",
        pod(annotations={"drainproxy.io/scrape-annotations": "true", "prometheus.io/port": "9090"}),
        said=(
            (
                "it keeps its own prometheus.io/ annotations: these do not lead a scrape to the sidecar's"
                " metrics at :29900/metrics"
            ),
        ),
    ),
    refused(
        "told to scrapes, perhaps",
        wished(scrape_annotations="perhaps"),
        'drainproxy.io/scrape-annotations: "perhaps" is neither true nor false; write true or false',
        result="invalid",
    ),
    injected(
        "a setting of the proxy",
        wished(max_in_flight="100", access_log="all"),
        env={"DRAINPROXY_MAX_IN_FLIGHT": "100", "DRAINPROXY_ACCESS_LOG": "all"},
    ),
    injected(
        "Istio, native",
        pod(annotations={}, initContainers=[{**ISTIO, "restartPolicy": "Always"}]),
        env={"DRAINPROXY_PROPAGATION": "mesh"},
        said=(
            (
                "the istio proxy is there already: in the template, set"
                " traffic.sidecar.istio.io/excludeInboundPorts to 29900"
            ),
            (
                "a grace period of 30s shortens the drain: set terminationGracePeriodSeconds to 40, or"
                " drainproxy.io/grace: raise"
            ),
        ),
    ),
    injected(
        "Istio to come",
        pod(
            labels={"sidecar.istio.io/inject": "true"},
            terminationGracePeriodSeconds=60,
            annotations={"traffic.sidecar.istio.io/excludeInboundPorts": "9999"},
        ),
        grace=60,
        env={"DRAINPROXY_PROPAGATION": "mesh"},
        said=(
            (
                "the istio proxy must outlast the drain: make it a native sidecar, or set"
                " terminationDrainDuration or EXIT_ON_ZERO_ACTIVE_CONNECTIONS in proxy.istio.io/config"
            ),
        ),
    ),
    injected(
        "Istio to come, of a revision",
        pod(
            labels={"istio.io/rev": "1-28"},
            terminationGracePeriodSeconds=60,
            annotations={"proxy.istio.io/config": "terminationDrainDuration: 60s"},
        ),
        grace=60,
        env={"DRAINPROXY_PROPAGATION": "mesh"},
    ),
    injected(
        "Istio, plain, that waits",
        pod(
            app(),
            ISTIO,
            terminationGracePeriodSeconds=60,
            annotations={"proxy.istio.io/config": "terminationDrainDuration: 60s"},
        ),
        grace=60,
        said=(
            (
                "the istio proxy is there already: in the template, set"
                " traffic.sidecar.istio.io/excludeInboundPorts to 29900"
            ),
        ),
    ),
    injected(
        "Linkerd to come, that waits",
        pod(
            terminationGracePeriodSeconds=60,
            annotations={
                "linkerd.io/inject": "enabled",
                "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "50",
            },
        ),
        grace=60,
        env={"DRAINPROXY_PROPAGATION": "mesh"},
    ),
    injected(
        "Linkerd, plain, with a hook",
        pod(
            app(),
            {**LINKERD, **hook(exec={"command": ["sleep", "40"]})},
            terminationGracePeriodSeconds=60,
            annotations={"config.linkerd.io/skip-inbound-ports": "29900"},
        ),
        grace=60,
    ),
    refused(
        "plain in a Job",
        wished(mode="plain", spec={"restartPolicy": "OnFailure"}),
        "a plain sidecar would keep",
    ),
    refused(
        "told, port 80, no sysctl",
        wished(app("app", ("http", 80)), app_port_env="PORT"),
        "port 80 needs root",
    ),
    refused(
        "told from elsewhere",
        wished(
            app(env=[{"name": "PORT", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
            app_port_env="PORT",
        ),
        "container app: PORT comes from elsewhere",
    ),
    refused("TLS by its name", wished(app("app", ("https", 8443)), ports="https"), "port https speaks TLS"),
    refused("a mirror pod", pod(annotations={"kubernetes.io/config.mirror": "x"}), "pods of shop belong"),
    refused(
        "a typo",
        wished(propogation="alb"),
        "drainproxy.io/propogation is no option; did you mean propagation?",
        result="invalid",
    ),
    refused(
        "a value that is none",
        wished(propagation="elb"),
        'propagation (drainproxy.io/propagation): "elb" is unknown; write one of none, cluster, mesh, alb,',
        result="invalid",
    ),
    refused(
        "several at once",
        wished(mode="naive", app_stop="5"),
        'drainproxy.io/mode: "naive" is unknown; write one of auto, native, plain',
        result="invalid",
    ),
    refused(
        "numbers that contradict one another",
        wished(propagation_min="20s", propagation_max="10s"),
        "propagation_min 20s (drainproxy.io/propagation-min) is above",
        result="invalid",
    ),
    refused(
        "too few variables",
        wished(app("app", ("http", 1), ("api", 2)), ports="http,api", app_port_env="PORT"),
        "drainproxy.io/app-port-env: write one variable for each",
        result="invalid",
    ),
    refused(
        "two ways at once",
        wished(app_port_env="PORT", upstream_port="8080"),
        "drainproxy.io/upstream-port and",
        result="invalid",
    ),
    refused(
        "ports that meet", wished(admin_port="28080"), "drainproxy.io/port, admin-port and", result="invalid"
    ),
    refused("wiring", wished(listen=":80"), "drainproxy.io/listen is no option", result="invalid"),
    refused(
        "no such revision",
        pod(labels={"drainproxy.io/rev": "canary"}),
        'label drainproxy.io/rev: "canary" is no revision; there are: none',
        result="invalid",
        policy="revision",
    ),
    refused(
        "a label that is neither",
        pod(labels={"drainproxy.io/inject": "yes"}),
        "label drainproxy.io/inject: write",
        result="invalid",
        policy="not selected",
    ),
]

TABLE = [*PLAIN_TABLE, *WISHES]
