"""The ways to wire a pod, as manifests: what docs/kubernetes.md shows, and what it is compared with."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]

TRAFFIC_PORT, ADMIN_PORT, APP_PORT = 28080, 29900, 8080
DRAIN_WAIT = {"httpGet": {"path": "/drain/wait", "port": ADMIN_PORT}}
READY_PROBE = {
    "httpGet": {"path": "/readyz", "port": ADMIN_PORT},
    "periodSeconds": 5,
    "failureThreshold": 2,
    "timeoutSeconds": 2,
}
PRE_STOP = {"exec": {"command": ["drainproxy", "drain", "--prestop"]}}


def bare(*, sleep_s: int = 0, app: str = "application") -> Manifest:
    """Return an application alone; `sleep_s`: with a preStop hook that only sleeps."""
    container: Manifest = {
        "name": "app",
        "image": app,
        "readinessProbe": {"tcpSocket": {"port": APP_PORT}, "periodSeconds": 5},
    }
    if sleep_s:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": sleep_s}}}
    return _pod({"containers": [container]})


def native(*, app: str = "application", before: tuple[Manifest, ...] = (), **settings: str) -> Manifest:
    """Return a native sidecar beside an application; `before`: native sidecars that start earlier."""
    sidecar = {**_sidecar(settings), "restartPolicy": "Always", "lifecycle": {"preStop": PRE_STOP}}
    return _pod({"initContainers": [*before, sidecar], "containers": [_app(app)]})


def plain(*, app: str = "application", **settings: str) -> Manifest:
    """Return drainproxy as a further container beside an application."""
    return _pod({"containers": [_app(app), _sidecar(settings)]})


def _app(image: str) -> Manifest:
    return {"name": "app", "image": image, "lifecycle": {"preStop": DRAIN_WAIT}}


def _sidecar(settings: dict[str, str]) -> Manifest:
    fields = {
        "DRAINPROXY_POD_NAME": "metadata.name",
        "DRAINPROXY_POD_NAMESPACE": "metadata.namespace",
        "DRAINPROXY_POD_UID": "metadata.uid",
        "DRAINPROXY_HOST_IPS": "status.hostIP",
        "DRAINPROXY_NODE_NAME": "spec.nodeName",
    }
    values = {"grace_period": "30s", "log_format": "json", **settings}
    return {
        "name": "drainproxy",
        "image": "drainproxy",
        "args": ["run"],
        "env": [
            *(
                {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
                for name, path in fields.items()
            ),
            *({"name": f"DRAINPROXY_{name.upper()}", "value": value} for name, value in values.items()),
        ],
        "readinessProbe": READY_PROBE,
        "startupProbe": {"tcpSocket": {"port": TRAFFIC_PORT}, "periodSeconds": 1},
    }


def _pod(spec: Manifest) -> Manifest:
    return {"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": spec}
