"""HTTP as the kubelet speaks it: probes and httpGet hooks."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.kubelet.container import Container

AGENT = "kube-probe/1.36"
_EAGER_S = 0.2
"""Between two probes of a container that is not ready yet; the kubelet does not wait for the period then."""


async def http_get(ip: str, action: dict[str, Any], *, agent: str = AGENT) -> int:
    """Return the status of one GET on a connection of its own. Raises OSError, ValueError."""
    reader, writer = await asyncio.open_connection(ip, action["port"])
    try:
        head = f"GET {action.get('path', '/')} HTTP/1.1\r\nHost: {ip}:{action['port']}\r\n"
        writer.write(f"{head}User-Agent: {agent}\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        return int(answer.split(b" ", 2)[1]) if answer else 0
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def failure(ip: str, probe: dict[str, Any]) -> str:
    """Return what one probe complains of; nothing where it passes."""
    try:
        async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
            if "httpGet" in probe:
                status = await http_get(ip, probe["httpGet"])
                return "" if 200 <= status < 400 else f"HTTP probe failed with statuscode: {status}"
            _, writer = await asyncio.open_connection(ip, probe["tcpSocket"]["port"])
            writer.close()
            return ""
    except (OSError, TimeoutError, ValueError, IndexError) as error:
        return str(error) or type(error).__name__


async def passes(ip: str, probe: dict[str, Any]) -> bool:
    """Tell what one probe finds."""
    return not await failure(ip, probe)


async def started(ip: str, container: Container) -> None:
    """Return once the startup probe passes, if there is one."""
    probe = container.manifest.get("startupProbe")
    while probe and not await passes(ip, probe):
        await asyncio.sleep(_EAGER_S)


async def watch_readiness(
    ip: str, container: Container, changed: asyncio.Event, failed: Callable[[str], None]
) -> None:
    """Keep `container.ready` up to date until cancelled; tell `failed` of each probe that does."""
    # "If a startup probe is configured, Kubernetes does not execute liveness or readiness probes until it
    # succeeds" (Kubernetes: Liveness, Readiness, and Startup Probes).
    await started(ip, container)
    probe = container.manifest.get("readinessProbe")
    failures = 0
    while True:
        why = await failure(ip, probe) if probe is not None and container.running else ""
        if why and container.running:
            failed(f"Readiness probe failed: {why}")
        good = container.running and not why
        failures = 0 if good else failures + 1
        threshold = (probe or {}).get("failureThreshold", 3)
        ready = good or (container.ready and container.running and failures < threshold)
        if ready != container.ready:
            container.ready = ready
            changed.set()
        eager = not container.ready and failures < threshold * 50
        await asyncio.sleep(_EAGER_S if eager else (probe or {}).get("periodSeconds", 10))
