"""The README's commands do what it says: from nothing to a protected Deployment."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys

from tests.chart.rendering import CHART, ROOT, documents, one, parse
from tests.chart.test_manifests import KUBECTL, MANIFESTS, pytestmark
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
    return [each["name"] for each in spec.get("initContainers", []) if each["restartPolicy"] == "Always"]


def test_there_are_at_most_three():
    """Nobody has to read further."""
    assert len(commands()) <= 3


def labelled(directory) -> str:
    """The example's Deployment after the README's `kubectl patch`."""
    (deployment, _) = parse((MANIFESTS / "example" / "application.yaml").read_text())
    file = directory / "deployment.yaml"
    file.write_text((MANIFESTS / "example" / "application.yaml").read_text().partition("\n---\n")[0])
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


def installed() -> list[dict]:
    """What the README's `helm install` brings, in a cluster of 1.33."""
    words = shlex.split(commands()[0])
    assert (ROOT / words[3]).resolve() == CHART
    assert words[-2:] == ["--set", "rbac.namespaces[0].name=default"]
    values = {"rbac": {"namespaces": [{"name": "default"}]}, "injection": {"kubeVersion": "1.33"}}
    return documents(values)


def test_the_chart_and_one_label(tmp_path):
    """The chart renders as it is installed; the patched Deployment asks for the sidecar, and gets it."""
    assert one(installed(), "MutatingWebhookConfiguration")
    assert sidecars(injected(tmp_path, labelled(tmp_path))) == ["drainproxy"]


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
