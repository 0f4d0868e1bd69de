"""Whatever YAML the manual shows is real: an API server takes it, and what asks for the sidecar gets it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from drainproxy.cli.wiring import wiring
from drainproxy.injector.manifest import Stream, read
from drainproxy.kube.lint import spec_problems
from drainproxy.podspec import sidecar
from tests.chart.standards import OTHERS, assert_valid, breaches
from tests.injector.pods import app, pod
from tests.injector.ways import HOUSE
from tests.test_docs import ROOT, documents

if TYPE_CHECKING:
    from collections.abc import Iterator

cel = pytest.importorskip(
    "cel_expr_python.cel", reason="cel-expr-python is not installed; make .venv/group-deploy"
)

BLOCK = re.compile(r"^(?:<!-- yaml: ([\w-]+) -->\n\n)?```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITHOUT_SCHEMA = OTHERS | {
    ("kyverno.io/v1", "ClusterPolicy"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("argoproj.io/v1alpha1", "Rollout"),
    ("flagger.app/v1beta1", "Canary"),
}
LABEL = "drainproxy.io/inject"


def blocks() -> Iterator[tuple[str, str]]:
    """Yield each block of the manual that has YAML, with a name for it."""
    for path in documents():
        if "helm" in path.parts:
            continue
        for name, text in BLOCK.findall(path.read_text("utf-8")):
            line = path.read_text("utf-8").count("\n", 0, path.read_text("utf-8").index(text))
            yield f"{path.relative_to(ROOT)}:{name or line}", text


BLOCKS = dict(blocks())
SIDECARS = {name: text for name, text in BLOCKS.items() if f"{LABEL}:" in text and "containers:" in text}


def shown(page: str, name: str) -> list[dict[str, Any]]:
    """Return the documents of a named block."""
    return list(yaml.safe_load_all(BLOCKS[f"docs/{page}.md:{name}"]))


def injected(text: str) -> tuple[Stream, dict[str, Any]]:
    """Return what becomes of a block with one workload, and the workload's pod."""
    stream = read([("shown.yaml", text)], HOUSE, every=False)
    [workload] = stream.workloads
    assert workload.injected, workload.refusal
    return stream, workload.injected.pod


@pytest.mark.parametrize("text", BLOCKS.values(), ids=BLOCKS)
def test_yaml_that_is_shown_is_an_object_of_kubernetes(text):
    """By Kubernetes' own schemas, unknown fields included, where it is a whole object."""
    found = [each for each in yaml.safe_load_all(text) if each]
    assert found
    whole = [each for each in found if isinstance(each, dict) and {"apiVersion", "kind"} <= each.keys()]
    assert_valid(each for each in whole if (each["apiVersion"], each["kind"]) not in WITHOUT_SCHEMA)


def test_there_are_examples_for_each_platform_that_needs_one():
    """A page that shows none is not looked at here."""
    names = {name.rpartition(":")[2] for name in SIDECARS}
    assert names >= {
        *("alb", "nlb", "gce-neg", "agic", "openshift", "gateway"),
        *("llm", "websockets", "grpc"),
    }


@pytest.mark.parametrize("text", SIDECARS.values(), ids=SIDECARS)
def test_a_workload_that_is_shown_gets_a_sidecar_that_fits(text):
    """Nothing around it leads elsewhere or is doubtful, and its grace period is the sum that it needs."""
    [asked] = [each for each in yaml.safe_load_all(text) if each["kind"] in {"Deployment", "Rollout"}]
    stream, made = injected(text)
    assert list(stream.said()) == []
    ours, native = sidecar(made["spec"])
    meant = wiring(ours)
    assert native
    assert meant.warnings == ()
    assert spec_problems(made["spec"], meant.lifecycle.grace_period, meant.rules.max_s) == []
    # Nothing has to be raised, so that what the page says is what runs.
    grace = asked["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert made["spec"]["terminationGracePeriodSeconds"] == grace
    needed = meant.budget().needed_s
    longest = 120 if "model" in text else 0
    assert grace == (needed if not longest else meant.rules.max_s + longest + 5 + 3)


@pytest.mark.parametrize("text", SIDECARS.values(), ids=SIDECARS)
def test_whoever_leads_to_a_workload_that_is_shown_leads_to_its_sidecar(text):
    """Routes and Ingresses name the Service, the Service a port that the sidecar has by then."""
    found = {each["kind"]: each for each in yaml.safe_load_all(text)}
    _, made = injected(text)
    if (service := found.get("Service")) is None:
        return
    ours, _ = sidecar(made["spec"])
    ports = service["spec"]["ports"]
    assert {each["targetPort"] for each in ports} <= {each.get("name") for each in ours["ports"]}
    assert (
        service["spec"]["selector"].items()
        <= found["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    )
    backends = [
        {"name": each["backend"]["service"]["name"], "port": each["backend"]["service"]["port"]["name"]}
        for rule in found.get("Ingress", {"spec": {"rules": []}})["spec"]["rules"]
        for each in rule["http"]["paths"]
    ]
    backends += [
        each
        for rule in found.get("HTTPRoute", {"spec": {"rules": []}})["spec"]["rules"]
        for each in rule["backendRefs"]
    ]
    for backend in backends:
        assert backend["name"] == service["metadata"]["name"]
        assert backend["port"] in {each[key] for each in ports for key in ("name", "port")}


def test_on_openshift_the_user_is_the_platforms():
    """And all else that restricted-v2 asks for is there, as the restricted standard asks for it too."""
    (text,) = (text for name, text in SIDECARS.items() if name.endswith(":openshift"))
    _, made = injected(text)
    ours, _ = sidecar(made["spec"])
    assert {"runAsUser", "runAsGroup"}.isdisjoint(ours["securityContext"])
    assert breaches(made["spec"], ours="drainproxy") == []


ROW = re.compile(r"^\| [^|]*\| (`[a-z-]+`[^|]*) \| (\d+) \|", re.MULTILINE)


def test_the_grace_periods_of_the_platforms_are_the_sums_of_their_presets():
    """As injection would raise them."""
    rows = ROW.findall((ROOT / "docs/platforms.md").read_text("utf-8"))
    assert len(rows) >= 9
    for preset, seconds in rows:
        name, *settings = re.findall(r"`([^`]+)`", preset)
        annotations = {"drainproxy.io/propagation": name}
        for setting in settings:
            key, text = setting.split(": ")
            annotations[f"drainproxy.io/{key.replace('_', '-')}"] = text
        asked = pod(app("app", ("http", 8080)), annotations=annotations)
        _, made = injected(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", **asked}))
        assert made["spec"].get("terminationGracePeriodSeconds", 30) == int(seconds), preset


def test_what_kyvernos_policy_adds_is_what_injection_looks_for():
    """Its label goes to the template, and leaves one alone that says no."""
    [policy] = shown("platforms/kyverno", "ask")
    [rule] = policy["spec"]["rules"]
    added = rule["mutate"]["patchStrategicMerge"]["spec"]["template"]["metadata"]["labels"]
    assert added == {f"+({LABEL})": "true"}
    [deployment] = [each for each in shown("platforms/eks", "alb") if each["kind"] == "Deployment"]
    assert deployment["kind"] in rule["match"]["any"][0]["resources"]["kinds"]
    assert deployment["spec"]["template"]["metadata"]["labels"].pop(LABEL) == "true"
    [workload] = read([("", yaml.safe_dump(deployment))], HOUSE, every=False).workloads
    assert workload.why_not.startswith(f"no label {LABEL}")
    deployment["spec"]["template"]["metadata"]["labels"][LABEL] = added[f"+({LABEL})"]
    injected(yaml.safe_dump(deployment))


def test_kyvernos_other_policy_misses_the_sidecar_where_it_is_missing():
    """Native or plain, it is found; a pod that could not have it is named."""
    [policy] = shown("platforms/kyverno", "miss")
    [rule] = policy["spec"]["rules"]
    assert rule["match"]["any"][0]["resources"]["selector"] == {"matchLabels": {LABEL: "true"}}
    [entry] = rule["validate"]["cel"]["expressions"]
    program = cel.NewEnv(variables={"object": cel.Type.DYN}).compile(entry["expression"])

    def has_it(made: dict[str, Any]) -> bool:
        return program.eval(data={"object": made}).value() is True

    for mode in ("native", "plain"):
        asked = pod(app("app", ("http", 8080)), annotations={"drainproxy.io/mode": mode})
        asked = {"apiVersion": "v1", "kind": "Pod", **asked}
        assert not has_it(asked)
        assert has_it(injected(yaml.safe_dump(asked))[1])
    refused = {"apiVersion": "v1", "kind": "Pod", **pod(app("app", ("redis", 6379)))}
    [workload] = read([("", yaml.safe_dump(refused))], HOUSE, every=False).workloads
    assert workload.refusal
    assert not has_it(refused)


def test_what_policies_meet_in_the_sidecar_is_what_kyvernos_page_says():
    """Requests, a limit of memory and none of CPU, no liveness probe, no volume but the token's."""
    asked = pod(app("app", ("http", 8080)))
    _, made = injected(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", **asked}))
    ours, _ = sidecar(made["spec"])
    assert ours["resources"]["requests"].keys() == {"cpu", "memory"}
    assert ours["resources"]["limits"].keys() == {"memory"}
    assert {each for each in ours if each.endswith("Probe")} == {"startupProbe", "readinessProbe"}
    assert ours["securityContext"]["readOnlyRootFilesystem"] is True
    assert [each.keys() for each in made["spec"]["volumes"]] == [{"name", "projected"}]
