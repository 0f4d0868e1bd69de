"""What the rules of a NetworkPolicy mean, for whoever judges them: a running pod's, or a file's."""

from __future__ import annotations

import pytest

from drainproxy.kube.rules.network_policy import EVERYBODY, about, contains, covers, means, opens, peers
from drainproxy.kube.rules.selectors import fits

ABOUT = {
    "says nothing": ({}, True, False),
    "ingress alone": ({"ingress": []}, True, False),
    "has rules for egress": ({"egress": [{}]}, True, True),
    "has an empty list for egress": ({"egress": []}, True, False),
    "says so": ({"policyTypes": ["Egress"], "ingress": [{}]}, False, True),
    "says both": ({"policyTypes": ["Ingress", "Egress"]}, True, True),
    "says it in another shape": ({"policyTypes": "Egress", "egress": "all"}, True, False),
}


@pytest.mark.parametrize(("spec", "ingress", "egress"), ABOUT.values(), ids=ABOUT.keys())
def test_which_ways_a_policy_is_about(spec, ingress, egress):
    """As the API server fills in policyTypes: egress only where there are rules for it."""
    assert (about(spec, "ingress"), about(spec, "egress")) == (ingress, egress)


MEANS = {
    "a number": ({"port": 8080}, True),
    "another number": ({"port": 8081}, False),
    "a number in quotes": ({"port": "8080"}, True),
    "a range": ({"port": 8000, "endPort": 9000}, True),
    "a range that ends before": ({"port": 8000, "endPort": 8079}, False),
    "a name": ({"port": "http"}, True),
    "a name of another": ({"port": "metrics"}, False),
    "a name that nobody has": ({"port": "grpc"}, False),
    "every port": ({"protocol": "TCP"}, True),
    "every port of UDP": ({"protocol": "UDP"}, False),
    "a port of UDP": ({"port": 8080, "protocol": "UDP"}, False),
    "a port of no shape": ({"port": [8080]}, False),
    "an end of no shape": ({"port": 8000, "endPort": "last"}, False),
    "nothing of a mapping": ("8080", True),
}


@pytest.mark.parametrize(("entry", "meant"), MEANS.values(), ids=MEANS.keys())
def test_which_ports_an_entry_means(entry, meant):
    """By number, range or name, over TCP."""
    named = {"http": {8080}, "metrics": {9090}}
    assert means(entry, 8080, named) is meant
    assert opens({"ports": [{"port": 1}, entry]}, 8080, named) is meant
    assert opens({}, 8080, named)


FRONT = {"podSelector": {"matchLabels": {"app": "front"}}}
ELSEWHERE = {"namespaceSelector": {"matchLabels": {"team": "a"}}, **FRONT}
OFFICE = {"ipBlock": {"cidr": "10.1.0.0/16"}}
COVERS = {
    "everybody covers a pod": (EVERYBODY, FRONT, True),
    "everybody covers everybody": (EVERYBODY, EVERYBODY, True),
    "a pod does not cover everybody": (FRONT, EVERYBODY, False),
    "the same": (FRONT, FRONT, True),
    "every pod here covers one": ({"podSelector": {}}, FRONT, True),
    "every pod here covers none elsewhere": ({"podSelector": {}}, ELSEWHERE, False),
    "every namespace covers one here": ({"namespaceSelector": {}}, FRONT, True),
    "every namespace covers one elsewhere": ({"namespaceSelector": {}}, ELSEWHERE, True),
    "a namespace covers its pods": ({"namespaceSelector": ELSEWHERE["namespaceSelector"]}, ELSEWHERE, True),
    "one pod covers no other": (FRONT, {"podSelector": {"matchLabels": {"app": "back"}}}, False),
    "a network covers a smaller one": ({"ipBlock": {"cidr": "10.0.0.0/8"}}, OFFICE, True),
    "a network covers no larger one": (OFFICE, {"ipBlock": {"cidr": "10.0.0.0/8"}}, False),
    "a network with a hole is not looked into": (
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}},
        OFFICE,
        False,
    ),
    "a network of IPv6 covers none of IPv4": ({"ipBlock": {"cidr": "fd00::/8"}}, OFFICE, False),
    "the whole internet covers pods": ({"ipBlock": {"cidr": "0.0.0.0/0"}}, FRONT, True),
    "a network covers no pods": (OFFICE, FRONT, False),
    "pods cover no network": (FRONT, OFFICE, False),
    "what is no network covers nothing": ({"ipBlock": {"cidr": "the office"}}, OFFICE, False),
    "what is no block covers nothing": ({"ipBlock": "the office"}, OFFICE, False),
}


@pytest.mark.parametrize(("wide", "peer", "covered"), COVERS.values(), ids=COVERS.keys())
def test_who_is_among_whom(wide, peer, covered):
    """As far as it can be seen without the cluster's pods."""
    assert covers(wide, peer) is covered


def test_a_rule_without_peers_means_everybody():
    """Also where the list is there and empty."""
    assert peers({}, "ingress") == peers({"from": []}, "ingress") == [EVERYBODY]
    assert peers({"to": [FRONT], "from": [OFFICE]}, "egress") == [FRONT]


@pytest.mark.parametrize(
    ("block", "inside"),
    [
        ({"cidr": "10.1.0.0/16"}, True),
        ({"cidr": "10.1.2.3"}, True),
        ({"cidr": "10.1.0.0/16", "except": ["10.1.2.0/24"]}, False),
        ({"cidr": "10.1.0.0/16", "except": ["a typing error"]}, True),
        ({"cidr": "a typing error"}, False),
        ("10.1.0.0/16", False),
    ],
)
def test_which_addresses_a_block_has(block, inside):
    """Without what it excepts."""
    assert contains(block, "10.1.2.3") is inside


FITS = {
    "an empty one": ({}, True),
    "none": (None, True),
    "a label": ({"matchLabels": {"app": "web"}}, True),
    "another label": ({"matchLabels": {"app": "db"}}, False),
    "In": ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
    "NotIn": ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
    "NotIn of what is not there": (
        {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]},
        True,
    ),
    "Exists": ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
    "DoesNotExist": ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
    "an operator of a later day": ({"matchExpressions": [{"key": "app", "operator": "Like"}]}, True),
    "both": (
        {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]},
        False,
    ),
    "expressions of no shape": ({"matchExpressions": ["app", {}]}, True),
    "labels of no shape": ({"matchLabels": ["app"]}, True),
}


@pytest.mark.parametrize(("selector", "chosen"), FITS.values(), ids=FITS.keys())
def test_whom_a_selector_chooses(selector, chosen):
    """It may come of a file that somebody is still typing."""
    assert fits(selector, {"app": "web"}) is chosen
