"""Who reaches what: the admin port from a neighbour's address, and the control socket as another user."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.process import Proxy
from tests.support.upstream import Upstream, answering
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POD, NEIGHBOUR = "192.0.2.1", "192.0.2.2"
POD_6, NEIGHBOUR_6 = "2001:db8::1", "2001:db8::2"
ADMIN, TRAFFIC = 29900, 28080
"""The defaults: in a namespace of its own every port is free."""

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

    def close(self) -> None:
        """Let it go, and what is in it."""
        self._holder.communicate()


def may_make_one() -> bool:
    """Root within a container may lack the right to."""
    return subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode == 0


@pytest.fixture
async def neighbours() -> AsyncIterator[tuple[Namespace, Namespace]]:
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


CLAIMS = {
    "nothing": ((), ""),
    "Host": (("Host: 127.0.0.1:29900",), ""),
    "X-Forwarded-For": (("Host: localhost", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: ::1"), ""),
    "Forwarded": (("Host: localhost", 'Forwarded: for="127.0.0.1";by="[::1]"'), ""),
    "the page's own origin": (("Host: localhost", "Sec-Fetch-Site: same-origin"), ""),
    "a PROXY header": ((), "PROXY TCP4 127.0.0.1 127.0.0.1 1 29900\r\n"),
}
"""What a caller may say to seem to be somebody else."""


async def test_a_neighbour_may_probe_scrape_and_wait_and_nothing_more(neighbours, tmp_path: Path) -> None:
    """What a pod's own people see stays in the pod, whatever a neighbour claims; control is not on TCP."""
    pod, neighbour = neighbours
    application = tmp_path / "application.sock"
    async with (
        Upstream(answering(), path=application) as upstream,
        Proxy(upstreams=[upstream.address], network=pod.pid, listen=f":{TRAFFIC}", admin=f":{ADMIN}",
              restart_window="50ms") as proxy,
    ):  # fmt: skip
        await proxy.ready()
        assert await listening(pod) == {ADMIN, TRAFFIC}, "nothing else listens"
        for path in ("/livez", "/readyz", "/startupz", "/lb-health", "/metrics"):
            assert (await neighbour.ask(f"GET {path}")).startswith("HTTP/1.1 200 "), path
        for fields, before in CLAIMS.values():
            for path in ("/status", "/", "http://localhost/status"):
                for to in (POD, POD_6):
                    answer = await neighbour.ask(f"GET {path}", *fields, to=to, before=before)
                    assert answer.split()[1] in {"400", "403", "404"}, (path, fields)
                    assert '"phase"' not in answer
        for method in ("GET", "POST", "PUT", "DELETE"):
            for path in ("/drain", "/undrain", "/drain?prestop=1"):
                assert (await neighbour.ask(f"{method} {path}")).startswith("HTTP/1.1 404 ")
        assert (await neighbour.ask("POST /drain/wait")).startswith("HTTP/1.1 405 ")
        # It waits for restart_window, in case a SIGTERM is on its way, and begins nothing.
        assert (await neighbour.ask("GET /drain/wait")).endswith("not draining\n")
        assert (await neighbour.ask("POST /drain", port=TRAFFIC)).endswith("ok"), (
            "it is the application's path"
        )
        assert '"phase":"ready"' in await pod.ask("GET /status", to="127.0.0.1")
        assert '"phase":"ready"' in await pod.ask("GET /status", to="::1")
        assert (await pod.ask("GET /status", to=POD)).startswith("HTTP/1.1 403 "), "hooks go to the pod's IP"
        assert [line["phase"] for line in proxy.lines if line["event"] == "phase"] == ["ready"]


async def listening(where: Namespace) -> set[int]:
    """The TCP ports on which somebody listens."""
    rows = (await where.run("cat", "/proc/net/tcp", "/proc/net/tcp6")).decode().splitlines()
    states = [row.split() for row in rows]
    return {int(row[1].rpartition(":")[2], 16) for row in states if row[3] == "0A"}


REACH = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


def reach(path: str, user: int) -> str:
    """Connect to a Unix socket as a user; return what that said."""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", REACH, path],
        user=user,
        group=user,
        extra_groups=[],
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return done.stderr.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="to be another user takes root: run this as root, or in CI")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no interpreter that others may run")
async def test_another_user_cannot_reach_the_control_socket() -> None:
    """Not even where its directory is open to everybody: the socket's own mode says so."""
    async with Upstream(answering()) as upstream, Proxy(upstreams=[upstream.address]) as proxy:
        await proxy.ready()
        Path(proxy.control_socket).parent.chmod(0o755)
        assert reach(proxy.control_socket, 0) == ""
        assert "PermissionError" in reach(proxy.control_socket, 65534)
