"""The dashboard's file is what its table says."""

from __future__ import annotations

import importlib.util
import json

import pytest
import yaml

from tests.chart.rendering import ROOT, documents, one


@pytest.fixture(scope="module")
def source():
    """helm/dashboard.py as a module."""
    spec = importlib.util.spec_from_file_location("dashboard", ROOT / "helm" / "dashboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_up_to_date(source):
    """If not, run `python helm/dashboard.py`."""
    assert source.FILE.read_text("utf-8") == source.text()


def test_grafana_gets_the_file_as_it_is(source):
    """The ConfigMap carries the very JSON, under the label by which Grafana's sidecar finds it."""
    found = one(documents({"monitoring": {"dashboard": {"enabled": True}}}), "ConfigMap")
    assert json.loads(found["data"]["drainproxy.json"]) == source.dashboard()
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert len(yaml.safe_dump(found)) < 500_000, "a ConfigMap holds a megabyte"


def test_the_links_lead_where_the_values_say(source):
    """To the runbooks that alerts name too, and from a pod to its logs."""
    rule = {"runbookUrl": "https://wiki.example/drainproxy#"}
    dashboard = {"enabled": True, "logsUrl": "https://logs.example/?pod="}
    found = one(documents({"monitoring": {"dashboard": dashboard, "prometheusRule": rule}}), "ConfigMap")
    shown = json.loads(found["data"]["drainproxy.json"])
    own = {each["name"]: each for each in shown["templating"]["list"]}
    for name, address in (("runbooks", rule["runbookUrl"]), ("logs", dashboard["logsUrl"])):
        assert own[name]["query"] == own[name]["current"]["value"] == address
    assert [link["url"] for link in shown["links"]] == ["$runbooks", "$logs"]
    (table,) = (panel for panel in shown["panels"] if panel["type"] == "table")
    (column,) = (each for each in table["fieldConfig"]["overrides"] if each["matcher"]["options"] == "pod")
    assert column["properties"][0]["value"][0]["url"] == "${logs}${__value.text}"
    for each in shown["templating"]["list"]:
        if each["name"] in {"runbooks", "logs"}:
            each |= {"query": "", "current": {}}
    plain = source.dashboard()
    for each in plain["templating"]["list"]:
        if each["name"] in {"runbooks", "logs"}:
            each |= {"query": "", "current": {}}
    assert shown == plain, "nothing else differs"


def test_the_first_number_is_what_the_caller_saw(source):
    """A dead proxy cannot count its own losses: the balancer's count stands first, then the pods' own."""
    shown = [each for each in source.dashboard()["panels"] if each["type"] != "row"]
    titles = [each["title"] for each in shown if each["type"] == "stat"]
    assert [each["title"] for each in shown[: len(titles)]] == titles
    assert titles == [
        "5xx that callers saw", "Pods that drained", "Lost", "Cut or timed out", "Refused", "Told to leave",
    ]  # fmt: skip
    assert shown[len(titles)]["type"] == "table"
    (callers,) = (each for each in source.dashboard()["templating"]["list"] if each["name"] == "caller")
    names = [each.partition(" : ")[0] for each in callers["query"].split(", ")]
    assert names == list(source.CALLERS), "Grafana cuts a list at its commas"
    for caller in (
        "ALB",
        "ingress-nginx",
        "Envoy Gateway",
        "Istio",
        "Linkerd",
        "Traefik",
        "Contour",
        "HAProxy",
    ):
        assert caller in callers["query"]


def test_panels_do_not_overlap(source):
    """Each cell of the grid belongs to one panel."""
    taken = set()
    for each in source.dashboard()["panels"]:
        place = each["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells


def test_the_manual_says_of_each_caller_who_names_its_series(source):
    """Each has its row, with where the name was looked up: a name that nobody has read is a guess."""
    manual = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    rows = {}
    for line in manual.splitlines():
        cells = line.strip("|").split(" | ")
        if len(cells) == 4 and cells[1].startswith("`"):
            rows[cells[1].strip("`")] = cells[2]
    for metric, _, _ in source.CALLERS.values():
        assert "](https://" in rows[metric], metric
