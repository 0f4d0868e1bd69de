"""docs/compatibility.md says what the project's files say, and no text names a package that is not ours."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.image.engine import ROOT

PAGE = (ROOT / "docs" / "compatibility.md").read_text()
ROWS = {
    cells[0].lstrip("\N{EN DASH} "): cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| ") and (cells := [cell.strip() for cell in line.strip("|").split("|")])
}
TEXTS = sorted(
    path
    for folder in ("docs", "drainproxy", "helm", "manifests", ".github", "image", "release", "cluster")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".md", ".py", ".txt", ".tpl", ".yaml", ".yml"} and "__pycache__" not in path.parts
)


def test_the_oldest_kubernetes_is_the_charts():
    """And the policy's is the one from which the chart takes it."""
    chart = yaml.safe_load((ROOT / "helm/drainproxy/Chart.yaml").read_text())
    oldest = re.match(r">=(\d+\.\d+)\.0-0$", chart["kubeVersion"])[1]
    assert ROWS["Kubernetes"][0].startswith(f"{oldest} and newer")
    helpers = "".join(path.read_text() for path in (ROOT / "helm/drainproxy/templates").rglob("*.tpl"))
    policy = re.match(r"(1\.\d+) and newer", ROWS["the MutatingAdmissionPolicy"][0])[1]
    assert policy in helpers


def test_the_clusters_are_the_workflows():
    """The three newest minors, of which the page says that they are tried there."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/cluster.yml").read_text())["jobs"]
    rows = jobs["kind"]["strategy"]["matrix"]["include"]
    minors = sorted({re.match(r"v(1\.\d+)\.", row["kubernetes"])[1] for row in rows})
    assert f"has {', '.join(minors[:-1])} and {minors[-1]} in kind" in ROWS["Kubernetes"][1]
    assert len(minors) == 3
    by_policy = {row["kubernetes"] for row in rows if row["mode"] == "policy"}
    assert by_policy == {row["kubernetes"] for row in rows if row["kubernetes"] >= "v1.36"}


def test_the_schemas_are_those_of_the_tests():
    """Rendered objects are held against each."""
    from tests.chart.standards import VERSIONS

    oldest, named, newest = VERSIONS
    assert f"schemas of {oldest}, {named} and {'.'.join(newest.split('.')[:2])}" in ROWS["Kubernetes"][1]


def test_the_pythons_are_the_packages():
    """Each one of its classifiers."""
    said = re.findall(r'"Programming Language :: Python :: (\d\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert ROWS["Python"][0] == ", ".join(said)


def test_each_version_has_its_upgrade_notes():
    """The one that is being made, and each that the changelog has released."""
    version = re.search(
        r'^__version__ = "(.+)"$', (ROOT / "drainproxy/__init__.py").read_text(), re.MULTILINE
    )[1]
    released = re.findall(r"^## (\d+\.\d+\.\d+) - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    notes = re.findall(r"^### (\S+)$", PAGE.partition("## Upgrade notes")[2], re.MULTILINE)
    assert {version, *released} == set(notes)


@pytest.mark.parametrize("path", [*TEXTS, ROOT / "README.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_is_told_to_install_a_name_that_is_not_ours(path):
    """Until this project has published it, that name may be anybody's: a checkout is installed."""
    told = re.compile(
        r"(?:pipx?3? install|uv pip install|uv add|uvx|pipx run)\s+(?:-\S+\s+)*['\"]?drainproxy\b(?!/)"
    )
    assert told.findall(path.read_text("utf-8")) == []
    assert told.search("pip install --upgrade 'drainproxy[tracing]'")
