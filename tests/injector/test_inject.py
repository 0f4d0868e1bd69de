"""`drainproxy inject` changes the lines in question and no others."""

from __future__ import annotations

import difflib
from dataclasses import replace

import pytest
import yaml

from drainproxy.errors import InjectionRefused
from drainproxy.injector.manifest import process, read
from drainproxy.injector.patch import Injected, inject
from tests.injector.pods import app, wished
from tests.injector.ways import HOUSE
from tests.support.command import drainproxy

DEPLOYMENT = """\
# The shop's front.
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}   # flow stays flow
spec:
  replicas: 3
  template:
    metadata:
      labels:
        app: "web"   # quotes stay
        drainproxy.io/inject: "true"
    spec:
      containers:
        - name: app
          image: example/app:1
          ports:
            - name: http   # what Services call it
              containerPort: 8080
          readinessProbe:
            httpGet: {path: /, port: http}
      # after the containers
      nodeSelector: {disk: ssd}
# the end
"""
OTHERS = [
    "",
    "# only a comment\n",
    "kind: [this is\n  no: YAML",
    "apiVersion: v1\nkind:   Service\nmetadata:\n    name:   'odd'\n",
    "{{- if .Values.x }}\nkind: Deployment\n{{- end }}\n",
    "just text\r\nwith kind of line ends\r\n",
    DEPLOYMENT.replace('"true"', '"false"'),
]


def out(text: str, **how) -> str:
    return "".join(each.after for each in process(text, HOUSE, every=how.get("every", False)))


@pytest.mark.parametrize("text", OTHERS, ids=range(len(OTHERS)))
def test_untouched(text):
    """What is no workload that asks stays byte for byte, alone and beside one that does."""
    assert out(text) == text
    both = f"---\n{text}\n---\n{DEPLOYMENT}"
    assert out(both) == f"---\n{text}\n---\n{out(DEPLOYMENT)}"


def test_only_what_changes():
    """Three lines go, comments stay, and everything else is added."""
    lines = [*difflib.ndiff(DEPLOYMENT.splitlines(), out(DEPLOYMENT).splitlines())]
    gone = [line[2:].strip() for line in lines if line.startswith("- ")]
    assert gone == ["- name: http   # what Services call it", "httpGet: {path: /, port: http}"]
    assert "#what Services call it" in out(DEPLOYMENT).replace("# ", "#")
    assert out(out(DEPLOYMENT)) == out(DEPLOYMENT)


def test_what_a_drain_asks_of_streams_is_an_annotation():
    """As every setting is; a word that it does not know leaves the pod as it is."""
    asked = """      annotations:
        drainproxy.io/streams: finish
        drainproxy.io/websockets: finish
"""
    wished = DEPLOYMENT.replace("    spec:\n      containers", f"{asked}    spec:\n      containers")
    pod = yaml.safe_load(out(wished))["spec"]["template"]["spec"]
    env = {each["name"]: each.get("value") for each in pod["initContainers"][-1]["env"]}
    assert (env["DRAINPROXY_STREAMS"], env["DRAINPROXY_WEBSOCKETS"]) == ("finish", "finish")
    wrong = wished.replace("streams: finish", "streams: stay")
    (workload,) = [each for document in process(wrong, HOUSE, every=False) for each in document.workloads]
    assert workload.injected is None
    assert "drainproxy.io/streams" in str(workload.refusal)


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod", "List"])
def test_kinds(kind):
    """Every kind of workload gets the sidecar where its pod is, and JSON is YAML."""
    template = yaml.safe_load(DEPLOYMENT)["spec"]["template"]
    group = {"Job": "batch/v1", "CronJob": "batch/v1", "Pod": "v1"}.get(kind, "apps/v1")
    thing = {"apiVersion": group, "kind": kind, "metadata": {"name": "x"}, "spec": {"template": template}}
    if kind == "CronJob":
        thing["spec"] = {"jobTemplate": {"spec": {"template": template}}}
    if kind == "Pod":
        thing = {**thing, **template}
    if kind == "List":
        thing = {
            "apiVersion": "v1",
            "kind": "List",
            "items": [{**thing, "kind": "Deployment"}, {"kind": "X"}],
        }
    made = yaml.safe_load(out(yaml.safe_dump(thing)))
    assert str(made).count("'restartPolicy': 'Always'") == 1


def test_anchors():
    """An anchor that somebody else refers to stays where it is, and so do the references."""
    text = DEPLOYMENT.replace("          ports:\n", "          ports: &p\n").replace(
        "      # after",
        "        - {name: b, image: b, env: &e []}\n        - {name: c, image: c, env: *e}\n      # after",
    )
    assert yaml.safe_load(out(text))["spec"]["template"]["spec"]["initContainers"]
    assert "env: *e" in out(text)


def test_command(tmp_path):
    """The manifest goes to standard output, what to know to standard error; --check explains instead."""
    file = tmp_path / "web.yaml"
    file.write_text(DEPLOYMENT)
    done = drainproxy("inject", "-f", str(file), "--set", "propagation=alb")
    assert (done.returncode, yaml.safe_load(done.stdout)["kind"]) == (0, "Deployment")
    assert "Deployment/web: terminationGracePeriodSeconds is raised from 30 to 105" in done.stderr
    checked = drainproxy("inject", "--check", "-f", str(file))
    assert checked.returncode == 0
    for said in ("+        drainproxy.io/injected: 'true'", "port http 28080 -> drainproxy -> http://127.0.0.1:8080",
                 "From SIGTERM to SIGKILL the pod has 30s", "The way back: kubectl apply -f"):  # fmt: skip
        assert said in checked.stdout


def test_command_refuses(tmp_path):
    """A workload that asks and cannot have it passes through, named, with exit code 1; wrong words are 64."""
    file = tmp_path / "web.yaml"
    file.write_text(DEPLOYMENT.replace("name: http ", "name: db ").replace("port: http", "port: 1"))
    done = drainproxy("inject", "-f", str(file))
    assert (done.returncode, done.stdout) == (1, file.read_text())
    assert "Deployment/web: stays as it is: no container port says that it speaks HTTP" in done.stderr
    assert drainproxy("inject", "-f", f"{tmp_path}/none.yaml").returncode == 64
    assert drainproxy("inject", "-f", str(file), "--set", "propogation=alb").returncode == 64


def test_keys_that_are_no_words():
    """A key that YAML reads as a number or as a truth is no reason to stop."""
    text = DEPLOYMENT.replace("{disk: ssd}", "{1: a, on: b}")
    assert "{1: a, on: b}" in out(text)
    assert "initContainers" in out(text)


@pytest.mark.parametrize(
    ("target", "around"),
    [("targetPort: 8080", True), ("targetPort: http", False), ("name: x", True)],
    ids=["a number", "the name", "nothing said"],
)
def test_a_service_that_goes_around_the_sidecar(target, around, tmp_path):
    """A number, or no targetPort at all, leads to the application: it is named, with what to write there."""
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n"
    service += f"  selector: {{app: web}}\n  ports: [{{port: 8080, {target}}}]\n"
    other = service.replace("app: web", "app: other").replace(target, "targetPort: 8080")
    file = tmp_path / "web.yaml"
    file.write_text(f"{DEPLOYMENT}---\n{service}---\n{other}")
    said = "Service/shop: targetPort 8080 goes around Deployment/web's sidecar: write http\n"
    done = drainproxy("inject", "-f", str(file))
    assert (done.returncode, done.stderr.count(said), done.stderr.count("around")) == (0, around, around)
    checked = drainproxy("inject", "--check", "-f", str(file))
    assert (checked.returncode, checked.stdout.count(said)) == (around, around)


@pytest.mark.parametrize(
    ("workload", "service", "around"),
    [("shop", "shop", True), ("shop", "", True), ("", "shop", True), ("shop", "other", False)],
    ids=["the same", "the Service's unsaid", "the workload's unsaid", "another"],
)
def test_a_service_of_another_namespace_goes_around_nobody(workload, service, around):
    """It chooses pods of its own namespace alone; where one is not said it may be any."""
    deployment = DEPLOYMENT.replace("{name: web}", f"{{name: web, namespace: {workload}}}")
    other = f"apiVersion: v1\nkind: Service\nmetadata: {{name: shop, namespace: {service}}}\nspec:\n"
    other += "  selector: {app: web}\n  ports: [{port: 8080}]\n"
    stream = read([("", f"{deployment}---\n{other}")], HOUSE, every=False)
    assert len(list(stream.said())) == around


@pytest.mark.parametrize("depth", [200, 400, 800])
def test_what_is_nested_deeply_passes_through(depth):
    """However deep; what can be changed is, and nothing ends with a traceback."""
    deep = "[" * depth + "]" * depth
    text = DEPLOYMENT.replace("nodeSelector: {disk: ssd}", f"nodeSelector: {deep}")
    assert deep in out(text)
    assert out(text.replace('"true"', '"false"')) == text.replace('"true"', '"false"')


def test_line_ends_stay_what_they_are():
    """All of one kind, or mixed by somebody's editor."""
    windows = DEPLOYMENT.replace("\n", "\r\n")
    assert out(windows) == out(DEPLOYMENT).replace("\n", "\r\n")
    mixed = DEPLOYMENT.replace("replicas: 3\n", "replicas: 3\r\n")
    assert out(mixed) == out(DEPLOYMENT).replace("replicas: 3\n", "replicas: 3\r\n")


@pytest.mark.parametrize("way", ["named", "env"])
@pytest.mark.parametrize(
    ("kubernetes", "mode", "becomes"),
    [
        (None, "native", "told"),
        ((1, 32), "native", "refused"),
        ((1, 29), "native", "refused"),
        ((1, 33), "native", "injected"),
        ((1, 36), "native", "injected"),
        ((1, 32), "plain", "injected"),
        (None, "plain", "injected"),
    ],
)
def test_no_service_loses_a_ports_name_without_a_word(kubernetes, mode, becomes, way):
    """Until 1.33 the EndpointSlice controller looks for a targetPort's name in `containers` only."""
    env = {"app_port_env": "PORT"} if way == "env" else {}
    defaults = replace(HOUSE, kubernetes=kubernetes)
    if becomes == "refused":
        with pytest.raises(InjectionRefused) as caught:
            inject(wished(app(), mode=mode, **env), defaults, unasked=True)
        assert "1.33: set drainproxy.io/mode: plain" in str(caught.value.problems)
        return
    done = inject(wished(app(), mode=mode, **env), defaults, unasked=True)
    assert isinstance(done, Injected)
    assert any("before Kubernetes 1.33" in each for each in done.said) == (becomes == "told")


def test_a_port_that_has_no_name_is_no_matter_of_versions():
    """Services lead to its number."""
    done = inject(wished(app(), upstream_port="8080"), replace(HOUSE, kubernetes=(1, 29)), unasked=True)
    assert isinstance(done, Injected)


@pytest.mark.parametrize(
    ("text", "right"), [("1.33", True), ("v1.36.1-gke.1", True), ("new", False), ("1", False)]
)
def test_the_clusters_version_is_a_flag(text, right, tmp_path):
    """As `kubectl version` writes it."""
    (tmp_path / "web.yaml").write_text(DEPLOYMENT)
    done = drainproxy("inject", "-f", str(tmp_path / "web.yaml"), "--kubernetes", text)
    assert done.returncode == (0 if right else 64)
    assert ("1.33" in done.stderr) == (not right)
