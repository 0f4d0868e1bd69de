"""`make cluster`: what it asks of a cluster, what it says of it, and that it leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.image.engine import ROOT
from tests.support.command import drainproxy

RUN = ROOT / "cluster" / "run.py"
IMAGE = "registry.example/drainproxy:1.2.3"
EMPTY = {"pods": {}, "namespaces": ["default"], "callers": [], "deleted": [], "number": 2, "said": []}


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script as a module, with kubectl and helm of the test's, and no second to wait."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("kubectl", "helm"):
        text = (Path(__file__).with_name("tools.py")).read_text()
        (tools / name).write_text(f"#!{sys.executable}\n{text}")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("STATE", str(tmp_path / "state"))
    (tmp_path / "state").write_text(json.dumps(EMPTY))
    (tmp_path / "kubeconfig").touch()
    spec = importlib.util.spec_from_file_location("cluster_run", RUN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    monkeypatch.setattr(module.Cluster, "check", lambda *_: "")
    return module


@pytest.fixture
def attempt(script, tmp_path):
    """Run it; return its exit code and what the cluster has become."""

    def run(*more: str) -> tuple[int, dict]:
        words = (
            "--kubeconfig",
            str(tmp_path / "kubeconfig"),
            "--image",
            IMAGE,
            "--logs",
            str(tmp_path / "logs"),
        )
        code = script.main([*words, "--replacements", "6", *more])
        return code, json.loads((tmp_path / "state").read_text())

    return run


def test_a_cluster_where_all_is_well(attempt, tmp_path, capsys):
    """Chart, three applications under load, pods replaced in turn, all deleted; logs of the pods stay."""
    code, state = attempt()
    assert code == 0, capsys.readouterr().err
    assert state["namespaces"] == ["default"]
    replaced = Counter(name.rpartition("-")[0] for name in state["deleted"])
    assert replaced == {"named": 2, "told": 2, "unread": 2}
    assert len(state["callers"]) == 3
    assert {path.stem for path in (tmp_path / "logs").iterdir()} == set(state["deleted"])
    (install,) = [said for said in state["said"] if said[:2] == ["helm", "install"]]
    for value in (
        "image.repository=registry.example/drainproxy",
        "image.tag=1.2.3",
        "injection.mode=webhook",
    ):
        assert value in install
    assert ["helm", "uninstall"] in [said[:2] for said in state["said"]]
    assert capsys.readouterr().out.endswith("cluster: good\n")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("unreachable", "The connection to the server 192.0.2.1:6443 was refused"),
        ("no sidecar", "named-1 has no sidecar; it has application"),
        ("rollout", "timed out waiting for the condition"),
        ("lost told", "told has lost 3 of 500"),
        ("silent", "nobody has called named"),
        ("cut", "a report says {'lost': 0, 'cut': 1}"),
        ("no report", "has no drain_report"),
        ("stuck", "is left"),
    ],
)
def test_what_goes_wrong_is_said_and_cleaned_up(attempt, monkeypatch, capsys, fault, sentence):
    """One sentence, exit code 1, and but for a namespace that does not go, nothing is left."""
    monkeypatch.setenv("FAULT", fault)
    code, state = attempt()
    assert code == 1
    assert sentence in capsys.readouterr().err
    assert fault == "stuck" or state["namespaces"] == ["default"]


def test_a_command_that_hangs_is_given_up(script, attempt, monkeypatch, capsys):
    """Each one has its time."""
    monkeypatch.setenv("FAULT", "hang")
    monkeypatch.setitem(script.Cluster.kubectl.__kwdefaults__, "timeout_s", 2)
    code, state = attempt()
    assert code == 1
    assert "no end within 2 s" in capsys.readouterr().err
    assert state["namespaces"] == ["default"]


def test_without_a_cluster_it_says_so(script, tmp_path, capsys):
    """No kubeconfig, and no kubectl."""
    assert script.main(["--kubeconfig", str(tmp_path / "none"), "--image", IMAGE]) == 1
    assert (
        capsys.readouterr().err == f"cluster: {tmp_path / 'none'} is no file: make cluster KUBECONFIG=file\n"
    )
    shutil.rmtree(tmp_path / "bin")
    words = ["--kubeconfig", str(tmp_path / "kubeconfig"), "--image", IMAGE, "--logs", str(tmp_path / "logs")]
    assert script.main(words) == 1
    assert capsys.readouterr().err == "cluster: kubectl is not installed\n"


def test_the_applications_are_injected_in_three_ways(tmp_path):
    """A port by its name, one that the application is told, one passed on unread."""
    text = (ROOT / "cluster" / "applications.yaml").read_text()
    (tmp_path / "apps.yaml").write_text(text.replace("NAMESPACE", "shop").replace("IMAGE", IMAGE))
    done = drainproxy("inject", "--all", "-f", str(tmp_path / "apps.yaml"), "--image", IMAGE)
    assert done.returncode == 0, done.stderr
    documents = [each for each in yaml.safe_load_all(done.stdout) if each]
    deployments = [each for each in documents if each["kind"] == "Deployment"]
    assert [each["metadata"]["name"] for each in deployments] == ["named", "told", "unread"]
    for each in deployments:
        spec = each["spec"]["template"]["spec"]
        containers = [*spec.get("initContainers", []), *spec["containers"]]
        assert {one["name"] for one in containers} == {"application", "drainproxy"}
    script = next(each["data"]["application.py"] for each in documents if each["kind"] == "ConfigMap")
    compile(script, "application.py", "exec")
