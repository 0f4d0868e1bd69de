"""Does a NetworkPolicy that let callers to the application let them to the sidecar?

Pure. Policies add up: what any of them allows is allowed, and a pod that none chooses takes everything
(Kubernetes: Network Policies). Both ways count: into the pod, and out of those who call it. Called by
surroundings.py.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from drainproxy.injector.finding import Finding, Moved
from drainproxy.injector.objects import Thing, listed, mapping
from drainproxy.injector.takeover import Taken


def judge(moved: Moved, things: Sequence[Thing]) -> Iterator[Finding]:
    """Yield the rules that admit callers by the old number only."""
    found = [each for each in things if (each.group, each.kind) == ("networking.k8s.io", "NetworkPolicy")]
    inward = [
        each
        for each in found
        if each.near(moved.thing)
        and selects(mapping(each.spec.get("podSelector")), moved.labels)
        and "Ingress" in _types(each)
    ]
    for taken in moved.renumbered:
        yield from _ways(
            moved, taken, [(each, *rule) for each in inward for rule in _rules(each, "ingress")], "from"
        )
        outward = [
            (each, *rule)
            for each in found
            for rule in _rules(each, "egress")
            if _leads_to(rule[1], each, moved)
        ]
        for policy in {id(each[0]): each[0] for each in outward}.values():
            yield from _ways(moved, taken, [each for each in outward if each[0] is policy], "to")


def selects(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Tell whether a LabelSelector chooses what has these labels; an unknown operator counts as yes."""
    if not mapping(selector.get("matchLabels")).items() <= labels.items():
        return False
    for each in map(mapping, listed(selector.get("matchExpressions"))):
        value, values = labels.get(str(each.get("key"))), listed(each.get("values"))
        chosen = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not chosen.get(str(each.get("operator")), True):
            return False
    return True


_Rule = tuple[Thing, int, dict[str, Any], str]


def _ways(moved: Moved, taken: Taken, rules: Iterable[_Rule], side: str) -> Iterator[Finding]:
    """Yield the rules whose peers have the old number and not, by any rule, the new one."""
    rules = list(rules)
    admitted = [
        peer
        for _, _, rule, _ in rules
        if _opens(rule, taken.callers, taken.name)
        for peer in _peers(rule, side)
    ]
    for thing, i, rule, key in rules:
        if not rule.get("ports") or not _opens(rule, taken.application, ""):
            continue
        cut = [each for each in _peers(rule, side) if each not in admitted and "" not in admitted]
        if not cut:
            continue
        ports = listed(rule["ports"])
        at = next(j for j, each in enumerate(ports) if _means(mapping(each), taken.application, ""))
        who = (
            "everybody"
            if "" in cut
            else "those whom it lets in"
            if side == "from"
            else "those whom it lets out"
        )
        yield Finding(
            thing,
            ("spec", key, i, "ports", at, "port"),
            f"it lets {who} reach port {taken.application} of {moved.name} and not the sidecar's"
            f" {taken.callers}: add - {{protocol: TCP, port: {taken.callers}}}",
            cuts_off=True,
            fix=partial(ports.append, {"protocol": "TCP", "port": taken.callers}),
        )


def _types(thing: Thing) -> list[Any]:
    said = listed(thing.spec.get("policyTypes"))
    return said or ["Ingress", *(["Egress"] if "egress" in thing.spec else [])]


def _rules(thing: Thing, key: str) -> Iterator[tuple[int, dict[str, Any], str]]:
    for i, rule in enumerate(listed(thing.spec.get(key))):
        if isinstance(rule, dict):
            yield i, rule, key


def _peers(rule: Mapping[str, Any], side: str) -> list[str]:
    """Return a rule's peers as words to compare; everybody is the empty one."""
    peers = listed(rule.get(side))
    return [json.dumps(each, sort_keys=True, default=str) for each in peers] or [""]


def _opens(rule: Mapping[str, Any], port: int, name: str) -> bool:
    ports = listed(rule.get("ports"))
    return not ports or any(_means(mapping(each), port, name) for each in ports)


def _means(entry: Mapping[str, Any], port: int, name: str) -> bool:
    if entry.get("protocol", "TCP") != "TCP":
        return False
    said, last = entry.get("port"), entry.get("endPort")
    if said is None or (name and said == name):
        return True
    return isinstance(said, int) and said <= port <= (last if isinstance(last, int) else said)


def _leads_to(rule: Mapping[str, Any], policy: Thing, moved: Moved) -> bool:
    """Tell whether a rule leads to the pod, by its labels."""
    for peer in map(mapping, listed(rule.get("to"))):
        if "podSelector" not in peer or not selects(mapping(peer["podSelector"]), moved.labels):
            continue
        # Which namespaces a selector means nobody knows here.
        if "namespaceSelector" in peer or policy.near(moved.thing):
            return True
    return False
