"""How much may this process hold? Connections and buffered bytes, by its memory limit and its descriptors.

Asked once, at the start; the soft limit of descriptors is raised to the hard one on the way.
"""

from __future__ import annotations

import contextlib
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from drainproxy.proxy.wire.buffers import SOFT_SHARE
from drainproxy.proxy.wire.weights import CLIENT_BYTES, PARSER_BYTES, SOCKET_BYTES

if TYPE_CHECKING:
    from drainproxy.proxy.settings import ProxySettings

MAX_CONNECTIONS: Final = 10_000
MIN_CONNECTIONS: Final = 64
"""However little memory there is: below this nothing can be served."""
BASE_BYTES: Final = 48 * 1024 * 1024
"""What the process needs before the first client."""
CONNECTION_BYTES: Final = CLIENT_BYTES + PARSER_BYTES + SOCKET_BYTES + 768
"""A client connection that idles, with what it takes in the kernel and a tenth to spare. What it holds
beyond that is counted as it comes (buffers.py), and so is what others are: tunnels, TLS, HTTP/2."""
ROOM_SHARE: Final = 0.8
"""Of the memory beyond the base: the rest is for what is read before it can be refused, and for gaps."""
NO_LIMIT_BYTES: Final = 1024 * 1024 * 1024
"""What is reckoned with where no memory limit is set."""
RESERVED_DESCRIPTORS: Final = 512
"""Kept for what is no traffic: 256 connections of the admin listener, logs, listeners, closing clients."""
UNLIMITED_DESCRIPTORS: Final = 1 << 20
"""What is reckoned with where there is no limit: the kernel's own, fs.nr_open."""
_UNLIMITED_BYTES: Final = 1 << 60
"""cgroup v1 says something near 2^63 where there is no limit, v2 says `max`."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What may be held at once."""

    max_connections: int = MAX_CONNECTIONS
    max_buffer_bytes: int = NO_LIMIT_BYTES // 4
    memory_bytes: int | None = None
    """The memory limit; None where there is none."""
    descriptors: int = UNLIMITED_DESCRIPTORS
    """How many the process may have open."""

    @property
    def room_bytes(self) -> int:
        """How much may be held in all, beyond what the process needs for itself."""
        return _room(self.memory_bytes)

    @property
    def traffic_descriptors(self) -> int:
        """How many may be open for clients and for the application together."""
        return self.descriptors - min(RESERVED_DESCRIPTORS, self.descriptors * 2 // 3)

    def fields(self) -> dict[str, Any]:
        """Return what the log and /status say."""
        return asdict(self)


def measure(settings: ProxySettings) -> Capacity:
    """Raise the limit of descriptors and return what the process may hold."""
    return derive(settings, memory_limit(), raise_descriptors())


def derive(settings: ProxySettings, memory_bytes: int | None, descriptors: int) -> Capacity:
    """Return what fits into memory and descriptors. A setting wins over memory, not over descriptors."""
    memory = NO_LIMIT_BYTES if memory_bytes is None else memory_bytes
    room = _room(memory_bytes)
    by_memory = max(MIN_CONNECTIONS, room // CONNECTION_BYTES)
    by_descriptors = Capacity(descriptors=descriptors).traffic_descriptors
    return Capacity(
        max_buffer_bytes=settings.max_buffer_bytes or min(memory // 4, int(room * SOFT_SHARE)),
        max_connections=min(settings.max_connections or min(MAX_CONNECTIONS, by_memory), by_descriptors),
        memory_bytes=memory_bytes,
        descriptors=descriptors,
    )


def _room(memory_bytes: int | None) -> int:
    memory = NO_LIMIT_BYTES if memory_bytes is None else memory_bytes
    return max(int((memory - BASE_BYTES) * ROOM_SHARE), MIN_CONNECTIONS * CONNECTION_BYTES)


def raise_descriptors() -> int:
    """Raise the soft limit of open descriptors to the hard one; return it (getrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return UNLIMITED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def memory_limit(own: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the smallest memory limit of this process's cgroup and those above it, or None.

    cgroups(7): version 2 has one hierarchy and `memory.max`, version 1 a hierarchy for memory. A container
    sees its own group at the root of the mount, whatever the path is called outside.
    """
    found = []
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (mount / "memory", "memory.limit_in_bytes") if controllers else (mount, "memory.max")
        group = root / path.lstrip("/")
        for place in (group, *group.parents):
            limit = _read(place / name).strip()
            if limit.isdigit() and int(limit) < _UNLIMITED_BYTES:
                found.append(int(limit))
            if place == root:
                break
    return min(found, default=None)


def sockets_count(mount: Path = Path("/sys/fs/cgroup")) -> bool:
    """Tell whether what waits in sockets counts in the memory limit: version 2 charges it to the group."""
    return "memory" in _read(mount / "cgroup.controllers").split()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
