"""Does a NetworkPolicy that let callers to the application let them to the sidecar?

Pure. Both ways count: into the pod, and out of those who call it. Called by surroundings.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from drainproxy.injector.finding import Finding, Moved
from drainproxy.injector.objects import Thing
from drainproxy.injector.takeover import Taken
from drainproxy.kube.rules import network_policy
from drainproxy.kube.rules.network_policy import EVERYBODY, Rule, Way
from drainproxy.kube.rules.selectors import fits, listed

_Placed = tuple[Thing, int, Rule]
"""A rule, whose it is, and which of its rules."""


def judge(moved: Moved, things: Sequence[Thing]) -> Iterator[Finding]:
    """Yield the rules that admit callers by the old number only."""
    found = [each for each in things if (each.group, each.kind) == ("networking.k8s.io", "NetworkPolicy")]
    inward = [
        rule
        for each in found
        if each.near(moved.thing)
        and fits(each.spec.get("podSelector"), moved.labels)
        and network_policy.about(each.spec, "ingress")
        for rule in _rules(each, "ingress")
    ]
    for taken in moved.renumbered:
        yield from _ways(moved, taken, inward, "ingress")
        for each in found:
            outward = [rule for rule in _rules(each, "egress") if _leads_to(rule[2], each, moved)]
            yield from _ways(moved, taken, outward, "egress")


def _ways(moved: Moved, taken: Taken, rules: Iterable[_Placed], way: Way) -> Iterator[Finding]:
    """Yield the rules whose peers have the old number and not, by any rule, the new one."""
    rules = list(rules)
    named = {taken.name: (taken.callers,)} if taken.name else {}
    admitted = [
        peer
        for _, _, rule in rules
        if network_policy.opens(rule, taken.callers, named)
        for peer in network_policy.peers(rule, way)
    ]
    for thing, i, rule in rules:
        if not rule.get("ports") or not network_policy.opens(rule, taken.application, {}):
            continue
        cut = [
            peer
            for peer in network_policy.peers(rule, way)
            if not any(network_policy.covers(other, peer) for other in admitted)
        ]
        if not cut:
            continue
        ports = listed(rule["ports"])
        at = next(j for j, each in enumerate(ports) if network_policy.means(each, taken.application, {}))
        who = (
            "everybody"
            if EVERYBODY in cut
            else "those whom it lets in"
            if way == "ingress"
            else "those whom it lets out"
        )
        yield Finding(
            thing,
            ("spec", way, i, "ports", at, "port"),
            f"it lets {who} reach port {taken.application} of {moved.name} and not the sidecar's"
            f" {taken.callers}: add - {{protocol: TCP, port: {taken.callers}}}",
            cuts_off=True,
            fix=partial(ports.append, {"protocol": "TCP", "port": taken.callers}),
        )


def _rules(thing: Thing, way: Way) -> list[_Placed]:
    return [(thing, i, rule) for i, rule in enumerate(network_policy.rules(thing.spec, way))]


def _leads_to(rule: Rule, policy: Thing, moved: Moved) -> bool:
    """Tell whether a rule leads to the pod, by its labels."""
    for peer in network_policy.peers(rule, "egress"):
        if "podSelector" not in peer or not fits(peer["podSelector"], moved.labels):
            continue
        # Which namespaces a selector means nobody knows here.
        if "namespaceSelector" in peer or policy.near(moved.thing):
            return True
    return False
