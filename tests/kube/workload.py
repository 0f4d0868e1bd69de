"""A Deployment that drains well, with everything around it, for tests to break."""

from __future__ import annotations

from typing import Any

LABELS = {"app": "web"}


def spec() -> dict[str, Any]:
    """Return the PodSpec: a native sidecar beside an application, at Pod Security's restricted level."""
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_UID": "metadata.uid"}
    return {
        "terminationGracePeriodSeconds": 30,
        "serviceAccountName": "web",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [
            {
                "name": "drainproxy",
                "restartPolicy": "Always",
                "ports": [{"name": "http", "containerPort": 28080}],
                "env": [
                    {"name": f"DRAINPROXY_{name}", "valueFrom": {"fieldRef": {"fieldPath": path}}}
                    for name, path in fields.items()
                ],
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "readinessProbe": {
                    "httpGet": {"path": "/readyz", "port": 29900},
                    "periodSeconds": 5,
                    "failureThreshold": 2,
                },
                "lifecycle": {"preStop": {"exec": {"command": ["drainproxy", "drain", "--prestop"]}}},
            }
        ],
        "containers": [
            {
                "name": "app",
                "ports": [{"name": "web", "containerPort": 8080}],
                "lifecycle": {"preStop": {"httpGet": {"path": "/drain/wait", "port": 29900}}},
            }
        ],
    }


def deployment() -> dict[str, Any]:
    """Return the Deployment."""
    return {
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": spec()},
        },
    }


def service(target: int | str = "http", **more: Any) -> dict[str, Any]:
    """Return a Service that selects the pods."""
    port = {"name": "web", "port": 80, "targetPort": target, **more.pop("port", {})}
    return {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": LABELS, "ports": [port], **more},
    }


def autoscaler(kind: str = "Resource", name: str = "web") -> dict[str, Any]:
    """Return an autoscaler on CPU utilization."""
    metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    key = "resource" if kind == "Resource" else "containerResource"
    return {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": name},
            "metrics": [{"type": kind, key: metric}],
        },
    }


def policy(*ports: Any, direction: str = "ingress", selector: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a NetworkPolicy that opens these ports; none of them means every port."""
    rule = {"ports": [port if isinstance(port, dict) else {"port": port} for port in ports]} if ports else {}
    return {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": selector or {}, "policyTypes": [direction.capitalize()], direction: [rule]},
    }
