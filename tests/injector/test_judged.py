"""What the injector makes of a pod is what `drainproxy check` calls good: both know the same rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drainproxy.cli.verdicts import judge
from drainproxy.cli.wiring import unknown, wiring
from drainproxy.errors import InjectionRefused
from drainproxy.injector.patch import Injected, inject
from drainproxy.kube.survey import Survey
from drainproxy.podspec import sidecar
from tests.injector.pods import PLAIN_TABLE, app, wished
from tests.injector.ways import HOUSE, placed

ANYWHERE = replace(HOUSE, redirect_image="example/redirect:1")
QUIET = [row for row in PLAIN_TABLE if row.result == "injected" and not row.said]
DOORS = {
    "name": wished(app()),
    "env": wished(app(), app_port_env="PORT"),
    "address": wished(app(), app_host_env="HOST"),
    "redirect": wished(app(), capture="redirect"),
    "plain": wished(app(), mode="plain"),
    "the pod's own address": wished(app(), upstream_host="pod"),
}


def judged(made: Injected) -> dict[str, str]:
    """Return what is not passed of an injected pod, with a Service to each of its ports."""
    workload = {"kind": "Deployment", "metadata": {"name": "web"}, "spec": {}}
    found = Survey(workload, {"metadata": made.pod["metadata"], "spec": made.pod["spec"]})
    selector = made.pod["metadata"]["labels"]
    found.services = [
        {
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": selector, "ports": [{"port": 80, "targetPort": target}]},
        }
        for taken in made.taken
        for target in {taken.name or taken.callers, taken.callers}
    ]
    ours, _ = sidecar(made.pod["spec"])
    verdicts = judge(found, wiring(ours, found.pod), unknown(ours))
    return {each.what: each.detail for each in verdicts if each.passed is not True}


@pytest.mark.parametrize("row", QUIET, ids=lambda row: row.id)
def test_a_pod_of_which_there_is_nothing_to_say_is_good(row):
    """Every verdict is ok."""
    try:
        made = inject(placed(row), HOUSE, row.namespace, unasked=True)
    except InjectionRefused as refusal:
        pytest.fail(str(refusal))
    assert isinstance(made, Injected)
    assert judged(made) == {}


@pytest.mark.parametrize("asked", DOORS.values(), ids=DOORS.keys())
def test_each_door_is_known(asked):
    """A Service by name and one by number lead to drainproxy, whatever has been done for that."""
    made = inject(asked, ANYWHERE, "shop", unasked=True)
    assert isinstance(made, Injected)
    assert judged(made) == {}
