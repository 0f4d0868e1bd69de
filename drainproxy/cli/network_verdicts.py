"""Do the NetworkPolicies let through what drainproxy needs? Verdicts over those that choose the pod.

Pure. Policies add up: what any of them allows is allowed (Kubernetes: Network Policies). Who the callers are
nobody knows but the policies themselves: whoever may reach the application must reach drainproxy. Called by
verdicts.py.
"""

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drainproxy import podspec
from drainproxy.config import Config
from drainproxy.kube.survey import Survey

API_PORTS = (443, 6443)
"""Of the API server's Service, and of most API servers behind it."""

Thing = Mapping[str, Any]
_EVERYBODY: Thing = {}


def network(found: Survey, config: Config) -> Iterator[str]:
    """Name the policies that keep callers from drainproxy, or drainproxy from the API server."""
    spec = found.pod["spec"]
    listen = [address.port for address in config.proxy.listen]
    # What packets are led away from is decided on before they are.
    led_away = podspec.redirected(spec)
    doors = [*listen, *(port for port, to in led_away.items() if to in listen)]
    upstream = [address.port for address in config.proxy.upstream if not address.path]
    policies = [each for each in found.policies if "Ingress" in _types(each)]
    rules = [rule for policy in policies for rule in policy["spec"].get("ingress") or ()]
    if policies:
        named = _names(spec)
        opened = [rule for rule in rules if any(_opens(rule, port, named) for port in doors)]
        admitted = [peer for rule in opened for peer in rule.get("from") or (_EVERYBODY,)]
        if not opened:
            name = _listed(policies)
            yield f"NetworkPolicy {name} lets nobody reach port {listen[0]}; {_add(listen)}"
        elif cut := _cut_off(rules, upstream, named, admitted):
            yield (
                f"NetworkPolicy {_listed(policies)} lets {cut} reach the application's port {upstream[0]},"
                f" and not drainproxy's {listen[0]}; {_add(listen)}"
            )
    policies = [each for each in found.policies if "Egress" in _types(each)]
    rules = [rule for policy in policies for rule in policy["spec"].get("egress") or ()]
    api = {*API_PORTS, *found.api_ports}
    ways = [rule for rule in rules if any(_opens(rule, port, {}) for port in api)]
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
    for way, towards in (("Ingress", "from"), ("Egress", "to")):
        policies = [each for each in found.policies if way in _types(each)]
        rules = [rule for policy in policies for rule in policy["spec"].get(way.lower()) or ()]
        peers = [
            peer
            for rule in rules
            if any(_opens(rule, port, named) for port in listen)
            for peer in rule.get(towards) or (_EVERYBODY,)
        ]
        if policies and not any(_means_siblings(peer, found) for peer in peers):
            yield (
                f"NetworkPolicy {_listed(policies)} keeps the pods from handing requests to one another;"
                f" allow {way.lower()} {towards} the pods at port {listen[0]}, or set handoff to off"
            )


def _means_siblings(peer: Thing, found: Survey) -> bool:
    """Tell whether a peer may be a pod of this workload. Whose an ipBlock is nobody here can tell."""
    if peer == _EVERYBODY or "ipBlock" in peer:
        return True
    place = ((found.namespace or {}).get("metadata") or {}).get("labels") or {}
    labels = (found.pod.get("metadata") or {}).get("labels") or {}
    return _chooses(peer.get("namespaceSelector") or {}, place) and _chooses(
        peer.get("podSelector") or {}, labels
    )


def _chooses(selector: Thing, labels: Thing) -> bool:
    """Tell whether a LabelSelector chooses what has these labels; an empty one chooses everything."""
    wanted = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items() and all(
        _holds(each, labels) for each in selector.get("matchExpressions") or ()
    )


def _holds(expression: Thing, labels: Thing) -> bool:
    there, values = expression["key"] in labels, expression.get("values") or ()
    among = labels.get(expression["key"]) in values
    operator = str(expression.get("operator"))
    return {"In": among, "NotIn": not among, "Exists": there}.get(operator, not there)


def _add(ports: Sequence[int]) -> str:
    return f"add it to the ingress ports, as {{protocol: TCP, port: {ports[0]}}}"


def _listed(policies: Iterable[Thing]) -> str:
    return ", ".join(str(policy["metadata"]["name"]) for policy in policies)


def _types(policy: Thing) -> list[str]:
    return policy["spec"].get("policyTypes") or [
        "Ingress",
        *(["Egress"] if "egress" in policy["spec"] else []),
    ]


def _names(spec: Thing) -> dict[str, set[int]]:
    """Return the ports of each name: a policy's name means every container's."""
    found: dict[str, set[int]] = {}
    for container in podspec.containers(spec):
        for port in container.get("ports") or ():
            if "name" in port:
                found.setdefault(port["name"], set()).add(int(port["containerPort"]))
    return found


def _opens(rule: Thing, port: int, named: Mapping[str, set[int]]) -> bool:
    """Tell whether a rule is about a TCP port."""
    ports = rule.get("ports")
    return not ports or any(
        each.get("protocol", "TCP") == "TCP" and _means(each, port, named) for each in ports
    )


def _means(entry: Thing, port: int, named: Mapping[str, set[int]]) -> bool:
    said = entry.get("port")
    if said is None:
        return True
    if isinstance(said, str) and not said.isdecimal():
        return port in named.get(said, ())
    return int(said) <= port <= int(entry.get("endPort", said))


def _cut_off(
    rules: Iterable[Thing], ports: Iterable[int], named: Mapping[str, set[int]], admitted: Sequence[Thing]
) -> str:
    """Describe who may reach one of `ports` and is not among those who are admitted."""
    for rule in rules:
        if not rule.get("ports") or not any(_opens(rule, port, named) for port in ports):
            continue
        for peer in rule.get("from") or (_EVERYBODY,):
            if not any(_covers(other, peer) for other in admitted):
                return "everybody" if peer == _EVERYBODY else json.dumps(peer, sort_keys=True)
    return ""


def _covers(wide: Thing, peer: Thing) -> bool:
    """Tell whether a peer is among those that another means, as far as that can be seen."""
    if wide in (_EVERYBODY, peer):
        return True
    if "ipBlock" in wide:
        everything = wide["ipBlock"].get("cidr") in {"0.0.0.0/0", "::/0"} and not wide["ipBlock"].get(
            "except"
        )
        if "ipBlock" not in peer:
            return everything
        inner, outer = (ipaddress.ip_network(each["ipBlock"]["cidr"], strict=False) for each in (peer, wide))
        return not wide["ipBlock"].get("except") and _within(inner, outer)
    if "ipBlock" in peer or peer == _EVERYBODY:
        return False
    # A selector that is empty chooses everything; without a namespaceSelector it means the policy's own.
    places = wide.get("namespaceSelector"), peer.get("namespaceSelector")
    pods = wide.get("podSelector"), peer.get("podSelector")
    return (places[0] == {} or places[0] == places[1]) and (not pods[0] or pods[0] == pods[1])


def _within(inner: Any, outer: Any) -> bool:
    return bool(inner.version == outer.version and inner.subnet_of(outer))


def _leads(rule: Thing, addresses: Sequence[str]) -> bool:
    """Tell whether a rule leads to the API server, which is no pod that a selector could choose."""
    peers = rule.get("to")
    if not peers:
        return True
    blocks = [peer["ipBlock"] for peer in peers if "ipBlock" in peer]
    if not addresses:
        return bool(blocks)
    return any(_contains(block, address) for block in blocks for address in addresses)


def _contains(block: Thing, address: str) -> bool:
    found = ipaddress.ip_address(address)
    outside = any(found in ipaddress.ip_network(each, strict=False) for each in block.get("except") or ())
    return found in ipaddress.ip_network(block["cidr"], strict=False) and not outside
