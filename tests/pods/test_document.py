"""The pods that docs/kubernetes.md shows, run as they stand there: they start, drain and lose nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.kube.test_document import shown
from tests.pods.scene import ending_under_traffic, only_report, sidecar
from tests.support.kubelet import wirings


def json_lines(manifest):
    """The same pod, with a log that a test can read."""
    containers = [*manifest["spec"].get("initContainers", []), *manifest["spec"]["containers"]]
    (ours,) = (each for each in containers if each["name"] == "drainproxy")
    ours["env"].append({"name": "DRAINPROXY_LOG_FORMAT", "value": "json"})
    return manifest


@pytest.mark.parametrize("name", ["native", "plain"])
async def test_a_pod_that_is_shown_drains_by_the_clusters_word(town, name):
    """All defaults: the slices flip, the data plane follows within a second, nothing is lost or killed."""
    pod = await town.run(json_lines(shown(name)))
    async with ending_under_traffic(town, pod, called_for_s=1.0):
        pass
    assert [each.exit_code for each in pod.containers] == [0, 0]
    line = only_report(pod)
    assert (line["cause"], line["propagation_ended"]) == ("deletion", "slices_quiet")
    plan = sidecar(pod).of("drain_plan")[0]
    assert plan["grace_s"] == pod.spec["terminationGracePeriodSeconds"]
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    left_out = re.search(r"drain_report \| jq 'del\((.*?)\)'", readme)[1]
    report = json.loads(re.search(r"^```json\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)[1])
    assert list(report) == [each for each in line if f".{each}" not in left_out.split(", ")]
    assert report["requests"].keys() == line["requests"].keys()


@pytest.mark.parametrize("name", ["native", "plain"])
def test_the_pods_that_the_rollouts_run_are_wired_as_shown(name):
    """Whatever `make rollout` proves is proved of these hooks, probes, ports and identities."""
    ours = getattr(wirings, name)()
    assert _wiring(ours) == _wiring(shown(name))


def _wiring(manifest):
    """What decides how a pod ends, by container; resources and names of volumes do not."""
    spec = manifest["spec"]
    containers = {
        each["name"]: {
            "args": each.get("args"),
            "lifecycle": each.get("lifecycle"),
            "restartPolicy": each.get("restartPolicy"),
            "readinessProbe": each.get("readinessProbe"),
            "startupProbe": each.get("startupProbe"),
            "identity": [entry for entry in each.get("env", []) if "valueFrom" in entry],
            "mounts": [mount["mountPath"] for mount in each.get("volumeMounts", [])],
        }
        for each in [*spec.get("initContainers", []), *spec["containers"]]
    }
    grace = {
        entry["value"]
        for each in [*spec.get("initContainers", []), *spec["containers"]]
        for entry in each.get("env", [])
        if entry["name"] == "DRAINPROXY_GRACE_PERIOD"
    }
    return containers, grace, [each["name"] for each in spec.get("initContainers", [])]
