"""Where does this pod's kubelet come from? Nobody else may take its places on the admin port.

By the addresses that the Downward API tells, and by the pod's default gateway: with a bridge on the node, or
with Cilium's router, the kubelet's connections come from that one. Called by app.py.
"""

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

_IPV6_GATEWAY = 4
"""The column of the next hop in /proc/net/ipv6_route; the first two are the destination."""


def addresses(told: tuple[str, ...], proc: Path = Path("/proc/net")) -> frozenset[str]:
    """Return what is known, as a peer's address is written. `told`: status.hostIPs."""
    return frozenset((*told, *_gateways(proc)))


def _gateways(proc: Path) -> Iterator[str]:
    """Yield the next hops of default routes (proc(5))."""
    for line in _lines(proc / "route"):
        # Iface, destination, gateway: IPv4 addresses as the processor holds them, in hex.
        _, destination, gateway, *_ = line.split()
        if int(destination, 16) == 0 != int(gateway, 16):
            yield socket.inet_ntoa(int(gateway, 16).to_bytes(4, "little"))
    for line in _lines(proc / "ipv6_route"):
        columns = line.split()
        if int(columns[0], 16) == int(columns[1], 16) == 0 != int(columns[_IPV6_GATEWAY], 16):
            yield str(ip_address(int(columns[_IPV6_GATEWAY], 16)))


def _lines(table: Path) -> list[str]:
    try:
        return [line for line in table.read_text().splitlines() if not line.startswith("Iface")]
    except OSError:
        return []
