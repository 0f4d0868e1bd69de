"""The README's commands do what it says: from nothing to a protected Deployment."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys

import pytest

from drainproxy.cli import arguments
from drainproxy.cli.main import _injector_defaults
from tests.chart.rendering import CHART, ROOT, documents, one, parse
from tests.chart.standards import assert_valid
from tests.chart.test_manifests import KUBECTL, MANIFESTS, pytestmark
from tests.injector.pods import Row
from tests.injector.ways import by_webhook
from tests.support.cluster.access import EVERYTHING, Rule
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.resources import DEPLOYMENTS, NAMESPACES, PODS, SERVICES
from tests.support.cluster.server import ApiServer
from tests.support.command import drainproxy, environment

__all__ = ["pytestmark"]


def commands() -> list[str]:
    """What stands in the code blocks of the section."""
    section = re.search(r"^## Protect a Deployment$(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)[
        1
    ]
    blocks = re.findall(r"^```console\n(.*?)^```$", section, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if "drain_report" not in line]


def sidecars(deployment: dict) -> list[str]:
    """The init containers that stay."""
    spec = deployment["spec"]["template"]["spec"]
    return [each["name"] for each in spec.get("initContainers", []) if each.get("restartPolicy") == "Always"]


def test_there_are_at_most_three():
    """Nobody has to read further."""
    assert len(commands()) <= 3


def labelled(directory, text: str = "") -> str:
    """The example's Deployment after the README's `kubectl patch`."""
    text = text or (MANIFESTS / "example" / "application.yaml").read_text()
    (deployment, _) = parse(text)
    file = directory / "deployment.yaml"
    file.write_text(text.partition("\n---\n")[0])
    words = shlex.split(commands()[1])
    assert words[3] == deployment["metadata"]["name"]
    done = subprocess.run(
        [KUBECTL, "patch", "--local", "-f", file, *words[4:], "-o", "yaml"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def injected(directory, text: str) -> dict:
    """What the injector makes of a Deployment."""
    file = directory / "labelled.yaml"
    file.write_text(text)
    done = drainproxy("inject", "-f", str(file))
    assert done.returncode == 0, done.stderr
    return one(parse(done.stdout), "Deployment")


def installed(version: str = "1.33") -> list[dict]:
    """What the README's `helm install` brings, in a cluster of this version."""
    words = shlex.split(commands()[0])
    assert (ROOT / words[3]).resolve() == CHART
    assert words[-4:] == ["--set", "rbac.namespaces[0].name=default", "--set", "capture.redirect=allowed"]
    values = {"rbac": {"namespaces": [{"name": "default"}]}, "capture": {"redirect": "allowed"}}
    return documents({**values, "injection": {"kubeVersion": version}})


def unnamed(text: str) -> str:
    """The example with one port that has no name, which a probe and its Service go to by the number."""
    probe = "          readinessProbe: {httpGet: {path: /, port: 8080}}\n"
    for old, new in (
        (
            "            - name: http\n              containerPort: 8080\n",
            "            - containerPort: 8080\n" + probe,
        ),
        ("targetPort: http", "targetPort: 8080"),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


def test_the_chart_and_one_label(tmp_path):
    """The chart renders as it is installed; the patched Deployment asks for the sidecar, and gets it."""
    assert one(installed(), "MutatingWebhookConfiguration")
    assert sidecars(injected(tmp_path, labelled(tmp_path))) == ["drainproxy"]


@pytest.mark.parametrize("version", ["1.29", "1.33", "1.36"])
def test_one_port_without_a_name(tmp_path, version):
    """The chart's webhook captures it by the label alone: every number, and the Service, stay."""
    example = unnamed((MANIFESTS / "example" / "application.yaml").read_text())
    template = one(parse(labelled(tmp_path, example)), "Deployment")["spec"]["template"]
    webhook = one(installed(version), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    defaults = _injector_defaults(arguments.parse(webhook["args"]))
    made = Row(id="shop", pod={"apiVersion": "v1", "kind": "Pod", **template}, namespace="default")
    made.pod["metadata"]["name"] = "shop-1"
    pod, said = by_webhook(made, defaults)
    assert said == ["redirect's init container has NET_ADMIN: PodSecurity must be privileged here"]
    assert pod["spec"]["containers"][0]["ports"] == [{"containerPort": 8080}]
    writer, sidecar = pod["spec"]["initContainers"]
    assert (writer["args"], writer["image"]) == (["redirect", "8080:28080"], "drainproxy:0.1.0-redirect")
    assert sidecar["name"] == "drainproxy"
    assert_valid([pod])


def test_one_port_without_a_name_and_without_anything_in_the_cluster(tmp_path):
    """The same, by the README's one command."""
    words = shlex.split(commands()[2].partition(" | ")[0])
    file = tmp_path / words[-1]
    file.write_text(unnamed((MANIFESTS / "example" / "application.yaml").read_text()))
    done = drainproxy(*words[1:-1], str(file))
    assert done.returncode == 0, done.stderr
    spec = one(parse(done.stdout), "Deployment")["spec"]["template"]["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["drainproxy-redirect", "drainproxy"]
    assert "goes around" not in done.stderr


async def test_check_says_what_the_readme_shows(tmp_path):
    """Of the example, labelled and injected, with the roles that the chart's installation makes."""
    (bare, service) = parse((MANIFESTS / "example" / "application.yaml").read_text())
    made = injected(tmp_path, labelled(tmp_path))
    template = made["spec"]["template"]
    rules = [
        Rule(group, resource, tuple(rule["verbs"]), "default")
        for rule in one(installed(), "Role")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]
    tls, authority = server_tls(tmp_path / "tls")
    async with ApiServer(tls=tls) as api:
        how = {"namespace": "default", "authority": authority}
        admin = Account(api, tmp_path / "admin", [EVERYTHING], name="admin", token="admin", **how)
        Account(api, tmp_path / "pods", rules, name="default", **how)
        for kind, thing in ((DEPLOYMENTS, bare), (SERVICES, service)):
            api.store.put(kind, {**thing, "metadata": {**thing["metadata"], "namespace": "default"}})
        strict = {"pod-security.kubernetes.io/enforce": "restricted"}
        api.store.put(NAMESPACES, {"metadata": {"name": "default", "labels": strict}})
        running = {"name": "shop-1", "namespace": "default", **template["metadata"]}
        api.store.put(PODS, {"metadata": running, "spec": template["spec"]})
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drainproxy", "check", "deploy/shop"),
            env=environment(KUBECONFIG=str(admin.kubeconfig())),
            stdout=asyncio.subprocess.PIPE,
        )
        said = (await child.communicate())[0].decode()
    assert child.returncode == 0, said
    (shown,) = re.findall(r"^```text\n(ok .*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert said == shown


def test_one_command_without_anything_in_the_cluster(tmp_path):
    """What is applied has the sidecar already."""
    words = shlex.split(commands()[2].partition(" | ")[0])
    file = tmp_path / words[-1]
    file.write_text((MANIFESTS / "example" / "application.yaml").read_text())
    injected = drainproxy(*words[1:-1], str(file))
    assert injected.returncode == 0, injected.stderr
    assert sidecars(one(parse(injected.stdout), "Deployment")) == ["drainproxy"]
