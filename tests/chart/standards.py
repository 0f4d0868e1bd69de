"""What every document is held to: Kubernetes' schemas, and the restricted Pod Security Standard."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.chart.rendering import Document

with warnings.catch_warnings():
    # It asks setuptools for its own version, in a way that Python has outgrown.
    warnings.simplefilter("ignore")
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed; make .venv/group-deploy"
    )

VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version().removeprefix("v"))

OTHERS = {
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    *(
        ("operator.victoriametrics.com/v1beta1", kind)
        for kind in ("VMPodScrape", "VMServiceScrape", "VMRule")
    ),
    *(
        ("monitoring.googleapis.com/v1", kind)
        for kind in ("ClusterPodMonitoring", "PodMonitoring", "ClusterRules")
    ),
    ("cert-manager.io/v1", "Issuer"),
    ("cert-manager.io/v1", "Certificate"),
}
"""Custom resources, of which the validator has no schema."""

SINCE = {
    ("admissionregistration.k8s.io/v1", f"{kind}{part}"): since
    for kind, since in (("MutatingAdmissionPolicy", (1, 36)), ("ValidatingAdmissionPolicy", (1, 30)))
    for part in ("", "Binding")
}


def assert_valid(documents: Iterable[Document]) -> None:
    """Fail on a document that a Kubernetes version of VERSIONS would not take, unknown fields included."""
    for document in documents:
        which = (document["apiVersion"], document["kind"])
        if which in OTHERS:
            continue
        for version in VERSIONS:
            if tuple(map(int, version.split(".")[:2])) < SINCE.get(which, (0, 0)):
                continue
            kubernetes_validate.validate(document, version, strict=True)


def breaches(spec: dict[str, Any], *, ours: str = "") -> list[str]:
    """Return what the restricted standard forbids in a pod spec; with `ours`, in that container alone.

    Kubernetes: Pod Security Standards, profile Restricted.
    """
    return [*_of_pod(spec)] * (not ours) + [
        f"{container['name']}: {breach}"
        for container in [*spec.get("initContainers", []), *spec["containers"]]
        if ours in ("", container["name"])
        for breach in _of_container(container, {} if ours else spec.get("securityContext", {}))
    ]


def _of_pod(spec: dict[str, Any]) -> Iterator[str]:
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(shared):
            yield shared
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"}
    for volume in spec.get("volumes", []):
        if kinds := set(volume) - {"name"} - allowed - {"projected", "secret"}:
            yield f"volume {volume['name']} is {kinds}"


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**pod, **own}
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if own.get("privileged"):
        yield "privileged"
    if "ALL" not in own.get("capabilities", {}).get("drop", []):
        yield "capabilities are not dropped"
    if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if both.get("runAsNonRoot") is not True:
        yield "may run as root"
    if both.get("runAsUser") == 0:
        yield "runs as root"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "no seccomp profile"
    hooks = container.get("lifecycle", {}).values()
    probes = [container.get(each, {}) for each in ("livenessProbe", "readinessProbe", "startupProbe")]
    if any(each.get("httpGet", {}).get("host") for each in [*hooks, *probes]):
        yield "a probe or hook names a host"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"
