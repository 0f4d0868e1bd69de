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


def test_the_first_row_is_what_the_caller_saw(source):
    """A dead proxy cannot count its own losses: the balancer's count stands first."""
    rows = [each["title"] for each in source.dashboard()["panels"] if each["type"] == "row"]
    assert rows[0] == "What callers saw"
    assert all("," not in query for query in source.CALLERS.values()), "Grafana cuts a list at its commas"


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
