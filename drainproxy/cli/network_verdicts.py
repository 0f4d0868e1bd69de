"""Do the NetworkPolicies let through what drainproxy needs? Verdicts over those that choose the pod.

Pure. Who the callers are nobody knows but the policies themselves: whoever may reach the application must
reach drainproxy. Called by verdicts.py.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drainproxy import podspec
from drainproxy.config import Config
from drainproxy.kube.owners import labels
from drainproxy.kube.rules.network_policy import EVERYBODY, Peer, Rule, Way, about, contains, covers, opens
from drainproxy.kube.rules.network_policy import peers as peers_of
from drainproxy.kube.rules.network_policy import rules as rules_of
from drainproxy.kube.rules.selectors import fits
from drainproxy.kube.survey import Survey

API_PORTS = (443, 6443)
"""Of the API server's Service, and of most API servers behind it."""

Thing = Mapping[str, Any]


def network(found: Survey, config: Config) -> Iterator[str]:
    """Name the policies that keep callers from drainproxy, or drainproxy from the API server."""
    spec = found.pod["spec"]
    listen = [address.port for address in config.proxy.listen]
    # What packets are led away from is decided on before they are.
    led_away = podspec.redirected(spec)
    doors = [*listen, *(port for port, to in led_away.items() if to in listen)]
    upstream = [address.port for address in config.proxy.upstream if not address.path]
    policies, rules = _about(found, "ingress")
    if policies:
        named = _names(spec)
        opened = [rule for rule in rules if any(opens(rule, port, named) for port in doors)]
        admitted = [peer for rule in opened for peer in peers_of(rule, "ingress")]
        if not opened:
            name = _listed(policies)
            yield f"NetworkPolicy {name} lets nobody reach port {listen[0]}; {_add(listen)}"
        elif cut := _cut_off(rules, upstream, named, admitted):
            yield (
                f"NetworkPolicy {_listed(policies)} lets {cut} reach the application's port {upstream[0]},"
                f" and not drainproxy's {listen[0]}; {_add(listen)}"
            )
    policies, rules = _about(found, "egress")
    api = {*API_PORTS, *found.api_ports}
    ways = [rule for rule in rules if any(opens(rule, port, {}) for port in api)]
    if (
        policies
        and config.kube.rbac != "none"
        and not any(_leads(rule, found.api_addresses) for rule in ways)
    ):
        yield (
            f"NetworkPolicy {_listed(policies)} lets drainproxy not reach the API server; allow egress to its"
            " port, over TCP and to an ipBlock: no selector chooses it"
        )

    if config.proxy.handoff != "off":
        yield from _siblings(found, listen)


def _siblings(found: Survey, listen: Sequence[int]) -> Iterator[str]:
    """Name the policies that keep this workload's pods from one another, which hand requests on."""
    named = _names(found.pod["spec"])
    ways: tuple[tuple[Way, str], ...] = (("ingress", "from"), ("egress", "to"))
    for way, towards in ways:
        policies, rules = _about(found, way)
        opened = [rule for rule in rules if any(opens(rule, port, named) for port in listen)]
        peers = [peer for rule in opened for peer in peers_of(rule, way)]
        if policies and not any(_means_siblings(peer, found) for peer in peers):
            yield (
                f"NetworkPolicy {_listed(policies)} keeps the pods from handing requests to one another;"
                f" allow {way} {towards} the pods at port {listen[0]}, or set handoff to off"
            )


def _about(found: Survey, way: Way) -> tuple[Sequence[Thing], Sequence[Rule]]:
    """Return the policies for one way, and all their rules."""
    policies = [each for each in found.policies if about(each["spec"], way)]
    return policies, [rule for each in policies for rule in rules_of(each["spec"], way)]


def _means_siblings(peer: Peer, found: Survey) -> bool:
    """Tell whether a peer may be a pod of this workload. Whose an ipBlock is nobody here can tell."""
    if peer == EVERYBODY or "ipBlock" in peer:
        return True
    return fits(peer.get("namespaceSelector"), labels(found.namespace)) and fits(
        peer.get("podSelector"), labels(found.pod)
    )


def _add(ports: Sequence[int]) -> str:
    return f"add it to the ingress ports, as {{protocol: TCP, port: {ports[0]}}}"


def _listed(policies: Iterable[Thing]) -> str:
    return ", ".join(str(policy["metadata"]["name"]) for policy in policies)


def _names(spec: Thing) -> dict[str, set[int]]:
    """Return the ports of each name: a policy's name means every container's."""
    found: dict[str, set[int]] = {}
    for container in podspec.containers(spec):
        for port in container.get("ports") or ():
            if "name" in port:
                found.setdefault(port["name"], set()).add(int(port["containerPort"]))
    return found


def _cut_off(
    rules: Iterable[Rule], ports: Iterable[int], named: Mapping[str, set[int]], admitted: Sequence[Peer]
) -> str:
    """Describe who may reach one of `ports` and is not among those who are admitted."""
    for rule in rules:
        if not rule.get("ports") or not any(opens(rule, port, named) for port in ports):
            continue
        for peer in peers_of(rule, "ingress"):
            if not any(covers(other, peer) for other in admitted):
                return "everybody" if peer == EVERYBODY else json.dumps(peer, sort_keys=True)
    return ""


def _leads(rule: Rule, addresses: Sequence[str]) -> bool:
    """Tell whether a rule leads to the API server, which is no pod that a selector could choose."""
    peers = rule.get("to")
    if not peers:
        return True
    blocks = [peer["ipBlock"] for peer in peers if "ipBlock" in peer]
    if not addresses:
        return bool(blocks)
    return any(contains(block, address) for block in blocks for address in addresses)
