"""manifests/probe: a Job that probes inside the cluster and follows the rollout, with the rights it has."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.chart.rendering import ROOT, one
from tests.chart.standards import assert_valid, breaches
from tests.chart.test_manifests import KUBECTL, build
from tests.fleet.front import front
from tests.fleet.scene import Scene, ended, scene
from tests.fleet.test_rollout import SHORT
from tests.support.cluster.access import Rule
from tests.support.cluster.account import Account
from tests.support.command import environment
from tests.support.kubelet import wirings
from tests.support.kubelet.wirings import APP_PORT
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed; make .venv/group-deploy")

SHOWN = {"http://shop/healthz": "", "deploy/shop": "deploy/web", "10m": "40s"}
"""What everybody changes, and a test's patience."""


def documents() -> list[dict[str, Any]]:
    """Return what is applied."""
    return build(ROOT / "manifests" / "probe")


def container(name: str) -> dict[str, Any]:
    """Return one of the Job's."""
    spec = one(documents(), "Job")["spec"]["template"]["spec"]
    (found,) = (each for each in spec["containers"] if each["name"] == name)
    return found


def test_it_is_valid_and_restricted():
    """A namespace that enforces the restricted standard takes it; each container says what it needs."""
    found = documents()
    assert_valid(found)
    job = one(found, "Job")["spec"]
    spec = job["template"]["spec"]
    assert breaches(spec) == []
    assert job["backoffLimit"] == 0, "a second try would hide what the first has lost"
    assert spec["restartPolicy"] == "Never"
    assert job["template"]["metadata"]["labels"]["drainproxy.io/inject"] == "false"
    for each in spec["containers"]:
        assert each["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in each["resources"]["limits"]
        assert each["securityContext"]["readOnlyRootFilesystem"] is True
    longest_s = 600
    assert job["activeDeadlineSeconds"] > longest_s


def test_only_who_asks_the_cluster_has_a_token():
    """The prober talks to the application alone."""
    spec = one(documents(), "Job")["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert "volumeMounts" not in container("probe")
    assert spec["serviceAccountName"] == one(documents(), "ServiceAccount")["metadata"]["name"]
    (subject,) = one(documents(), "RoleBinding")["subjects"]
    assert (subject["name"], subject["namespace"]) == (spec["serviceAccountName"], "default")


async def _run(name: str, url: str, **env: str) -> asyncio.subprocess.Process:
    """Start a container's command as it stands in the manifest."""
    words = [SHOWN.get(word, word) or url for word in container(name)["args"]]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drainproxy", *words),
        env=environment(**env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def _account(played: Scene, directory: Path) -> Account:
    """Let the Job's ServiceAccount have what the manifest's Role grants."""
    rules = [
        Rule(group, resource, tuple(rule["verbs"]), "default")
        for rule in one(documents(), "Role")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]
    authority = played.admin.directory / "ca.crt"
    return Account(
        played.town.api,
        directory / "job",
        rules,
        name="drainproxy-probe",
        token="job-token",
        namespace="default",
        authority=authority,
    )


async def _job(played: Scene, tmp_path: Path) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
    """Run both containers while the Deployment is rolled out; return what became of each."""
    account = _account(played, tmp_path)
    inside = {
        **account.environment(),
        "HOME": "/nonexistent",
        "DRAINPROXY_KUBERNETES_CREDENTIALS": str(account.directory),
    }
    came = asyncio.Event()
    async with front(played.town.api.store, played.port, 0.5, came) as (host, port):
        before = len(played.town.api.journal.of("watch", "pods"))
        rollout = await _run("rollout", "", **inside)
        await played.town.api.journal.nth("watch", "pods", number=before + 1)
        probe = await _run("probe", f"http://{host}:{port}/")
        async with asyncio.timeout(PATIENCE_S):
            await came.wait()
        await played.deployment.roll_out()
        followed = await ended(rollout)
        # What was to be measured is over; it sums up when it is told to end, as at its own.
        probe.terminate()
        probed = await ended(probe)
    denied = [each for each in played.town.api.journal.requests if each.status == 403]
    assert [f"{each.verb} {each.resource}" for each in denied if each.subject.endswith("-probe")] == []
    return probed, followed


async def test_a_rollout_that_loses_nothing(tmp_path):
    """Both say so, and the Job is complete."""
    async with scene(wirings.native(**SHORT), tmp_path) as played:
        (_, said, errors), (code, verdict, _) = await _job(played, tmp_path)
    assert code == 0, verdict
    assert "2 pods of deploy/web in namespace default left: nothing was lost" in verdict
    assert "requests was lost." in said + errors


async def test_a_rollout_that_loses_something(tmp_path):
    """Without a sidecar: callers see it, and what became of the pods nobody can say; the Job has failed."""
    async with scene(wirings.bare(), tmp_path, port=APP_PORT) as played:
        (lost, said, errors), (code, _, _) = await _job(played, tmp_path)
    assert lost == 1, said + errors
    assert code == 2
