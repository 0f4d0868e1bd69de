"""Who reaches the application around us? Counted in the kernel's table of the pod's network namespace.

A Service whose targetPort still names the application's port loses requests that no proxy can save. Asked
for at each scrape, which gets the last answer: a thread reads the table, since the kernel takes its time
(50 ms for 9,000 sockets, 2026-11-23).
"""

import asyncio
import re
from collections.abc import Iterable, Iterator
from io import RawIOBase
from pathlib import Path

from drainproxy.metrics import Metrics
from drainproxy.tasks import Connections

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
MAX_TABLE_BYTES = 4 * 1024 * 1024
"""27,000 sockets; the rest is not counted."""
PIECE_BYTES = 64 * 1024
"""Looked through at a time: meanwhile the interpreter is this thread's, and the event loop stands still."""

_LOOPBACK = rb"[0-9A-F]{6}7F|0000000000000000FFFF0000[0-9A-F]{6}7F|00000000000000000000000001000000"
"""127.0.0.0/8, the same mapped into IPv6, ::1: words in the byte order of the machine (proc(5))."""


class Bypass:
    """Keeps `upstream_bypass_connections`. Used on the event loop's thread only."""

    def __init__(self, ports: Iterable[int], metrics: Metrics, tasks: Connections) -> None:
        self._ports = tuple(ports)
        self._metrics = metrics
        self._tasks = tasks
        self._counting: asyncio.Task[None] | None = None
        metrics.before_scrape.append(self.refresh)

    def refresh(self) -> None:
        """Count again, unless that is being done."""
        if self._counting is None or self._counting.done():
            self._counting = self._tasks.spawn(self._count(), "bypass")

    async def _count(self) -> None:
        self._metrics.upstream_bypass_connections.set(await asyncio.to_thread(count, self._ports))


def count(ports: Iterable[int]) -> int:
    """Return how many established connections to `ports` come from beyond loopback; 0 where none can tell."""
    wanted = b"|".join(b"%04X" % port for port in set(ports))
    if not wanted:
        return 0
    # Local address and port, remote address and port, and 01 for ESTABLISHED.
    row = re.compile(rb": [0-9A-F]+:(?:%s) (?!(?:%s):)[0-9A-F]+:[0-9A-F]{4} 01 " % (wanted, _LOOPBACK))
    found = 0
    for path in TABLES:
        try:
            with path.open("rb", buffering=0) as table:
                found += sum(len(row.findall(rows)) for rows in _whole_rows(table))
        except OSError:
            continue
    return found


def _whole_rows(table: RawIOBase) -> Iterator[bytes]:
    rest, left = b"", MAX_TABLE_BYTES
    while left > 0 and (piece := table.read(PIECE_BYTES)):
        left -= len(piece)
        rows, newline, rest = (rest + piece).rpartition(b"\n")
        yield rows + newline
