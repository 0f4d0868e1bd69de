"""Network namespaces with a cable between them: a pod's, and another pod's."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

POD, NEIGHBOUR = "192.0.2.1", "192.0.2.2"
POD_6, NEIGHBOUR_6 = "2001:db8::1", "2001:db8::2"
ADMIN, TRAFFIC = 29900, 28080
"""The defaults: in a namespace of its own every port is free."""
Made = TypeVar("Made")
CLONE_NEWNET = 0x40000000

ASK = """
import socket, sys
wire = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
wire.sendall(sys.stdin.buffer.read())
while data := wire.recv(65536):
    sys.stdout.buffer.write(data)
"""
JOIN = f"""
ip link set lo up
ip link add pod type veth peer name wire netns $1
ip address add {POD}/24 dev pod && ip address add {POD_6}/64 dev pod nodad && ip link set pod up
nsenter --net=/proc/$1/ns/net sh -c '
  ip link set lo up
  ip address add {NEIGHBOUR}/24 dev wire && ip address add {NEIGHBOUR_6}/64 dev wire nodad
  ip link set wire up
'
"""


class Namespace:
    """A network namespace that lives as long as the process that holds it."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        self.pid = self._holder.pid

    async def entered(self) -> None:
        """Wait until it is there."""
        async with asyncio.timeout(PATIENCE_S):
            while Path(f"/proc/{self.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
                await asyncio.sleep(0.002)

    async def run(self, *command: str, said: bytes = b"") -> bytes:
        """Run a command in it; return what it wrote."""
        child = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net=/proc/{self.pid}/ns/net", *command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        async with asyncio.timeout(2 * PATIENCE_S):
            out, _ = await child.communicate(said)
        assert child.returncode == 0, out.decode()
        return out

    async def ask(self, line: str, *fields: str, to: str = POD, port: int = ADMIN, before: str = "") -> str:
        """Send one request from here; return the answer."""
        head = "\r\n".join([f"{line} HTTP/1.1", *(fields or ("Host: localhost",)), "Connection: close"])
        said = f"{before}{head}\r\n\r\n".encode()
        return (await self.run(sys.executable, "-c", ASK, to, str(port), said=said)).decode()

    def within(self, make: Callable[[], Made]) -> Made:
        """Return what `make` makes in here: a socket stays in the namespace of its thread."""

        def enter() -> Made:
            with Path(f"/proc/{self.pid}/ns/net").open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return make()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(enter).result()

    def close(self) -> None:
        """Let it go, and what is in it."""
        self._holder.communicate()


def may_make_one() -> bool:
    """Root within a container may lack the right to."""
    return subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode == 0


@contextlib.asynccontextmanager
async def joined() -> AsyncIterator[tuple[Namespace, Namespace]]:
    """Two network namespaces with a cable between them: the pod's, and another pod's."""
    if os.geteuid() or not may_make_one():
        pytest.skip("network namespaces need root: run this as root, or in CI")
    if not shutil.which("ip"):
        pytest.skip("ip is not installed; apt-get install iproute2")
    with contextlib.ExitStack() as stack:
        pod, neighbour = Namespace(), Namespace()
        for each in (pod, neighbour):
            stack.callback(each.close)
            await each.entered()
        await pod.run("sh", "-ec", JOIN, "sh", str(neighbour.pid))
        yield pod, neighbour
