"""Kubelet: what Kubernetes does to a pod that is deleted, for the lanes of the demo.

At t0 the preStop hooks run and containers without a hook get SIGTERM; a container with a hook gets
its SIGTERM after it; what is left when the grace period is over is killed. It never decides what is
measured. https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from drainproxy.proof.client import Client, Request
from drainproxy.proof.demo.pods import GRACE_S, Pod, Sidecar


@dataclass(frozen=True, slots=True)
class Gone:
    """How a pod left."""

    after_s: float  # from t0 until its last process was gone
    killed: bool  # the grace period ended first


async def delete_pod(
    pod: Pod, *, t0: float, pre_stop_s: float, note: Callable[[str], None], grace_s: float = GRACE_S
) -> Gone:
    """Returns when all its processes are gone, which is at the end of the grace period at the latest."""
    killed = False
    try:
        async with asyncio.timeout_at(t0 + grace_s):
            if pod.sidecar:
                pod.sidecar.process.terminate()
                await _drain_wait(pod.sidecar)
            else:
                if pre_stop_s:
                    note(f"preStop: sleep {pre_stop_s:g}")
                    await asyncio.sleep(pre_stop_s)
                note("SIGTERM")
            pod.app.terminate()
            for process in pod.processes:
                await process.gone.wait()
    except TimeoutError:
        killed = True
        for process in pod.processes:
            process.kill()
            await process.gone.wait()
    after_s = max(process.exited_at for process in pod.processes) - t0
    note(f"gone at {after_s:.1f} s" + (" (killed)" if killed else ""))
    return Gone(after_s=after_s, killed=killed)


async def _drain_wait(sidecar: Sidecar) -> None:
    """The application's preStop httpGet: whatever comes of it, SIGTERM is next."""
    host, port = sidecar.admin
    client = Client(choose=lambda: sidecar.admin, keep_alive=False, timeout_s=GRACE_S)
    await client.send(Request(method="GET", path="/drain/wait", host=f"{host}:{port}"))
