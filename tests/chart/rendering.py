"""Helm 4 renders the chart, and what comes out becomes documents."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "drainproxy"
LIBRARY = CHART / "charts" / "drainproxy-library"

MISSING = "not installed; make .venv/group-deploy"
helm = pytest.importorskip("helm_python", reason=f"helm-python-sdk is {MISSING}")

Document = dict[str, Any]


@cache
def chart() -> Any:
    """The chart, loaded once a process."""
    return helm.Chart.load(CHART)


def files(values: Document | None = None, *, name: str = "drainproxy") -> dict[str, str]:
    """Render with values; return the text of each template."""
    return chart().render(values or {}, name=name, namespace="drainproxy-system")


def documents(values: Document | None = None, **how: Any) -> list[Document]:
    """Render with values; return every document."""
    rendered = files(values, **how)
    return [each for path, text in rendered.items() if path.endswith(".yaml") for each in parse(text)]


def parse(text: str) -> list[Document]:
    """Return the documents of a YAML text, empty ones left out."""
    return [each for each in yaml.safe_load_all(text) if each]


def one(found: list[Document], kind: str, name: str = "") -> Document:
    """Return the only document of a kind, and of a name where one is given."""
    fits = [each for each in found if each["kind"] == kind and name in ("", each["metadata"]["name"])]
    assert len(fits) == 1, f"{len(fits)} documents {kind} {name}"
    return fits[0]


def pod_specs(found: list[Document]) -> Iterator[tuple[str, Document]]:
    """Yield each pod spec, with what it belongs to."""
    for each in found:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] == "Pod":
            yield name, each["spec"]
        elif "template" in each.get("spec", {}):
            yield name, each["spec"]["template"]["spec"]


APPLICATION = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, labels: {app: shop}}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata:
      labels:
        app: shop
        {{- include "drainproxy.podLabels" . | nindent 8 }}
      {{- $annotations := dict "options" .Values.drainproxy "own" .Values.own }}
      annotations: {{- include "drainproxy.podAnnotations" $annotations | nindent 8 }}
    spec:
      terminationGracePeriodSeconds: {{ include "drainproxy.gracePeriod" .Values.drainproxy }}
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      volumes:
        - name: own
          configMap: {name: shop}
        {{- include "drainproxy.volumes" .Values.drainproxy | nindent 8 }}
      {{- if ne .Values.drainproxy.mode "plain" }}
      initContainers: {{- include "drainproxy.sidecar" .Values.drainproxy | nindent 8 }}
      {{- end }}
      containers:
        - name: shop
          image: example/shop:1
          ports: [{containerPort: 8080}]
          lifecycle: {{- include "drainproxy.lifecycle" .Values.drainproxy | nindent 12 }}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        {{- if eq .Values.drainproxy.mode "plain" }}
        {{- include "drainproxy.sidecar" .Values.drainproxy | nindent 8 }}
        {{- end }}
"""


def application(directory: Path, options: Document, own: Document | None = None) -> Document:
    """Render a chart of somebody's own that uses the library; return its Deployment.

    `own`: annotations that its pods have.
    """
    (directory / "templates").mkdir(parents=True, exist_ok=True)
    shutil.copytree(LIBRARY, directory / "charts" / "drainproxy-library", dirs_exist_ok=True)
    dependency = {"name": "drainproxy-library", "version": "0.1.0"}
    about = {"apiVersion": "v2", "name": "shop", "version": "1.0.0", "dependencies": [dependency]}
    (directory / "Chart.yaml").write_text(yaml.safe_dump(about))
    (directory / "templates" / "deployment.yaml").write_text(APPLICATION)
    with helm.Chart.load(directory) as theirs:
        values = {"drainproxy": {"mode": "native", **options}, "own": own}
        return parse(theirs.render(values, name="shop")["shop/templates/deployment.yaml"])[0]
