"""The chart's MutatingAdmissionPolicy makes the pods that the webhook makes, where a policy can.

Its CEL is evaluated here by cel-cpp, typed objects read as maps: an API server is more strict about types.
"""

from __future__ import annotations

import re

import pytest

from tests.chart.rendering import documents
from tests.chart.standards import assert_valid
from tests.injector.pods import PLAIN_TABLE, PREFIX, Row, pod
from tests.injector.shapes import SHAPES
from tests.injector.ways import by_webhook, patched, placed

cel = pytest.importorskip(
    "cel_expr_python.cel", reason="cel-expr-python is not installed; make .venv/group-deploy"
)
POLICY = {"injection": {"mode": "policy", "kubeVersion": "1.36"}}
EXTENSIONS = "name: policy\nextensions:\n- name: optional\n- name: strings\n"


def untyped(expression: str) -> str:
    """Write typed objects as maps, whose keys are the fields' names."""
    expression = re.sub(r"\b(?:Object(?:\.\w+)+|JSONPatch)\{", "{", expression)
    expression = re.sub(r"(?<=[{ ])([A-Za-z]+): ", r'"\1": ', expression)
    return expression.replace('jsonpatch.escapeKey("drainproxy.io/injected")', '"drainproxy.io~1injected"')


class Policy:
    """One rendered policy."""

    def __init__(self, values=None) -> None:
        found = documents({**POLICY, **(values or {})})
        self.document = next(
            each
            for each in found
            if each["kind"] == "MutatingAdmissionPolicy"
            and "matchLabels" in each["spec"]["matchConstraints"]["objectSelector"]
        )
        kinds = {"object": cel.Type.DYN, "variables": cel.Type.DYN}
        self._env = cel.NewEnv(config=cel.NewEnvConfigFromYaml(EXTENSIONS), variables=kinds)
        spec = self.document["spec"]
        self._conditions = {each["name"]: self._compile(each) for each in spec["matchConditions"]}
        self._variables = {each["name"]: self._compile(each) for each in spec["variables"]}
        [mutation] = spec["mutations"]
        self._patch = self._compile(mutation["jsonPatch"])

    def _compile(self, holder):
        return self._env.compile(untyped(holder["expression"]))

    def answer(self, made, namespace: str):
        """Return the pod that comes out, and the names of the conditions that kept it as it is."""
        constraints = self.document["spec"]["matchConstraints"]
        [excluded] = constraints["namespaceSelector"]["matchExpressions"]
        labels = constraints["objectSelector"]["matchLabels"]
        if namespace in excluded["values"] or not labels.items() <= made["metadata"]["labels"].items():
            return made, ["selectors"]
        data = {"object": made}
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


@pytest.fixture(scope="module")
def policy():
    return Policy()


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
    assert_valid(each for each in documents(POLICY) if each["kind"].startswith("MutatingAdmissionPolicy"))


def test_rows_say_what_the_policy_does():
    """Every pod without annotations has an answer of the policy."""
    assert all(isinstance(row, Row) and row.policy for row in PLAIN_TABLE)
