"""What Argo Rollouts and Flagger make of a query and its answer, in their words."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ARGUMENT = re.compile(r"\{\{\s*args\.([\w-]+)\s*\}\}")
MODEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
CONDITION = re.compile(r"result\[0\] (<=|<|>=|>) ([0-9.]+)")
OPERATORS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def with_arguments(text: str, template: Mapping[str, Any], given: Mapping[str, str]) -> str:
    """Fill in `{{args.NAME}}`: what a Rollout gives, else the template's own value; unknown names fail."""
    own = {each["name"]: each.get("value") for each in template["spec"]["args"]}
    assert given.keys() <= own.keys()
    values = {**own, **given}

    def value(found: re.Match[str]) -> str:
        assert values[found[1]] is not None, f"the argument {found[1]} was not given"
        return str(values[found[1]])

    return ARGUMENT.sub(value, text)


def measured(series: list[dict[str, Any]], success: str, failure: str) -> str:
    """Return the phase of one measurement (Argo Rollouts: utils/evaluate, metricproviders/prometheus).

    Newer controllers call it an error to index an empty result, whatever stands before.
    """
    results = [float(each["value"][1]) for each in series]
    if not results:
        return "Error"
    good, bad = (_holds(condition, results[0]) for condition in (success, failure))
    if bad:
        return "Failed"
    return "Successful" if good else "Inconclusive"


def assessed(phases: list[str], metric: Mapping[str, Any]) -> str:
    """Return what becomes of a metric after these measurements (Argo Rollouts: assessMetricStatus)."""
    if phases.count("Failed") > metric.get("failureLimit", 0):
        return "Failed"
    if phases.count("Inconclusive") > metric.get("inconclusiveLimit", 0):
        return "Inconclusive"
    return "Successful" if len(phases) >= metric["count"] else "Running"


def _holds(condition: str, result: float) -> bool:
    parts = CONDITION.fullmatch(condition)
    assert parts is not None, condition
    return OPERATORS[parts[1]](result, float(parts[2]))


def rendered(query: str, **model: str) -> str:
    """Fill in Flagger's functions, and take the white space together, as it does (pkg/metrics)."""
    return re.sub(r"\s+", " ", MODEL.sub(lambda found: model[found[1]], query))


def advances(series: list[dict[str, Any]], threshold: Mapping[str, float]) -> bool:
    """Tell whether a check lets a canary go on (Flagger: pkg/controller, runMetricChecks).

    The last series counts; no value halts; a comparison with NaN is false, and so lets it pass.
    """
    if not series:
        return False
    value = float(series[-1]["value"][1])
    return not (value < threshold.get("min", -math.inf) or value > threshold.get("max", math.inf))
