"""Who reaches what: the admin port from a neighbour's address, and the control socket as another user."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.network import ADMIN, POD, POD_6, TRAFFIC
from tests.support.process import Proxy
from tests.support.upstream import Upstream, answering
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from tests.support.network import Namespace

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
