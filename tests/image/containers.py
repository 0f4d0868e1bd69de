"""Containers as a kubelet would start them: a read-only root, a number for a user, no right, no /tmp."""

from __future__ import annotations

import contextlib
import json
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.image.engine import IMAGE, podman
from tests.support.network import ADMIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.network import Namespace

RESTRICTED = (
    *("--read-only", "--read-only-tmpfs=false", "--user", "65532:65532", "--cap-drop", "all"),
    *("--security-opt", "no-new-privileges", "--pids-limit", "32", "--dns", "none"),
)
ASK = (
    "import socket, time\n"
    "until = time.monotonic() + 60\n"
    "while time.monotonic() < until:\n"
    "    try:\n"
    "        wire = socket.create_connection(({host!r}, {port}), 1)\n"
    "        wire.sendall(b'GET {path} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n')\n"
    "        if b' 200 ' in wire.recv(4096).partition(b'\\r\\n')[0]: break\n"
    "    except OSError: pass\n"
    "    time.sleep(0.01)\n"
    "else: raise SystemExit('no answer of 200')\n"
)
"""A client for a namespace: asks until the answer is 200."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container that runs or has ended."""

    name: str

    @property
    def pid(self) -> int:
        """Its first process, as this machine numbers it; 0 once it has ended."""
        return int(self.inspect()["State"]["Pid"])

    def inspect(self) -> dict[str, Any]:
        """What podman knows of it."""
        return json.loads(podman("inspect", self.name))[0]

    def events(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        return [json.loads(line) for line in podman("logs", self.name).splitlines() if line[:1] == "{"]

    def event(self, name: str) -> dict[str, Any]:
        """The only line of an event."""
        (found,) = [each for each in self.events() if each["event"] == name]
        return found

    def stop(self) -> float:
        """Send SIGTERM; return the seconds until it has ended, and insist on exit code 0."""
        began = time.monotonic()
        podman("kill", "--signal", "TERM", self.name)
        code = podman("wait", "--interval", "10ms", self.name)
        took_s = time.monotonic() - began
        assert code == "0", podman("logs", self.name)
        return took_s

    def smaps(self) -> dict[str, int]:
        """RSS, PSS and private memory in bytes."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        pairs = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE))
        private = int(pairs["Private_Clean"]) + int(pairs["Private_Dirty"])
        return {"rss": int(pairs["Rss"]) * 1024, "pss": int(pairs["Pss"]) * 1024, "uss": private * 1024}


@contextlib.contextmanager
def container(
    *command: str,
    network: Namespace,
    options: tuple[str, ...] = (),
    image: str = IMAGE,
    env: dict[str, str] | None = None,
    **settings: str,
) -> Iterator[Container]:
    """Run one in a network namespace of the test's, with drainproxy's `settings`, until the block's end."""
    name = f"drainproxy-{uuid.uuid4().hex[:12]}"
    given = {**(env or {}), **{f"DRAINPROXY_{key.upper()}": text for key, text in settings.items()}}
    variables = [word for pair in given.items() for word in ("--env", "=".join(pair))]
    podman(
        *("run", "--detach", "--name", name, "--network", f"ns:/proc/{network.pid}/ns/net", *RESTRICTED),
        *(*options, *variables, image, *command),
    )
    try:
        yield Container(name)
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)


async def answers(
    network: Namespace, path: str = "/startupz", *, host: str = "127.0.0.1", port: int = ADMIN
) -> None:
    """Wait until a listener of a namespace answers 200."""
    await network.run("python3", "-c", ASK.format(host=host, port=port, path=path))
