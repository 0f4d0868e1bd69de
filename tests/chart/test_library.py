"""The library's templates in somebody's own chart, held against the program that they configure."""

from __future__ import annotations

from typing import Any

import pytest

from drainproxy import config
from drainproxy.injector.annotations import Options, read
from drainproxy.injector.patch import InjectorDefaults
from drainproxy.kube.lint import spec_problems
from drainproxy.kube.permissions import TIERS, needs
from drainproxy.lifecycle.propagation import PRESETS
from tests.chart.rendering import application, documents, files, helm, one
from tests.chart.standards import assert_valid, breaches
from tests.injector.pods import Row, pod
from tests.injector.ways import by_webhook

OPTIONS: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "plain": {"mode": "plain"},
    "alb": {"propagation": "alb"},
    "mesh, shorter": {"propagation": "mesh", "propagationMax": 20, "gracePeriod": 45},
    "short": {"gracePeriod": 20, "propagationMax": 10, "leaveSpread": 3, "appStop": 2, "reserve": 2},
    "no token": {"rbac": "none"},
    "other ports": {
        "port": 18080,
        "adminPort": 19900,
        "portName": "web",
        "upstream": "http://127.0.0.1:3000",
    },
    "more": {"env": {"DRAINPROXY_ACCESS_LOG": "all"}, "runAsUser": None, "rbac": "slices+pod+events"},
}


def environment(container: dict[str, Any]) -> dict[str, str]:
    """What the container's process finds in its environment."""
    return {each["name"]: each.get("value", "told-by-the-kubelet") for each in container["env"]}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_program_finds_nothing_wrong_with_what_the_library_writes(options, tmp_path):
    """Schemas, the restricted standard, the pod's own lint and `config --check` are silent."""
    deployment = application(tmp_path, options)
    assert_valid([deployment])
    spec = deployment["spec"]["template"]["spec"]
    assert breaches(spec) == []
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    (sidecar,) = (each for each in containers if each["name"] == "drainproxy")
    chosen = config.load({**environment(sidecar), "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {})
    assert chosen.warnings == ()
    assert chosen.lifecycle.grace_period == spec["terminationGracePeriodSeconds"]
    assert spec_problems(spec, chosen.lifecycle.grace_period, chosen.rules.max_s) == []
    assert chosen.proxy.listen[0].port == sidecar["ports"][0]["containerPort"]
    assert chosen.admin.admin.port == sidecar["ports"][1]["containerPort"]
    hook = spec["containers"][0]["lifecycle"]["preStop"]["httpGet"]
    assert hook == {"path": "/drain/wait", "port": chosen.admin.admin.port}
    native = options.get("mode", "native") == "native"
    assert (sidecar.get("restartPolicy") == "Always") == native
    assert ("lifecycle" in sidecar) == native
    mounted = {each["name"] for each in sidecar.get("volumeMounts", ())}
    # A chart has volumes of its own before ours.
    assert mounted | {"own"} == {each["name"] for each in spec["volumes"]}
    assert ("drainproxy-token" in mounted) == (options.get("rbac") != "none")
    assert "cpu" not in sidecar["resources"]["limits"]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_need_the_grace_that_the_program_says(preset, tmp_path):
    """The table in the library is the table in the program."""
    grace = application(tmp_path, {"propagation": preset})["spec"]["template"]["spec"][
        "terminationGracePeriodSeconds"
    ]
    assert grace == max(30, PRESETS[preset][0].max_s + 7 + 5 + 3)


@pytest.mark.parametrize("tier", [each for each in TIERS if each != "none"])
def test_roles_allow_what_the_tier_asks(tier):
    """Each verb that the program needs, and none beside."""
    values = {"sidecar": {"rbac": tier}, "rbac": {"namespaces": [{"name": "shop"}]}}
    (role,) = (each for each in documents(values) if each["kind"] == "Role")
    given = {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert given == {(need.verb, need.group, need.resource) for need in needs(tier)}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gracePeriod": 10}, "set gracePeriod to at least 30"),
        ({"propagation": "magic"}, "it must be one of agic, alb, cluster"),
        ({"mode": "host"}, "it must be native or plain"),
        ({"rbac": "all"}, "it must be none, slices"),
        ({"scrapeAnnotations": "false"}, 'scrapeAnnotations is "false"; it must be true or false'),
        ({"portname": "web"}, 'has no option "portname"; it has adminPort'),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_with_a_sentence(options, sentence, tmp_path):
    """In the user's own `helm template`, where it costs nothing yet."""
    with pytest.raises(helm.HelmRenderError, match=sentence):
        application(tmp_path, options)


@pytest.mark.parametrize("port", [29900, 19900])
@pytest.mark.parametrize("chosen", [True, False])
@pytest.mark.parametrize(
    "own",
    [
        None,
        {},
        {"note": "x"},
        {"prometheus.io/scrape": "false"},
        {"a": "b", "prometheus.io/port": "9090"},
        {"prometheus.io": "x", "my.prometheus.io/scrape": "true"},
    ],
    ids=str,
)
def test_annotations_for_scrapes_are_the_injector_s(own, chosen, port, tmp_path):
    """The template's pod says of its scrape what an injected pod says, and keeps what it has."""
    rendered = application(tmp_path, {"scrapeAnnotations": chosen, "adminPort": port}, own)
    wishes = {"admin-port": str(port), "scrape-annotations": str(chosen).lower()}
    made, _ = by_webhook(Row(id="", pod=pod(annotations=own)), InjectorDefaults(annotations=wishes))
    found = rendered["spec"]["template"]["metadata"]["annotations"]
    assert found == (made["metadata"].get("annotations") or {})
    assert_valid([rendered])


@pytest.mark.parametrize("chosen", [True, False])
def test_the_webhook_is_told_of_annotations_for_scrapes(chosen):
    """By the argument that the injector reads, and only where they are asked for."""
    values = {"injection": {"mode": "webhook"}, "sidecar": {"scrapeAnnotations": chosen}}
    webhook = one(documents(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    told = [each for each in webhook["args"] if "scrape" in each]
    assert told == (["--set=scrape-annotations=true"] if chosen else [])
    assert read({}, dict(each.removeprefix("--set=").split("=") for each in told)).options == Options(
        scrape_annotations=chosen
    )


@pytest.mark.parametrize("monitor", [True, False])
@pytest.mark.parametrize("chosen", [True, False])
def test_who_installs_the_chart_is_told_whether_pods_are_scraped(chosen, monitor):
    """Not at all, or twice: each has its sentence, and one way alone has none."""
    values = {"sidecar": {"scrapeAnnotations": chosen}, "monitoring": {"podMonitor": {"enabled": monitor}}}
    notes = files(values)["drainproxy/templates/NOTES.txt"]
    assert ("Nothing scrapes the sidecars yet" in notes) == (not chosen and not monitor)
    assert ("counts them twice" in notes) == (chosen and monitor)
