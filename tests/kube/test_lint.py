"""What is wrong in a pod's spec is one sentence each, with the fix."""

from __future__ import annotations

import pytest

from drainproxy.kube.lint import spec_problems
from drainproxy.podspec import sidecar

WAIT = {"preStop": {"httpGet": {"path": "/drain/wait", "port": 29900}}}
PROBE = {"httpGet": {"path": "/readyz", "port": 29900}, "periodSeconds": 5, "failureThreshold": 2}
PRESTOP = {"preStop": {"exec": {"command": ["drainproxy", "drain", "--prestop"]}}}


def spec(*, app=WAIT, native: bool = True, grace: int = 30, **ours):
    """Return a PodSpec that is as it should be, but for what a test changes."""
    proxy = {
        "name": "drainproxy",
        "readinessProbe": PROBE,
        **({"lifecycle": PRESTOP} if native else {}),
        **ours,
    }
    containers = [{"name": "app", "lifecycle": app}, {"name": "istio-proxy"}]
    if native:
        return {
            "terminationGracePeriodSeconds": grace,
            "initContainers": [{"name": "setup"}, {**proxy, "restartPolicy": "Always"}],
            "containers": containers,
        }
    return {"terminationGracePeriodSeconds": grace, "containers": [*containers, proxy]}


@pytest.mark.parametrize("native", [True, False])
def test_a_good_spec_has_no_problem(native):
    """Both wirings."""
    assert spec_problems(spec(native=native), 30.0, 15.0) == []


def exec_hook(*command: str):
    """Return a lifecycle with an exec hook."""
    return {"preStop": {"exec": {"command": list(command)}}}


CASES = {
    "no hook": ({"app": None}, "container app has no preStop hook"),
    "sleep action": ({"app": {"preStop": {"sleep": {"seconds": 5}}}}, "container app only sleeps"),
    "sleep": ({"app": exec_hook("sleep", "15")}, "container app only sleeps"),
    "sh sleep": ({"app": exec_hook("/bin/sh", "-c", "sleep 15")}, "container app only sleeps"),
    "another hook": ({"app": exec_hook("nginx", "-s", "quit")}, "container app has another preStop hook"),
    "sleep and more": ({"app": exec_hook("sh", "-c", "sleep 5; kill 1")}, "has another preStop hook"),
    "a named port": (
        {"app": {"preStop": {"httpGet": {"path": "/drain/wait", "port": "admin"}}}},
        "write the preStop hook's port as a number",
    ),
    "grace": ({"grace": 20}, "set terminationGracePeriodSeconds to 30, or grace_period to 20s"),
    "no probe": ({"readinessProbe": None}, "has no readinessProbe"),
    "a slow probe": ({"readinessProbe": {"periodSeconds": 10}}, "takes 30 s to fail"),
    "a native sidecar without a hook": ({"lifecycle": None}, "gets SIGTERM only after"),
}


@pytest.mark.parametrize(("changes", "sentence"), CASES.values(), ids=CASES.keys())
def test_each_mistake_is_one_sentence(changes, sentence):
    """It names the container or the number."""
    (problem,) = spec_problems(spec(**changes), 30.0, 15.0)
    assert sentence in problem


def test_a_plain_sidecar_needs_no_hook():
    """SIGTERM comes to it at once."""
    assert spec_problems(spec(native=False, lifecycle=None), 30.0, 15.0) == []


def test_the_sidecar_is_found_by_what_it_is():
    """By its name, its command, or the environment that it alone reads."""
    for ours in (
        {"name": "drainproxy"},
        {"name": "x", "command": ["/usr/bin/drainproxy"]},
        {"name": "x", "args": ["python", "-m", "drainproxy"]},
        {"name": "x", "env": [{"name": "DRAINPROXY_LISTEN", "value": ":1"}]},
    ):
        assert sidecar({"containers": [{"name": "app"}, ours]}) == (ours, False)
    assert sidecar({"containers": [{"name": "app"}]}) == (None, False)


def test_a_pod_without_us_has_only_its_hooks():
    """Nothing to say of a container that is not there."""
    assert spec_problems({"containers": [{"name": "app", "lifecycle": WAIT}]}, None, 15.0) == []
