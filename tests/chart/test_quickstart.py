"""The README's commands do what it says: from nothing to a protected Deployment."""

from __future__ import annotations

import re
import shlex
import subprocess

from tests.chart.rendering import CHART, ROOT, documents, one, parse
from tests.chart.test_manifests import KUBECTL, MANIFESTS, pytestmark
from tests.support.command import drainproxy

__all__ = ["pytestmark"]


def commands() -> list[str]:
    """What stands in the code blocks of the section."""
    section = re.search(r"^## Protect a Deployment$(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)[
        1
    ]
    blocks = re.findall(r"^```console\n(.*?)^```$", section, re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


def sidecars(deployment: dict) -> list[str]:
    """The init containers that stay."""
    spec = deployment["spec"]["template"]["spec"]
    return [each["name"] for each in spec.get("initContainers", []) if each["restartPolicy"] == "Always"]


def test_there_are_at_most_three():
    """Nobody has to read further."""
    assert len(commands()) <= 3


def test_the_chart_and_one_label(tmp_path):
    """The chart renders as it is installed; the patched Deployment asks for the sidecar, and gets it."""
    install, patch, _ = commands()
    assert (ROOT / shlex.split(install)[3]).resolve() == CHART
    assert one(documents({"injection": {"kubeVersion": "1.33"}}), "MutatingWebhookConfiguration")
    (deployment, _) = parse((MANIFESTS / "example" / "application.yaml").read_text())
    file = tmp_path / "deployment.yaml"
    file.write_text((MANIFESTS / "example" / "application.yaml").read_text().partition("\n---\n")[0])
    words = shlex.split(patch)
    assert words[3] == deployment["metadata"]["name"]
    done = subprocess.run(
        [KUBECTL, "patch", "--local", "-f", file, *words[4:], "-o", "yaml"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    file.write_text(done.stdout)
    injected = drainproxy("inject", "-f", str(file))
    assert injected.returncode == 0, injected.stderr
    assert sidecars(one(parse(injected.stdout), "Deployment")) == ["drainproxy"]


def test_one_command_without_anything_in_the_cluster(tmp_path):
    """What is applied has the sidecar already."""
    words = shlex.split(commands()[2].partition(" | ")[0])
    file = tmp_path / words[-1]
    file.write_text((MANIFESTS / "example" / "application.yaml").read_text())
    injected = drainproxy(*words[1:-1], str(file))
    assert injected.returncode == 0, injected.stderr
    assert sidecars(one(parse(injected.stdout), "Deployment")) == ["drainproxy"]
