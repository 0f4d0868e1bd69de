"""Annotations that lead a Prometheus to the sidecar's metrics: who asks has them, and no own one is lost."""

from __future__ import annotations

import pytest
import yaml

from drainproxy.injector.manifest import read
from drainproxy.injector.patch import Injected, InjectorDefaults, inject
from drainproxy.injector.pod_checks import Around
from tests.injector.pods import ISTIO, Row, pod
from tests.injector.ways import HOUSE, by_file, by_webhook

ASKED = "drainproxy.io/scrape-annotations"
TOLD = InjectorDefaults(kubernetes=HOUSE.kubernetes, annotations={"scrape-annotations": "true"})
OURS = {"prometheus.io/scrape": "true", "prometheus.io/port": "29900", "prometheus.io/path": "/metrics"}
KEPT = (
    "it keeps its own prometheus.io/ annotations: these do not lead a scrape to the sidecar's metrics"
    " at :29900/metrics"
)


def annotations(made) -> dict[str, str]:
    """Return what a pod's annotations say, without those of ours."""
    found = made["metadata"].get("annotations") or {}
    return {name: text for name, text in found.items() if not name.startswith("drainproxy.io/")}


def admin_port(made) -> str:
    """Return the port on which the sidecar is going to answer."""
    [ours] = (each for each in made["spec"]["initContainers"] if each["name"] == "drainproxy")
    [text] = (each["value"] for each in ours["env"] if each["name"] == "DRAINPROXY_ADMIN")
    return text.removeprefix(":")


@pytest.mark.parametrize("way", [by_file, by_webhook])
@pytest.mark.parametrize(
    ("asked", "defaults"),
    [
        (pod(annotations={ASKED: "true"}), HOUSE),
        (pod(annotations={ASKED: "true", "drainproxy.io/admin-port": "19900"}), HOUSE),
        (pod(), TOLD),
        (pod(annotations={}), TOLD),
        (pod(annotations={"note": "x"}), TOLD),
        (pod(annotations={"drainproxy.io/admin-port": "19900"}), TOLD),
    ],
    ids=str,
)
def test_who_asks_is_scraped_where_the_sidecar_answers(way, asked, defaults):
    """By the pod's word or for every pod; what it had stays, and a second time nothing changes."""
    row = Row(id="", pod=asked)
    made, said = way(row, defaults)
    assert annotations(made) == annotations(asked) | OURS | {"prometheus.io/port": admin_port(made)}
    assert said == []
    assert way(Row(id="", pod=made), defaults)[0] == made
    assert way(Row(id="", pod=made), HOUSE)[0] == made


@pytest.mark.parametrize("way", [by_file, by_webhook])
@pytest.mark.parametrize(
    ("asked", "defaults"),
    [(pod(), HOUSE), (pod(annotations={"a": "b"}), HOUSE), (pod(annotations={ASKED: "false"}), TOLD)],
    ids=str,
)
def test_nobody_is_scraped_unasked(way, asked, defaults):
    """It is off, and a pod may say no where it is on for all."""
    made, said = way(Row(id="", pod=asked), defaults)
    assert annotations(made) == annotations(asked)
    assert said == []


@pytest.mark.parametrize("way", [by_file, by_webhook])
@pytest.mark.parametrize(
    "own",
    [
        {"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/stats"},
        {"prometheus.io/scrape": "false"},
        {"prometheus.io/port": "9090"},
        {"prometheus.io/scheme": "https"},
        {"prometheus.io/param_format": "text"},
        {"prometheus.io/scrape_slow": "true"},
        OURS | {"prometheus.io/port": "28080"},
    ],
    ids=str,
)
def test_an_own_scrape_stays_as_it_is(way, own):
    """A pod has room for one target: nothing of it is touched, and who asked is told, once."""
    made, said = way(Row(id="", pod=pod(annotations=own)), TOLD)
    assert annotations(made) == own
    assert said == [KEPT]
    # The second time the sidecar is there.
    assert way(Row(id="", pod=made), TOLD) == (made, [])


@pytest.mark.parametrize("own", [OURS, OURS | {"prometheus.io/scheme": "http"}], ids=str)
def test_there_is_nothing_to_say_of_a_scrape_that_is_right(own):
    """A template that leads to the sidecar by itself is no trouble."""
    assert by_webhook(Row(id="", pod=pod(annotations=own)), TOLD)[1] == []


@pytest.mark.parametrize(
    "own", [{"prometheus.io": "x"}, {"prometheus.istio.io/merge-metrics": "false"}, {"a.prometheus.io/b": ""}]
)
def test_other_words_are_no_scrape(own):
    """Only the prefix counts."""
    assert annotations(by_webhook(Row(id="", pod=pod(annotations=own)), TOLD)[0]) == own | OURS


def test_a_namespace_asks_for_its_pods():
    """Below the pod's own word; what a namespace says to Prometheus itself is nothing that a pod has."""
    around = Around(namespace_annotations={ASKED: "true", "prometheus.io/scrape": "false"})
    made = inject(pod(), HOUSE, "shop", around=around)
    assert isinstance(made, Injected)
    assert annotations(made.pod) == OURS
    made = inject(pod(annotations={ASKED: "false"}), HOUSE, "shop", around=around)
    assert isinstance(made, Injected)
    assert annotations(made.pod) == {}


def test_beside_a_mesh():
    """The mesh's annotation and the scrape's stand side by side."""
    made, _ = by_webhook(Row(id="", pod=pod(initContainers=[{**ISTIO, "restartPolicy": "Always"}])), TOLD)
    assert annotations(made) == OURS | {"traffic.sidecar.istio.io/excludeInboundPorts": "29900"}


DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  annotations: {prometheus.io/scrape: "false"}
spec:
  template:
    metadata:  # of pods
      labels: {drainproxy.io/inject: "true"}
WRITTEN    spec:
      containers:
        - name: app
          image: example/app:1
          ports: [{name: http, containerPort: 8080}]
"""


@pytest.mark.parametrize(
    ("written", "own"),
    [
        ("", {}),
        ("      annotations:\n", {}),
        ("      annotations: {}\n", {}),
        ("      annotations: {note: x}\n", {"note": "x"}),
        ("      annotations: {note: x,}\n", {"note": "x"}),
        ("      annotations: &a {note: x}\n", {"note": "x"}),
        ("      annotations:\n        note: x  # why\n", {"note": "x"}),
    ],
    ids=repr,
)
def test_a_workload_says_it_of_its_pods(written, own):
    """In the template, by which pods are found, and never of the workload; every other line stays."""
    before = DEPLOYMENT.replace("WRITTEN", written)
    [document] = read([("", before)], TOLD, every=False).documents
    made = yaml.safe_load(document.after)
    assert annotations(made) == {"prometheus.io/scrape": "false"}
    assert annotations(made["spec"]["template"]) == own | OURS
    lines = document.after.splitlines()
    assert [line for line in before.splitlines() if "#" in line and line not in lines] == []


@pytest.mark.parametrize("written", ["true", "!!bool yes", "~", '"false"'])
def test_what_a_file_says_of_its_scrape_stays_however_it_is_written(written):
    """A word that is no string is none that Kubernetes takes, and all the same somebody's wish."""
    own = f"      annotations: {{prometheus.io/scrape: {written}}}\n"
    [document] = read([("", DEPLOYMENT.replace("WRITTEN", own))], TOLD, every=False).documents
    assert own in document.after
    [workload] = document.workloads
    assert workload.injected.said.count(KEPT) == 1
