"""Where sockets are: what is listened on, and where the application listens."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace

POD = "pod"
"""In place of a host: the pod's own addresses."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A TCP address to listen on. `host` None: every address of the machine, IPv4 and IPv6."""

    host: str | None
    port: int
    tls: bool = False

    @property
    def loopback(self) -> bool:
        """Tell whether nobody outside of the pod can reach it."""
        host = self.host or ""
        return host == "localhost" or host.startswith("127.") or host == "::1"

    def within(self, pod_ips: Sequence[str]) -> "list[ListenAddress]":
        """Return where that is in a pod with these addresses."""
        return [replace(self, host=host) for host in pod_ips] if self.host == POD else [self]

    def __str__(self) -> str:
        """Return it as it is written in a setting."""
        host = self.host or ""
        scheme = "https://" if self.tls else ""
        return f"{scheme}[{host}]:{self.port}" if ":" in host else f"{scheme}{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Where the application listens: TCP host and port, or a Unix socket's path."""

    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False
    tcp: bool = False
    """Whatever it speaks, it is passed on unread."""

    @property
    def is_ip(self) -> bool:
        """Tell whether the host needs no resolving."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def authority(self) -> str:
        """Return what a Host field that names it says."""
        if self.path:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        """Return it as it is written in a setting."""
        if self.path:
            return f"unix:{self.path}"
        scheme = "tcp" if self.tcp else "https" if self.tls else "http"
        return f"{scheme}://{self.authority}"
