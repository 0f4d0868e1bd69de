"""What do the rules of a NetworkPolicy let through: which way, which ports, and whom?

Pure. Policies add up: what any of them allows is allowed, and a pod that none chooses takes everything
(Kubernetes: Network Policies). Called by cli/network_verdicts.py on what the cluster has, and by
injector/policies.py on what a file holds, of any shape.
"""

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any, Literal

from drainproxy.kube.rules.selectors import listed, mapping

Rule = Mapping[str, Any]
Peer = Mapping[str, Any]
Way = Literal["ingress", "egress"]

EVERYBODY: Peer = {}
_TOWARDS = {"ingress": "from", "egress": "to"}


def about(spec: Mapping[str, Any], way: Way) -> bool:
    """Tell whether a policy is about one way: what it does not say follows from whether it has rules."""
    types = listed(spec.get("policyTypes"))
    if types:
        return way.capitalize() in types
    # An empty list of egress rules makes none of it (Kubernetes: NetworkPolicySpec, policyTypes).
    return way == "ingress" or bool(listed(spec.get("egress")))


def rules(spec: Mapping[str, Any], way: Way) -> list[dict[str, Any]]:
    """Return the rules for one way, each at its own place."""
    return [mapping(each) for each in listed(spec.get(way))]


def peers(rule: Rule, way: Way) -> list[Peer]:
    """Return whom a rule means."""
    return [mapping(each) for each in listed(rule.get(_TOWARDS[way]))] or [EVERYBODY]


def opens(rule: Rule, port: int, named: Mapping[str, Collection[int]]) -> bool:
    """Tell whether a rule is about a TCP port. `named`: the ports that each name means in the pod."""
    ports = listed(rule.get("ports"))
    return not ports or any(means(each, port, named) for each in ports)


def means(entry: Any, port: int, named: Mapping[str, Collection[int]]) -> bool:
    """Tell whether one entry of a rule's ports means a TCP port."""
    entry = mapping(entry)
    if entry.get("protocol", "TCP") != "TCP":
        return False
    first = entry.get("port")
    if first is None:
        return True
    if isinstance(first, str) and not first.isdecimal():
        return port in named.get(first, ())
    return _number(first, 65536) <= port <= _number(entry.get("endPort", first), 0)


def covers(wide: Peer, peer: Peer) -> bool:
    """Tell whether a peer is among those that another means, as far as that can be seen."""
    if wide in (EVERYBODY, peer):
        return True
    if "ipBlock" in wide:
        everything = _all_of(wide, {"0.0.0.0/0", "::/0"})
        return everything if "ipBlock" not in peer else _within(mapping(peer["ipBlock"]), wide["ipBlock"])
    if "ipBlock" in peer or peer == EVERYBODY:
        return False
    # A selector that is empty chooses everything; without a namespaceSelector it means the policy's own.
    places = wide.get("namespaceSelector"), peer.get("namespaceSelector")
    pods = wide.get("podSelector"), peer.get("podSelector")
    return (places[0] == {} or places[0] == places[1]) and (not pods[0] or pods[0] == pods[1])


def contains(block: Any, address: str) -> bool:
    """Tell whether an ipBlock has an address in it."""
    found, block = ipaddress.ip_address(address), mapping(block)
    outside = any(found in each for each in map(_network, listed(block.get("except"))) if each is not None)
    network = _network(block.get("cidr"))
    return network is not None and found in network and not outside


def _all_of(wide: Peer, networks: Collection[str]) -> bool:
    block = mapping(wide["ipBlock"])
    return block.get("cidr") in networks and not block.get("except")


def _within(inner: Mapping[str, Any], outer: Any) -> bool:
    outer = mapping(outer)
    one, other = _network(inner.get("cidr")), _network(outer.get("cidr"))
    if one is None or other is None or outer.get("except") or one.version != other.version:
        return False
    return bool(one.subnet_of(other))


def _network(text: Any) -> Any:
    """Return a network, None where it is none."""
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return None


def _number(value: Any, otherwise: int) -> int:
    """Return a port, or what lets an entry mean none."""
    return int(value) if isinstance(value, int) or str(value).isdecimal() else otherwise
