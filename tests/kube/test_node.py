"""Which addresses are the node's?"""

from __future__ import annotations

from drainproxy.kube import node

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t0000F40A\t0201F40A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
ZERO = "0" * 32
GATEWAY = "fd0000100001000000000000000000fe"
ROUTES_6 = f"""fd000010000100000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001 eth0
{ZERO} 00 {ZERO} 00 {GATEWAY} 00000400 00000001 00000000 00000003 eth0
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200 lo
"""


def test_the_default_gateways_are_where_a_bridge_lets_the_kubelet_come_from(tmp_path):
    """Beside what the Downward API tells; other routes' gateways are not."""
    (tmp_path / "route").write_text(ROUTES)
    (tmp_path / "ipv6_route").write_text(ROUTES_6)
    known = node.addresses(("192.0.2.7", "2001:db8::7"), tmp_path)
    assert known == {"192.0.2.7", "2001:db8::7", "10.244.1.1", "fd00:10:1::fe"}


def test_without_routes_only_what_is_told_is_known(tmp_path):
    """Another system, or no network at all."""
    assert node.addresses((), tmp_path) == frozenset()


def test_this_machines_own_tables_can_be_read():
    """Whatever they hold."""
    assert all(isinstance(each, str) for each in node.addresses(()))
