"""What a container of ours requests and is limited to, and the QoS class of the pod that it comes into."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drainproxy.errors import InjectionRefused
from drainproxy.injector.patch import Injected, InjectorDefaults, inject
from tests.injector.pods import PREFIX, app, pod, wished
from tests.injector.test_judged import judged
from tests.injector.ways import HOUSE

LED = replace(HOUSE, redirect_image="example/redirect:1")
CHART = {"cpu-request": "10m", "memory-request": "64Mi", "memory-limit": "128Mi"}
"""What a chart says for every pod is no wish of one."""
LOST = "its QoS class is no longer Guaranteed: that takes drainproxy.io/cpu-limit, and requests as limits"


def equal(cpu, memory, /, **requests):
    """Return a container that is limited, and requests this."""
    return app(resources={"limits": {"cpu": cpu, "memory": memory}, "requests": requests})


def made(asked, defaults: InjectorDefaults = LED) -> Injected:
    outcome = inject(asked, defaults, "shop")
    assert isinstance(outcome, Injected)
    return outcome


def ours(outcome: Injected) -> list[dict]:
    """Return the resources of each container that was added."""
    return [
        each["resources"]
        for each in outcome.pod["spec"]["initContainers"]
        if each["name"].startswith("drainproxy")
    ]


def throttles(outcome: Injected) -> bool:
    return any("stands still for the rest of a tenth of a second" in each for each in outcome.said)


@pytest.mark.parametrize("limit", ["50m", "100m", "0.5", "999m", "1", "2", "1500m"])
def test_a_cpu_limit_is_set_and_what_it_does_is_said(limit):
    """For the container that leads packets, too; from one processor on there is nothing to say."""
    outcome = made(wished(app(), cpu_limit=limit, capture="redirect"))
    assert [each["limits"] for each in ours(outcome)] == [{"cpu": limit, "memory": "128Mi"}] * 2
    assert [each["requests"] for each in ours(outcome)] == [{"cpu": "10m", "memory": "64Mi"}] * 2
    assert throttles(outcome) == (limit not in ("1", "2", "1500m"))


def test_there_is_none_unless_it_is_asked_for():
    """And nothing is said of a pod that was never Guaranteed."""
    outcome = made(wished(app()))
    assert [each["limits"] for each in ours(outcome)] == [{"memory": "128Mi"}]
    assert outcome.said == ()


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"cpu_limit": "49m"}, "cpu-limit: 49m is below 50m"),
        ({"cpu_limit": "0.01"}, "cpu-limit: 0.01 is below 50m"),
        ({"cpu_limit": "0"}, "cpu-limit: 0 is below 50m"),
        ({"cpu_limit": "100m", "cpu_request": "0.2"}, "cpu-request: 0.2 is above cpu-limit 100m"),
        ({"cpu_limit": "half"}, 'cpu-limit: "half"'),
    ],
    ids=str,
)
def test_a_limit_that_cannot_work_is_refused(wish, why):
    """The API server would refuse the pod, or nobody has seen a drain with so little."""
    with pytest.raises(InjectionRefused) as caught:
        made(wished(app(), **wish))
    assert caught.value.result == "invalid"
    assert why in str(caught.value.problems)


@pytest.mark.parametrize("limit", ["50m", "100m", "1"])
def test_what_was_chosen_fails_no_check(limit):
    """`check` says what the limit does, and cannot tell whether the load uses it up."""
    said = judged(made(wished(app(), cpu_limit=limit)))
    assert set(said) == ({"CPU"} if limit != "1" else set())


@pytest.mark.parametrize("house", [{}, CHART], ids=["usual", "chart"])
@pytest.mark.parametrize(
    "containers",
    [
        (equal("1", "1Gi"),),
        (equal("1", "1Gi", cpu="1000m", memory="1024Mi"),),
        (equal(1, "1Gi", cpu="1"),),
        (equal("500m", "1Ti", cpu="0.5", memory="1024Gi"),),
    ],
    ids=str,
)
def test_a_guaranteed_pod_stays_guaranteed_when_asked(containers, house):
    """Requests become limits, however the application's are written (Kubernetes: Pod Quality of Service)."""
    defaults = replace(LED, annotations=house)
    outcome = made(wished(*containers, cpu_limit="100m", capture="redirect"), defaults)
    full = {"cpu": "100m", "memory": "128Mi"}
    assert ours(outcome) == [{"requests": full, "limits": full}] * 2
    assert LOST not in outcome.said
    assert LOST in made(pod(*containers), defaults).said


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ({"cpu-request": "20m"}, False),
        ({"memory-request": "64Mi"}, False),
        ({"cpu-request": "0.1", "memory-request": "128Mi"}, True),
    ],
    ids=str,
)
def test_what_a_pod_requests_itself_is_left(own, kept):
    """It costs the class where it is not the limit, and that is said."""
    wishes = {f"{PREFIX}{name}": text for name, text in {**own, "cpu-limit": "100m"}.items()}
    outcome = made(pod(equal("1", "1Gi"), annotations=wishes))
    [given] = ours(outcome)
    assert own.items() <= {f"{name}-request": text for name, text in given["requests"].items()}.items()
    assert (LOST in outcome.said) == (not kept)


@pytest.mark.parametrize(
    "asked",
    [
        wished(equal("1", "1Gi", cpu="500m"), cpu_limit="100m"),
        wished(app(resources={"limits": {"memory": "1Gi"}}), cpu_limit="100m"),
        wished(equal("1", "1Gi"), app("b", ("x", 1)), cpu_limit="100m"),
        wished(equal("1", "odd", memory="other"), cpu_limit="100m"),
        wished(
            equal("1", "1Gi"), cpu_limit="100m", spec={"resources": {"limits": {"cpu": "2", "memory": "2Gi"}}}
        ),
    ],
    ids=["less", "no CPU", "another container", "no quantity", "the pod's own"],
)
def test_other_pods_request_as_they_did(asked):
    """Burstable ones, and those whose class is decided by resources of their own."""
    outcome = made(asked)
    assert [each["requests"] for each in ours(outcome)] == [{"cpu": "10m", "memory": "64Mi"}]
    assert LOST not in outcome.said
