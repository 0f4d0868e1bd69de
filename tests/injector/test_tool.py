"""`drainproxy inject` over files as people write them: several, in any style of YAML, with anything in it."""

from __future__ import annotations

import json

import pytest
import yaml

from drainproxy.injector.edit import LOADER
from drainproxy.injector.manifest import process, read
from tests.injector.test_inject import DEPLOYMENT, out
from tests.injector.ways import HOUSE
from tests.support.command import drainproxy

SHARED = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: &labels
    app: web
spec:
  selector:
    matchLabels: *labels
  template:
    metadata:
      labels: *labels   # the same
    spec:
      containers:
        - name: app
          image: example/app:1
          ports:
            - name: http
              containerPort: 8080
"""
CONTAINER = """\
  name: app
  image: example/app:1
  ports:
    - name: http
      containerPort: 8080
"""
BASE = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n"
PORTS = "        ports:\n        - {name: http, containerPort: 8080}\n"
STYLES = {
    "an alias for labels": SHARED,
    "an anchor in the template, used before": SHARED.replace("labels: &labels\n    app: web", "uid: x")
    .replace("matchLabels: *labels", "matchLabels: {app: web}")
    .replace("labels: *labels   # the same", "labels: &labels\n        app: web"),
    "an anchor in the template, used behind": SHARED.replace("labels: &labels\n    app: web", "uid: x")
    .replace("  selector:\n    matchLabels: *labels\n", "")
    .replace("labels: *labels   # the same", "labels: &labels\n        app: web")
    + "  selector:\n    matchLabels: *labels\n",
    "an alias for a container": f"x-app: &app\n{CONTAINER}{BASE}"
    "    metadata: {labels: {app: web}}\n    spec:\n      containers:\n        - *app\n",
    "an alias for the containers": f"x-app: &app\n- {CONTAINER.strip()}\n{BASE}"
    "    metadata: {labels: {app: web}}\n    spec: {containers: *app}\n",
    "a merged container": f"x-app: &app\n{CONTAINER}{BASE}    metadata: {{labels: {{app: web}}}}\n    spec:\n"
    "      containers:\n        - <<: *app\n          name: other\n",
    "a merged spec": "x-spec: &spec\n  containers:\n  - name: app\n    image: x\n    ports:\n"
    f"    - {{name: http, containerPort: 8080}}\n{BASE}    metadata: {{labels: {{app: web}}}}\n"
    "    spec:\n      <<: *spec\n      dnsPolicy: Default\n",
    "merged metadata": f"x-meta: &meta\n  labels: {{app: web}}\n{BASE}    metadata:\n      <<: *meta\n"
    f"    spec:\n      containers:\n      - name: app\n        image: x\n{PORTS}",
    "braces": "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web},\n spec: {template: {metadata:"
    " {labels: {app: web, }}, spec: {containers: [{name: app, image: x, ports: [{name: http,"
    " containerPort: 8080},]}]}}}}\n",
    "braces over lines": f"{BASE}    metadata: {{\n      labels: {{app: web}}, # here\n    }}\n"
    "    spec:\n      containers: [\n        {name: app, image: x,   # the app\n"
    "         ports: [{containerPort: 8080, name: http}]}, # last\n      ]\n",
    "words that one YAML reader takes and another does not": SHARED.replace("*labels", "{app: web}").replace(
        "          ports:", "          args: {path: /healthz?full=true}\n          ports:"
    ),
    "keys without values": SHARED.replace("*labels", "{app: web}")
    + "      volumes:\n      initContainers:   # none\n",
    "JSON": json.dumps(yaml.safe_load(SHARED), indent=2),
    "JSON on one line": json.dumps(yaml.safe_load(SHARED)),
    "a byte order mark": "\ufeff" + SHARED.replace("*labels", "{app: web}"),
    "a directive": "%YAML 1.1\n---\n" + SHARED,
    "tags": SHARED.replace("labels: *labels", "labels: !!map {app: web}").replace("8080", "!!int 8080"),
    "quoted keys": SHARED.replace("ports:", '"ports":').replace("labels: *labels", "'labels': *labels"),
    "an empty template": SHARED.replace("      labels: *labels   # the same\n", "      labels:\n"),
    "a document's end": SHARED + "...\n",
}


@pytest.mark.parametrize("text", STYLES.values(), ids=STYLES.keys())
def test_every_style_of_yaml(text):
    """The result says what the injector means, and whatever shares an anchor keeps its meaning."""
    made = out(text, every=True)
    (before,) = (each for each in yaml.load_all(text.removeprefix("\ufeff"), LOADER) if each)
    (after,) = (each for each in yaml.load_all(made.removeprefix("\ufeff"), LOADER) if each)
    pod = after["spec"]["template"]
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["drainproxy"]
    assert pod["metadata"]["labels"]["drainproxy.io/injected"] == "true"
    assert after["spec"].get("selector") == before["spec"].get("selector")
    assert after["metadata"] == before["metadata"]
    assert out(made, every=True) == made


@pytest.mark.parametrize(
    "volumes", ["[]", "[ ]", "[\n      ]", "[{name: a, emptyDir: {}},]", "&v []", "!!seq []"]
)
def test_several_things_go_into_brackets_at_once(volumes):
    """Nothing stands in them yet, or a comma does: two volumes need a comma between them all the same."""
    text = SHARED.replace("*labels", "{app: web}").replace(
        "metadata:\n      labels",
        "metadata:\n      annotations: {drainproxy.io/routes-config-map: r}\n      labels",
    )
    (made,) = yaml.safe_load_all(out(f"{text}      volumes: {volumes}\n", every=True))
    names = [each["name"] for each in made["spec"]["template"]["spec"]["volumes"]]
    assert names == [*(["a"] if "a" in volumes else []), "drainproxy-token", "drainproxy-routes"]


def test_only_what_must_be_written_out_is():
    """An alias that the change does not reach stays one, and comments stay where they are."""
    made = out(SHARED, every=True)
    assert "    matchLabels: *labels\n" in made
    assert "      labels:\n        app: web\n        drainproxy.io/injected: 'true'   # the same\n" in made


def test_what_cannot_be_changed_is_refused_with_its_line(tmp_path):
    """The file and the line stand before the reason; the document passes as it is."""
    file = tmp_path / "web.yaml"
    merged = f"{BASE}    metadata:\n      labels: &l\n        app: web\n    spec:\n      nodeSelector:\n"
    merged += "        <<: *l\n"
    merged += f"      containers:\n      - name: app\n        image: x\n{PORTS}"
    file.write_text(f"# first\n---\n{merged}")
    done = drainproxy("inject", "--all", "-f", str(file))
    assert (done.returncode, done.stdout) == (1, file.read_text())
    assert (
        f"{file}, line 13: the document cannot be changed: &l changes, and is merged elsewhere" in done.stderr
    )


def test_what_is_no_yaml_is_named_with_its_line(tmp_path):
    """And passes; what stands beside it is changed."""
    file = tmp_path / "web.yaml"
    broken = "kind: Deployment\nmetadata:\n  name: {{ .Values.name }}\n"
    file.write_text(f"{DEPLOYMENT}---\n{broken}")
    done = drainproxy("inject", "-f", str(file))
    assert done.returncode == 0
    assert done.stdout.endswith(broken)
    assert f"{file}, line {file.read_text().count(chr(10))}: no YAML, passed on as it is" in done.stderr


ODD = [
    b"services:\n  web: {image: x, kind: of}\n",
    b"kind: [a, b]\n",
    b"- kind: Deployment\n",
    b"kind: Deployment\napiVersion: apps/v1\nspec: 7\n",
    b"kind: Service\napiVersion: v1\nspec: {selector: [a], ports: {a: b}}\n",
    b"kind: Service\napiVersion: v1\nspec: {selector: {app: web}, ports: [7, {port: x}, {targetPort: {}}]}\n",
    b"kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nspec: {podSelector: 7, ingress: {a: b}}\n",
    b"kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nspec: {ingress: [7, {ports: [7], from: 7}]}\n",
    b"kind: HorizontalPodAutoscaler\napiVersion: autoscaling/v2\nspec: {scaleTargetRef: 7, metrics: [7]}\n",
    b"kind: Ingress\napiVersion: networking.k8s.io/v1\nmetadata: {annotations: 7}\nspec: [1]\n",
    b"kind: List\nitems: [7, {kind: List, items: {}}, null]\n",
    b"kind: DeploymentList\nitems: [{spec: {}}]\n",
    b"Resources: {A: !Ref kind}\n",
    b"kind: \xff\xfe latin \xe9\r\n",
    b"\xff\xfek\x00i\x00n\x00d\x00",
    b"kind: a\n? [complex, key]\n: value\n",
    b"kind: Kustomization\nresources: [a.yaml]\n",
    b"kind: a\nkind: b\n",
    b"kind: !!python/object/apply:os.system [x]\n",
    b"\t kind: tab\n",
    b"kind: a\n\x00",
]


@pytest.mark.parametrize("raw", ODD, ids=range(len(ODD)))
def test_what_is_not_kubernetes_passes_byte_for_byte(raw, tmp_path):
    """Of whatever shape, alone and beside a workload, and without a traceback."""
    (tmp_path / "odd").write_bytes(raw)
    (tmp_path / "web.yaml").write_text(DEPLOYMENT)
    done = drainproxy("inject", "--all", "-f", str(tmp_path / "odd"), text=False)
    assert done.stdout == raw
    assert b"Traceback" not in done.stderr
    both = drainproxy("inject", "-f", str(tmp_path / "web.yaml"), "-f", str(tmp_path / "odd"), text=False)
    assert both.stdout.endswith(raw)
    assert b"drainproxy.io/injected" in both.stdout
    assert b"Traceback" not in both.stderr


def test_several_files_are_one_stream(tmp_path):
    """In their order, each a document of its own; a Service in one is seen beside a workload in another."""
    (tmp_path / "web.yaml").write_text(DEPLOYMENT.removesuffix("\n"))
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n"
    service += "  selector: {app: web}\n  ports:\n    - port: 80\n      targetPort: 8080\n"
    (tmp_path / "service.yaml").write_text(service)
    (tmp_path / "more.yaml").write_text(f"---\n{service.replace('shop', 'more').replace('8080', 'http')}")
    files = [part for name in ("web", "service", "more") for part in ("-f", str(tmp_path / f"{name}.yaml"))]
    done = drainproxy("inject", *files)
    kinds = [each["kind"] for each in yaml.safe_load_all(done.stdout)]
    assert (done.returncode, kinds) == (0, ["Deployment", "Service", "Service"])
    assert f"{tmp_path}/service.yaml, line 8: Service/shop: targetPort 8080 goes around" in done.stderr
    assert "Service/more" not in done.stderr
    checked = drainproxy("inject", "--check", *files)
    assert checked.returncode == 1
    assert f"--- {tmp_path}/web.yaml\n" in checked.stdout
    assert f"The way back: kubectl apply -f {tmp_path}/web.yaml, as it is now" in checked.stdout


def test_a_file_without_its_flag_is_told_of_it(tmp_path):
    """Rather than waiting for standard input."""
    done = drainproxy("inject", "web.yaml")
    assert (done.returncode, done.stdout) == (64, "")
    assert "a file is named with -f; write drainproxy inject -f web.yaml" in done.stderr
    assert drainproxy("inject", "-f", "-", "-f", "-").returncode == 64
    done = drainproxy("inject", "-f", str(tmp_path))
    assert (done.returncode, done.stderr) == (64, f"drainproxy: {tmp_path}: Is a directory\n")


DATABASE = DEPLOYMENT.replace("name: web}", "name: db}").replace("name: http ", "name: redis ")
DATABASE = DATABASE.replace("8080", "6379").replace("{path: /, port: http}", "{}").replace("httpGet", "exec")
WORKER = DEPLOYMENT[: DEPLOYMENT.index("          ports:")]
HOST = DEPLOYMENT.replace("      nodeSelector", "      hostNetwork: true\n      nodeSelector")
JOB = DEPLOYMENT.replace("apps/v1", "batch/v1").replace("kind: Deployment", "kind: Job")
JOB = (
    JOB.replace("name: http ", "name: jobs ")
    .replace("{path: /, port: http}", "{}")
    .replace("httpGet", "exec")
)
TLS = DEPLOYMENT.replace("name: http ", "name: https ").replace("port: http}", "port: https}")


@pytest.mark.parametrize(
    ("text", "code"),
    [(DATABASE, 0), (WORKER, 0), (HOST, 0), (JOB, 0), (TLS, 1)],
    ids=["a database", "a worker", "of the node", "a Job", "with TLS"],
)
def test_all_means_all_that_have_callers(text, code, tmp_path):
    """What nobody has asked for and has no use for the sidecar is named, and no error; else it is one."""
    file = tmp_path / "some.yaml"
    file.write_text(text.replace('        drainproxy.io/inject: "true"\n', ""))
    done = drainproxy("inject", "--all", "-f", str(file))
    assert (done.returncode, done.stdout) == (code, file.read_text())
    assert "stays as it is" in done.stderr
    file.write_text(text)
    assert drainproxy("inject", "--all", "-f", str(file)).returncode == 1


OTHERS = {
    ("argoproj.io/v1alpha1", "Rollout"),
    ("apps.openshift.io/v1", "DeploymentConfig"),
    ("apps.kruise.io/v1alpha1", "CloneSet"),
    ("apps.kruise.io/v1beta1", "StatefulSet"),
    ("v1", "ReplicationController"),
}


@pytest.mark.parametrize(("version", "kind"), sorted(OTHERS))
def test_other_kinds_with_a_pod_template(version, kind):
    """Where it is the usual one."""
    text = DEPLOYMENT.replace("apps/v1", version).replace("kind: Deployment", f"kind: {kind}")
    assert "initContainers" in out(text)


LEFT_ALONE = {
    "Knative": (
        DEPLOYMENT.replace("apps/v1", "serving.knative.dev/v1").replace("kind: Deployment", "kind: Service"),
        "Service/web: stays as it is: Knative puts a proxy of its own before the application",
    ),
    "a Rollout of a Deployment": (
        (
            "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web}\n"
            "spec: {workloadRef: {apiVersion: apps/v1, kind: Deployment, name: shop}}\n"
        ),
        "Rollout/web: stays as it is: its pods are those of Deployment/shop: put the label there",
    ),
    "nobody knows": (
        DEPLOYMENT.replace("apps/v1", "example.io/v1").replace("kind: Deployment", "kind: Fleet"),
        "Fleet/web: stays as it is: a Fleet of example.io is not known",
    ),
}


@pytest.mark.parametrize(("text", "said"), LEFT_ALONE.values(), ids=LEFT_ALONE.keys())
def test_what_is_left_alone_is_said(text, said, tmp_path):
    """With the reason; where it asks by its label that is an error."""
    file = tmp_path / "web.yaml"
    file.write_text(text)
    done = drainproxy("inject", "-f", str(file))
    assert done.stdout == text
    assert said in done.stderr
    assert done.returncode == ('drainproxy.io/inject: "true"' in text)


def test_lists_whose_items_do_not_say_what_they_are():
    """As `kubectl get --output yaml` of an older client wrote them."""
    item = yaml.safe_load(DEPLOYMENT)
    del item["kind"], item["apiVersion"]
    text = yaml.safe_dump({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [item, item]})
    assert out(text).count("restartPolicy: Always") == 2


def test_a_bomb_of_aliases_is_no_problem():
    """A few kilobytes that stand for more than any manifest pass as they are."""
    bomb = "kind: a\na: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for this, that in ("ba", "cb", "dc", "ed", "fe", "gf"):
        bomb += f"{this}: &{this} [{', '.join([f'*{that}'] * 10)}]\n"
    (document,) = process(bomb, HOUSE, every=True)
    assert document.after == bomb
    assert "larger than any manifest" in document.problem
    assert read([("a.yaml", bomb)], HOUSE, every=True).documents[0].problem.startswith("a.yaml, line 1:")
