"""Field and label selectors: what a list or a watch leaves out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]
Chosen = Callable[[Object], bool]

_SET = re.compile(r"\s*([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)\s*(?:,|$)")
_TERM = re.compile(r"\s*([^,]+?)\s*(?:,|$)")

_FIELDS = {"metadata.name", "metadata.namespace"}
"""Of every resource; the API server refuses others than these and a resource's own."""

_OWN_FIELDS = {"pods": {"spec.nodeName", "status.phase"}, "events": {"regarding.name", "reason"}}


class BadSelector(Exception):
    """The server answers 400."""


def selection(query: dict[str, str], plural: str) -> Chosen:
    """Return what chooses objects as the query's selectors do. Raises BadSelector."""
    tests = [
        *_field_tests(query.get("fieldSelector", ""), _FIELDS | _OWN_FIELDS.get(plural, set())),
        *_label_tests(query.get("labelSelector", "")),
    ]
    return lambda thing: all(test(thing) for test in tests)


def _field_tests(text: str, known: set[str]) -> list[Chosen]:
    tests: list[Chosen] = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", term)
        if match is None or match[1] not in known:
            raise BadSelector(f"field label not supported: {term}")
        tests.append(_equality(match, lambda thing, path: str(_at(thing, path))))
    return tests


def _label_tests(text: str) -> list[Chosen]:
    tests: list[Chosen] = []
    at = 0
    while at < len(text):
        if found := _SET.match(text, at):
            values = {value.strip() for value in found[3].split(",")}
            tests.append(_membership(found[1], values, wanted=found[2] == "in"))
        elif found := _TERM.match(text, at):
            tests.append(_label_term(found[1]))
        else:
            raise BadSelector(f"unable to parse requirement: {text[at:]}")
        at = found.end()
    return tests


def _label_term(term: str) -> Chosen:
    if match := re.fullmatch(r"([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)", term):
        return _equality(match, lambda thing, name: _labels(thing).get(name))
    if not re.fullmatch(r"!?[\w./-]+", term):
        raise BadSelector(f"unable to parse requirement: {term}")
    name, wanted = term.lstrip("!"), not term.startswith("!")
    return lambda thing: (name in _labels(thing)) is wanted


def _equality(match: re.Match[str], read: Callable[[Object, str], Any]) -> Chosen:
    name, operator, value = match.groups()
    return lambda thing: (read(thing, name) == value) is (operator != "!=")


def _membership(name: str, values: set[str], *, wanted: bool) -> Chosen:
    return lambda thing: (_labels(thing).get(name) in values) is wanted


def _labels(thing: Object) -> dict[str, str]:
    return thing["metadata"].get("labels") or {}


def _at(thing: Object, path: str) -> Any:
    found: Any = thing
    for part in path.split("."):
        found = (found or {}).get(part)
    return "" if found is None else found
