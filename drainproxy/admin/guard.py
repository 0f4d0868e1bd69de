"""Who may see /status? Only somebody who already is on this machine, and no web site through a browser.

Pure. The document names paths and addresses of callers, and the admin port is open to the whole pod
network. `kubectl port-forward` ends in the pod's own namespace, so both its ends are loopback.
"""

from ipaddress import IPv6Address, ip_address

_OWN_PAGE = frozenset(("same-origin", "none"))
"""Sec-Fetch-Site of our own page, or of a person who typed the address (W3C Fetch Metadata)."""


def refusal(
    *, peer: str, local: str, host: str = "", origin: str | None = None, fetch_site: str | None = None
) -> str | None:
    """Return why somebody may not look, or None if he may.

    From the request's two socket ends, without ports, and the headers that tell where a browser got it from.
    """
    if not (is_loopback(peer) and is_loopback(local)):
        return "only from loopback: use kubectl port-forward"
    if origin is not None or (fetch_site or "none") not in _OWN_PAGE:
        return "not for other web sites"
    if not _cannot_be_rebound(host):
        # A site may point its own name at 127.0.0.1: to the browser that is one origin with us.
        return "not by this name: use localhost or an IP address"
    return None


def is_loopback(address: str) -> bool:
    """Tell whether `address` is one of the machine's own, reached by nobody else."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        # What a dual-stack listener calls an IPv4 peer.
        return ip.ipv4_mapped.is_loopback
    return ip.is_loopback


def _cannot_be_rebound(host: str) -> bool:
    """Tell whether a Host value is empty, `localhost` or a literal address: nothing DNS could move."""
    name = host.rpartition(":")[0] if _has_port(host) else host
    if name in {"", "localhost"}:
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _has_port(host: str) -> bool:
    return ":" in host and not host.endswith("]")
