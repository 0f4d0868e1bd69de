"""The chart's MutatingAdmissionPolicy makes the pods that the webhook makes, where a policy can.

Its CEL is evaluated here by cel-cpp, typed objects read as maps: an API server is more strict about types.
"""

from __future__ import annotations

import re

import pytest

from drainproxy.injector.patch import InjectorDefaults
from tests.chart.rendering import documents, one
from tests.chart.standards import assert_valid
from tests.injector.pods import PLAIN_TABLE, PREFIX, Row, app, pod
from tests.injector.shapes import SHAPES
from tests.injector.ways import HOUSE, by_webhook, patched, placed
from tests.injector.wishes import WISHES

cel = pytest.importorskip(
    "cel_expr_python.cel", reason="cel-expr-python is not installed; make .venv/group-deploy"
)
POLICY = {"injection": {"mode": "policy", "kubeVersion": "1.36"}}
EXTENSIONS = "name: policy\nextensions:\n- name: optional\n- name: strings\n"


def untyped(expression: str) -> str:
    """Write typed objects as maps, whose keys are the fields' names."""
    expression = re.sub(r"\b(?:Object(?:\.\w+)+|JSONPatch)\{", "{", expression)
    field = re.compile(r'("(?:[^"\\]|\\.)*")|(?<=[{ ])([A-Za-z]+): ')
    expression = field.sub(lambda found: found[1] or f'"{found[2]}": ', expression)
    return re.sub(
        r'jsonpatch\.escapeKey\("([^"]+)"\)', lambda found: f'"{found[1].replace("/", "~1")}"', expression
    )


NAMESPACE = {"metadata": {"name": "shop"}}


class Evaluator:
    """What an API server evaluates CEL with."""

    def __init__(self) -> None:
        kinds = dict.fromkeys(("object", "namespaceObject", "variables"), cel.Type.DYN)
        self._env = cel.NewEnv(config=cel.NewEnvConfigFromYaml(EXTENSIONS), variables=kinds)

    def _compile(self, holder, key="expression"):
        return self._env.compile(untyped(holder[key]))


class Policy(Evaluator):
    """One rendered policy."""

    def __init__(self, values=None) -> None:
        super().__init__()
        found = documents({**POLICY, **(values or {})})
        self.document = next(
            each
            for each in found
            if each["kind"] == "MutatingAdmissionPolicy"
            and "matchLabels" in each["spec"]["matchConstraints"]["objectSelector"]
        )
        spec = self.document["spec"]
        self._conditions = {each["name"]: self._compile(each) for each in spec["matchConditions"]}
        self._variables = {each["name"]: self._compile(each) for each in spec["variables"]}
        [mutation] = spec["mutations"]
        self._patch = self._compile(mutation["jsonPatch"])

    def answer(self, made, namespace: str, namespace_object=NAMESPACE):
        """Return the pod that comes out, and the names of the conditions that kept it as it is."""
        constraints = self.document["spec"]["matchConstraints"]
        [excluded] = constraints["namespaceSelector"]["matchExpressions"]
        labels = constraints["objectSelector"]["matchLabels"]
        if namespace in excluded["values"] or not labels.items() <= made["metadata"]["labels"].items():
            return made, ["selectors"]
        data = {"object": made, "namespaceObject": namespace_object}
        failed = [
            name for name, each in self._conditions.items() if each.eval(data=data).plain_value() is not True
        ]
        if failed:
            return made, failed
        variables = {}
        for name, each in self._variables.items():
            variables[name] = each.eval(data={**data, "variables": variables}).plain_value()
        operations = self._patch.eval(data={**data, "variables": variables}).plain_value()
        assert isinstance(operations, list), operations
        return patched(made, operations), []


class WarningPolicy(Evaluator):
    """The chart's ValidatingAdmissionPolicy, which warns and refuses nothing."""

    def __init__(self) -> None:
        super().__init__()
        found = documents(POLICY)
        spec = one(found, "ValidatingAdmissionPolicy")["spec"]
        assert one(found, "ValidatingAdmissionPolicyBinding")["spec"]["validationActions"] == ["Warn"]
        assert spec["failurePolicy"] == "Ignore"
        self._conditions = [self._compile(each) for each in spec["matchConditions"]]
        self._validations = [
            (self._compile(each), self._compile(each, "messageExpression")) for each in spec["validations"]
        ]

    def said(self, made, namespace_object=NAMESPACE) -> list[str]:
        """Return the warnings for a Deployment of such pods."""
        template = {"metadata": made["metadata"], "spec": made["spec"]}
        data = {"object": {"spec": {"template": template}}, "namespaceObject": namespace_object}

        def value(expression):
            return expression.eval(data=data).plain_value()

        if not all(value(each) for each in self._conditions):
            return []
        return [value(message) for holds, message in self._validations if value(holds) is not True]


@pytest.fixture(scope="module")
def policy():
    return Policy()


@pytest.fixture(scope="module")
def warning():
    return WarningPolicy()


@pytest.mark.parametrize("row", PLAIN_TABLE, ids=[row.id for row in PLAIN_TABLE])
def test_policy_and_webhook_agree(policy, row):
    """Of a pod without annotations the policy makes what the webhook makes, or leaves it as the row says."""
    made, failed = policy.answer(placed(row), row.namespace)
    expected = placed(row) if row.policy == "http only" else by_webhook(row)[0]
    assert comparable(made) == comparable(expected)
    assert bool(failed) == (row.policy != "same")


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.id for shape in SHAPES])
def test_a_shape_is_right_or_left_alone(policy, shape):
    """The policy makes the webhook's pod or none: it knows one port, by the name http."""
    row = Row(id=shape.id, pod=shape.pod)
    made, failed = policy.answer(placed(row), row.namespace)
    expected, _ = by_webhook(row)
    assert comparable(made) == comparable(placed(row) if failed else expected)
    if shape.ports == ("http 8080",) and not {"hostPort", "istio-proxy", "linkerd-proxy"} & words(shape.pod):
        assert not failed


@pytest.mark.parametrize("row", WISHES, ids=[row.id for row in WISHES])
def test_a_wish_is_followed_or_left_to_the_webhook(policy, row):
    """Of a pod with annotations the policy makes the webhook's pod or none, never one that ignores a wish."""
    made, failed = policy.answer(placed(row), row.namespace)
    expected, _ = by_webhook(row)
    assert comparable(made) == comparable(placed(row) if failed else expected)


FOLLOWED = [
    {"propagation": preset}
    for preset in ("none", "cluster", "mesh", "alb", "gce-neg", "agic", "headless-dns", "multicluster")
] + [
    {"app-stop": "20s"},
    {"app-stop": "5s"},
    {"leave-spread": "0s", "reserve": "11s", "propagation": "alb"},
    {"propagation": "alb", "grace": "keep"},
    {"grace": "raise"},
    {"ports": "http", "capture": "name", "mode": "native"},
    {"capture": "auto", "mode": "auto"},
    {"scrape-annotations": "true"},
    {"scrape-annotations": "false"},
]


@pytest.mark.parametrize("grace", [5, 30, 200])
@pytest.mark.parametrize("asked", FOLLOWED, ids=str)
def test_wishes_that_the_policy_follows(policy, asked, grace):
    """Preset, parts of the sum and what they do to the grace period come out as from the webhook."""
    wishes = {f"{PREFIX}{name}": text for name, text in asked.items()}
    row = Row(id="", pod=pod(annotations=wishes, terminationGracePeriodSeconds=grace))
    made, failed = policy.answer(placed(row), row.namespace)
    assert failed == []
    assert comparable(made) == comparable(by_webhook(row)[0])


@pytest.mark.parametrize("wish", [None, "true", "false"])
@pytest.mark.parametrize(
    "own",
    [
        None,
        {},
        {"note": "x"},
        {"prometheus.io/scrape": "false"},
        {"prometheus.io": "", "prometheus.ioo/a": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize("chosen", [True, False])
def test_annotations_for_scrapes(chosen, own, wish):
    """By the chart's value or the pod's own word, and never where the pod says anything of its scrape."""
    policy = Policy({"sidecar": {"scrapeAnnotations": chosen, "adminPort": 19900}})
    annotations = own if wish is None else {**(own or {}), f"{PREFIX}scrape-annotations": wish}
    row = Row(id="", pod=pod(annotations=annotations))
    made, failed = policy.answer(placed(row), row.namespace)
    told = InjectorDefaults(
        kubernetes=HOUSE.kubernetes,
        annotations={"admin-port": "19900", "scrape-annotations": str(chosen).lower()},
    )
    assert failed == []
    assert comparable(made) == comparable(by_webhook(row, told)[0])
    found = made["metadata"].get("annotations", {}).get("prometheus.io/port")
    asked = wish == "true" or (chosen and wish is None)
    assert found == ("19900" if asked and "prometheus.io/scrape" not in (own or {}) else None)


LEFT = [
    {"propagation": "elb"},
    {"app-stop": "1m"},
    {"app-stop": "soon"},
    {"access-log": "all"},
    {"scrape-annotations": "yes"},
    {"propogation": "alb"},
    {"mode": "plain"},
    {"capture": "env", "app-port-env": "PORT"},
    {"ports": "8080"},
]


@pytest.mark.parametrize("asked", LEFT, ids=str)
def test_wishes_that_it_leaves_to_the_webhook(policy, warning, asked):
    """What CEL does not follow leaves the pod as it is, and who applies the workload is told which it was."""
    wishes = {f"{PREFIX}{name}": text for name, text in asked.items()}
    made = pod(annotations=wishes)
    assert policy.answer(made, "shop") == (made, ["annotations"])
    [said] = warning.said(made)
    names, _, reason = said.removeprefix("no drainproxy sidecar: ").partition(": ")
    # In whichever order: a map has none.
    assert set(names.split(", ")) <= set(wishes)
    assert reason == "followed by the webhook (injection.mode webhook), or not with this value"


@pytest.mark.parametrize(
    ("namespace", "more", "left"),
    [
        ({"labels": {"istio-injection": "enabled"}}, {}, True),
        ({"labels": {"istio.io/rev": "1-28"}}, {}, True),
        ({"labels": {"istio-injection": "enabled"}}, {"labels": {"sidecar.istio.io/inject": "false"}}, False),
        ({"labels": {"istio-injection": "disabled"}}, {}, False),
        ({"annotations": {"linkerd.io/inject": "enabled"}}, {}, True),
        (
            {"annotations": {"linkerd.io/inject": "enabled"}},
            {"annotations": {"linkerd.io/inject": "disabled"}},
            False,
        ),
    ],
    ids=str,
)
def test_a_mesh_of_the_namespace(policy, warning, namespace, more, left):
    """Where the namespace puts a mesh's proxy into pods, the policy leaves them alone and says so."""
    made = pod(**more)
    here = {"metadata": {"name": "shop", **namespace}}
    assert (policy.answer(made, "shop", here)[1] == ["no-mesh-of-the-namespace"]) == left
    assert warning.said(made, here) == (
        ["no drainproxy sidecar: its namespace puts a mesh beside it, whose drain the webhook judges"]
        if left
        else []
    )


@pytest.mark.parametrize(
    "made",
    [
        pod(app("app", *((f"p{number}", 9000 + number) for number in range(8)), ("http", 8080))),
        pod(app(), *(app(f"c{number}", ("x", 9000 + number)) for number in range(32))),
    ],
    ids=["nine ports", "33 containers"],
)
def test_a_pod_that_is_too_large_is_left_alone(policy, warning, made):
    """Beyond what it looks at a policy would put the sidecar in and leave the port's name where it was."""
    assert policy.answer(made, "shop") == (made, ["fits"])
    assert "a policy looks at 32 containers with 8 ports each" in warning.said(made)[0]


ASKING = [
    row for row in [*PLAIN_TABLE, *WISHES] if row.pod["metadata"]["labels"].get(f"{PREFIX}inject") == "true"
]


@pytest.mark.parametrize("row", ASKING, ids=[row.id for row in ASKING])
def test_who_applies_a_workload_is_told(policy, warning, row):
    """A workload whose pods the policy will leave alone gets a sentence for each reason; no other does."""
    _, failed = policy.answer(placed(row), "shop")
    there = "not-injected" in failed
    assert len(warning.said(placed(row))) == (0 if there else len(failed))


def words(made) -> set[str]:
    """Every word of a pod."""
    return set(re.findall(r"[\w-]+", str(made)))


def comparable(made):
    """Return the pod with the environment's order taken out: what follows from it does not depend on it."""
    for each in [*made["spec"].get("initContainers", []), *made["spec"]["containers"]]:
        if each["name"] == "drainproxy" and "env" in each:
            each["env"] = sorted(each["env"], key=lambda variable: variable["name"])
    return made


def test_values(policy):
    """The chart's values choose the preset, with the grace period that it needs, and images by revision."""
    chosen = Policy({"sidecar": {"propagation": "alb"}, "revisions": {"canary": {"tag": "9"}}})
    made, failed = chosen.answer(pod(labels={f"{PREFIX}rev": "canary"}), "shop")
    assert failed == []
    assert made["spec"]["terminationGracePeriodSeconds"] == 105
    ours = made["spec"]["initContainers"][-1]
    assert ours["image"] == "drainproxy:9"
    assert {"name": "DRAINPROXY_GRACE_PERIOD", "value": "105s"} in ours["env"]


def test_valid():
    """The policies and their bindings are what Kubernetes takes."""
    assert_valid(each for each in documents(POLICY) if "AdmissionPolicy" in each["kind"])


def test_rows_say_what_the_policy_does():
    """Every pod without annotations has an answer of the policy."""
    assert all(isinstance(row, Row) and row.policy for row in PLAIN_TABLE)


TEMPLATES = {
    "asks": ({"metadata": {"labels": {"drainproxy.io/inject": "true"}}}, (True, False)),
    "asks among others": (
        {"metadata": {"labels": {"a": "b", "drainproxy.io/inject": "true"}}},
        (True, False),
    ),
    "says no": ({"metadata": {"labels": {"drainproxy.io/inject": "false"}}}, (False, False)),
    "says nothing": ({"metadata": {"labels": {"app": "web"}}}, (False, True)),
    "has no labels": ({"metadata": {}}, (False, True)),
    "has no metadata": ({}, (False, True)),
}


@pytest.mark.parametrize(("template", "asked"), TEMPLATES.values(), ids=TEMPLATES.keys())
def test_who_applies_a_workload_is_warned_by_the_same_labels(template, asked):
    """As of a pod: its own label, or its namespace's where it has none; never both."""
    found = documents({"injection": {"mode": "webhook"}})
    (configuration,) = (each for each in found if each["kind"] == "ValidatingWebhookConfiguration")
    by_name = {each["name"]: each["matchConditions"][0]["expression"] for each in configuration["webhooks"]}
    environment = cel.NewEnv(variables={"object": cel.Type.DYN})
    said = tuple(
        environment.compile(by_name[f"{door}.check.drainproxy.io"])
        .eval(data={"object": {"spec": {"template": template}}})
        .value()
        for door in ("workloads", "namespaces")
    )
    assert said == asked


@pytest.mark.parametrize(
    ("namespace", "labels", "left"),
    [
        ({"annotations": {"drainproxy.io/propagation": "alb"}}, {}, True),
        ({"annotations": {"note": "x"}, "labels": {"drainproxy.io/inject": "true"}}, {}, False),
        ({"labels": {"drainproxy.io/rev": "canary"}}, {}, True),
        ({"labels": {"drainproxy.io/rev": "canary"}}, {"drainproxy.io/rev": ""}, False),
    ],
    ids=str,
)
def test_wishes_of_a_namespace_are_left_to_the_webhook(policy, warning, namespace, labels, left):
    """Never a sidecar that ignores them."""
    made = pod(labels=labels)
    here = {"metadata": {"name": "shop", **namespace}}
    assert (policy.answer(made, "shop", here)[1] == ["no-wishes-of-the-namespace"]) == left
    why = "its namespace has annotations or a revision of drainproxy.io, which the webhook follows"
    assert warning.said(made, here) == ([f"no drainproxy sidecar: {why}"] if left else [])
