"""A mesh's proxy in a pod: Envoy, and beside it an agent that drains it as Istio's pilot-agent does.

At the preStop hook, and again at SIGTERM, the agent tells Envoy to drain its inbound listeners gracefully;
five seconds after SIGTERM (terminationDrainDuration) it ends it. Run as a script: the address, a
configuration, and Envoy's command behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any

from tests.rollout import envoy

if TYPE_CHECKING:
    from tests.support.kubelet.sandbox import Sandbox

INBOUND_PORT, ADMIN_PORT = 15006, 15000
DRAIN_S = 5.0
_DRAIN = "/drain_listeners?inboundonly&graceful&skip_exit"


def image(sandbox: Sandbox) -> list[str]:
    """Return the command of the image `mesh`."""
    inbound = {
        **envoy.http_listener("inbound", (sandbox.ip, INBOUND_PORT), "pod"),
        "traffic_direction": "INBOUND",
    }
    cluster = envoy.static_cluster("pod", (sandbox.ip, 28080))
    config = envoy.bootstrap((sandbox.ip, ADMIN_PORT), [inbound], [cluster])
    words = envoy.command(
        config,
        sandbox.directory / "mesh.json",
        # Istio's drainDuration, and its strategy for listeners that drain at a pod's end.
        *("--drain-time-s", "45", "--drain-strategy", "immediate"),
    )
    return [sys.executable, "-m", "tests.rollout.mesh", sandbox.ip, *words]


def container() -> dict[str, Any]:
    """Return the native sidecar, which starts before drainproxy and ends after it."""
    drain = [sys.executable, "-m", "tests.rollout.mesh", "127.0.0.1", "drain"]
    return {
        "name": "mesh",
        "image": "mesh",
        "restartPolicy": "Always",
        "startupProbe": {"httpGet": {"path": "/ready", "port": ADMIN_PORT}},
        "lifecycle": {"preStop": {"exec": {"command": drain}}},
    }


async def _drain(ip: str) -> None:
    reader, writer = await asyncio.open_connection(ip, ADMIN_PORT)
    writer.write(f"POST {_DRAIN} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n".encode())
    await reader.read()
    writer.close()


async def _agent(ip: str, words: list[str]) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    process = await asyncio.create_subprocess_exec(*words)
    try:
        await told.wait()
        await _drain(ip)
        await asyncio.sleep(DRAIN_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


if __name__ == "__main__":
    _, ip, *rest = sys.argv
    asyncio.run(_drain(ip) if rest == ["drain"] else _agent(ip, rest))
