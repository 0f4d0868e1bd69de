"""Sandbox: what a pod's network and mount namespaces are to its containers, without namespaces.

Each pod has an address of its own in 127.0.0.0/8, and a directory in place of its volumes. What its manifest
says of 127.0.0.1, of every address, or of a mount path is rewritten accordingly.
"""

from __future__ import annotations

import random
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_CLAIM_PORT = 9
_TRIES = 100


class Address:
    """An address of 127.0.0.0/8 that is nobody else's on this machine until `release`."""

    def __init__(self) -> None:
        for _ in range(_TRIES):
            # Tests run beside each other: who binds the claim's port first has the address.
            ip = f"127.{random.randint(2, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
            self._claim = socket.socket()
            try:
                self._claim.bind((ip, _CLAIM_PORT))
            except OSError:
                self._claim.close()
                continue
            self.ip = ip
            return
        raise AssertionError("no address is free")

    def release(self) -> None:
        """Give it up."""
        self._claim.close()


@dataclass(slots=True)
class Sandbox:
    """One pod's surroundings. `mounts`: path in the container -> directory on this machine."""

    ip: str
    directory: Path
    mounts: dict[str, Path] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    """What the kubelet tells every container: where the API server is."""

    def rewrite(self, text: str) -> str:
        """Return a word of a manifest as it must be here."""
        for path in sorted(self.mounts, key=len, reverse=True):
            text = text.replace(path, str(self.mounts[path]))
        text = re.sub(r"\b(127\.0\.0\.1|localhost)\b", self.ip, text)
        # An empty host is every address of the pod: it has this one.
        return re.sub(r"(?:(?<=^)|(?<=,)|(?<=\s))(?:0\.0\.0\.0|\[::\])?(:\d+)\b", rf"{self.ip}\1", text)

    def mount(self, pod_spec: dict[str, Any]) -> None:
        """Make a directory for each volume that a container mounts and nobody has provided."""
        for container in [*pod_spec.get("initContainers", []), *pod_spec["containers"]]:
            for mount in container.get("volumeMounts", []):
                path = mount["mountPath"]
                if path not in self.mounts:
                    self.mounts[path] = self.directory / "volumes" / mount["name"]
                    self.mounts[path].mkdir(parents=True, exist_ok=True)
