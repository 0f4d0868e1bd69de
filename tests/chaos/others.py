"""Those who behave, beside clients that stop (standstill.py): how long do they wait? A process of its own.

One keeps a connection, and health checks come on new ones.
`python -m tests.chaos.others PORT HEX PID...` asks every 20 ms until its standard input ends, and says what
it saw before the first line there and after it; HEX is what each connection begins with. The time in which
the processes PID, the proxy and its application, were ready to run and had no processor (proc(5), schedstat)
is taken off each wait: on a machine with other work it says nothing of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

EVERY_S = 0.02
CHECK = b"GET /small HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.36\r\n\r\n"
HEADER = b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n"


@dataclass
class Asked:
    """What they saw. `worst_s`: the longest wait; `told`: who, which status, and why."""

    worst_s: float = 0.0
    told: Counter[str] = field(default_factory=Counter)


class Others:
    """Asks at an address, beginning with `start` and up to `end`."""

    def __init__(self, address: tuple[str, int], pids: Sequence[int], header: bytes = b"") -> None:
        words = [str(address[1]), header.hex(), *map(str, pids)]
        self._command = [sys.executable, "-m", "tests.chaos.others", *words]

    async def start(self) -> None:
        """Begin, and return once the first was answered."""
        self._child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert self._child.stdout is not None
        await self._child.stdout.readline()

    def go_on(self) -> None:
        """What comes from now on is told apart."""
        assert self._child.stdin is not None
        self._child.stdin.write(b"\n")

    async def end(self) -> tuple[Asked, Asked]:
        """Stop asking; return what they saw before and after `go_on`."""
        said, _ = await self._child.communicate(b"")
        before, after = (Asked(worst_s, Counter(told)) for worst_s, told in json.loads(said))
        return before, after


class Asker:
    """Asks at a port behind which these processes are."""

    def __init__(self, port: int, header: bytes, pids: Sequence[int]) -> None:
        self.seen = Asked()
        self._port = port
        self._header = header
        self._waits = [Path(f"/proc/{pid}/schedstat") for pid in ("self", *pids)]

    def ask(self, wire: socket.socket | None, request: bytes, who: str) -> socket.socket | None:
        """Ask on `wire`, or on a new one; return it if it may be used again."""
        without, began = self._without_processor_s(), time.monotonic()
        try:
            if wire is None:
                wire = socket.create_connection(("127.0.0.1", self._port), 10)
                request = self._header + request
            wire.sendall(request)
            said = wire.recv(4096)
        except OSError:
            said = b""
        wall_s = time.monotonic() - began
        seen = self.seen
        seen.worst_s = max(seen.worst_s, wall_s - (self._without_processor_s() - without))
        # `503 Service Unavailable: queue-full`: the last line says why.
        why = said.rpartition(b": ")[2].decode().strip() if said[9:12] not in {b"", b"200"} else ""
        seen.told[f"{who} {said[9:12].decode() or 'nothing'} {why}".rstrip()] += 1
        if said[9:12] != b"200" and wire is not None:
            wire.close()
            return None
        return wire

    def _without_processor_s(self) -> float:
        try:
            return sum(int(path.read_text().split()[1]) for path in self._waits) / 1e9
        except OSError:
            # The process has ended; others will say so.
            return 0.0


def main(port: int, header: bytes, pids: Sequence[int]) -> None:
    """Ask until the standard input ends."""
    asker, kept = Asker(port, header, pids), None
    person, spans = CHECK.replace(b"kube-probe", b"person"), [asker.seen]
    while True:
        kept = asker.ask(kept, person, "kept")
        if (wire := asker.ask(None, CHECK, "check")) is not None:
            wire.close()
        if len(spans) == 1 and asker.seen.told.total() == 2:
            print(flush=True)
        if select.select((0,), (), (), EVERY_S)[0]:
            if not os.read(0, 1):
                break
            asker.seen = Asked()
            spans.append(asker.seen)
    print(json.dumps([[seen.worst_s, seen.told] for seen in spans]))


if __name__ == "__main__":
    main(int(sys.argv[1]), bytes.fromhex(sys.argv[2]), [int(pid) for pid in sys.argv[3:]])
