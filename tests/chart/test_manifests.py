"""The plain manifests build with kubectl, are valid, and agree with the chart."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from drainproxy.kube.lint import spec_problems
from tests.chart.rendering import ROOT, application, documents, one, parse
from tests.chart.standards import assert_valid, breaches

MANIFESTS = ROOT / "manifests"
KUBECTL = shutil.which("kubectl", path=f"{ROOT / '.venv' / 'bin'}:/usr/local/bin:/usr/bin")

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed; make .venv/group-deploy")


def build(directory: Path) -> list[dict]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(
        [KUBECTL, "kustomize", directory], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def overlay(directory: Path, *components: str, sidecar: str, service: str = "false") -> list[dict]:
    """The example's application with other components."""
    shutil.copytree(MANIFESTS, directory / "manifests")
    example = directory / "manifests" / "example"
    kustomization = {"resources": ["application.yaml"], "components": [f"../{each}" for each in components]}
    (example / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    text = (example / "application.yaml").read_text()
    labels = f'  labels:\n    drainproxy.io/break-glass: "{service}"\n'
    text = text.replace(
        "kind: Service\nmetadata:\n  name: shop\n  labels:\n",
        f"kind: Service\nmetadata:\n  name: shop\n{labels}",
    )
    (example / "application.yaml").write_text(text.replace("sidecar: native", f"sidecar: {sidecar}"))
    return build(example)


def sidecar_of(deployment: dict) -> dict:
    """Its drainproxy container."""
    spec = deployment["spec"]["template"]["spec"]
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    (found,) = (each for each in containers if each["name"] == "drainproxy")
    return found


def test_the_example_is_complete_and_restricted():
    """Everything that it needs is in it, and a namespace that enforces the restricted standard takes it."""
    found = build(MANIFESTS / "example")
    assert_valid(found)
    deployment = one(found, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    assert breaches(spec) == []
    assert spec_problems(spec, spec["terminationGracePeriodSeconds"], 15.0) == []
    target = one(found, "Service")["spec"]["ports"][0]["targetPort"]
    named = [port["name"] for each in spec["containers"] for port in each["ports"] if "name" in port]
    assert target not in named, "the Service would find the application beside the sidecar"
    assert target in [port["name"] for port in sidecar_of(deployment)["ports"]]
    assert {each["metadata"].get("namespace") for each in found} == {None, "drainproxy-example"}
    (subject,) = one(found, "RoleBinding")["subjects"]
    assert subject["namespace"] == "drainproxy-example"


@pytest.mark.parametrize("mode", ["native", "plain"])
def test_the_sidecar_is_the_chart_s(mode, tmp_path):
    """Container, volumes, hook and grace, field by field."""
    deployment = one(overlay(tmp_path / "a", f"{mode}-sidecar", sidecar=mode), "Deployment")
    rendered = application(tmp_path / "b", {"mode": mode})
    assert sidecar_of(deployment) == sidecar_of(rendered)
    mine, theirs = (each["spec"]["template"]["spec"] for each in (deployment, rendered))
    # The chart that is rendered has a volume of its own, to which the library's are added.
    own, *theirs["volumes"] = theirs["volumes"]
    assert own["name"] == "own"
    for same in ("volumes", "terminationGracePeriodSeconds"):
        assert mine[same] == theirs[same]
    hooks = [
        next(each["lifecycle"] for each in spec["containers"] if each["name"] == "shop")
        for spec in (mine, theirs)
    ]
    assert hooks[0] == hooks[1]


def test_a_deployment_of_another_shape_is_refused_whole(tmp_path):
    """A port that is not called http: kustomize stops instead of changing half of it."""
    example = tmp_path / "manifests" / "example" / "application.yaml"
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    example.write_text(
        example.read_text().replace(
            "name: http\n              containerPort", "name: web\n              containerPort"
        )
    )
    done = subprocess.run(
        [KUBECTL, "kustomize", example.parent], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "containers/0/ports/0/name" in done.stderr


def test_break_glass_sends_traffic_around_and_touches_no_pod(tmp_path):
    """The Service points at the application's number; the Deployment is what it was."""
    before = overlay(tmp_path / "a", "native-sidecar", sidecar="native", service="true")
    after = overlay(tmp_path / "b", "native-sidecar", "break-glass", sidecar="native", service="true")
    assert one(before, "Deployment") == one(after, "Deployment")
    target = one(after, "Service")["spec"]["ports"][0]["targetPort"]
    listens = [
        port["containerPort"]
        for port in one(after, "Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"]
    ]
    assert [target] == listens


def test_roles_and_podmonitor_are_the_chart_s():
    """One meaning of a tier, one way to scrape."""
    rendered = documents(
        {"rbac": {"namespaces": [{"name": "default"}]}, "monitoring": {"podMonitor": {"enabled": True}}}
    )
    assert one(build(MANIFESTS / "rbac"), "Role")["rules"] == one(rendered, "Role")["rules"]
    assert one(build(MANIFESTS / "podmonitor"), "PodMonitor")["spec"] == one(rendered, "PodMonitor")["spec"]
    assert_valid(build(MANIFESTS / "rbac"))
