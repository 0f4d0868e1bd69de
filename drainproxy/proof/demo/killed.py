"""Killed: what a drainproxy that dies without warning takes with it. Shown, not judged.

No process outlives kill -9 with its connections. The only pod of a Service loses its proxy under load
here, and the kubelet starts the container again at once, as it does after a first crash.
"""

import asyncio
from pathlib import Path

from drainproxy.proof.demo.crowd import Crowd, roles
from drainproxy.proof.demo.lane import Router
from drainproxy.proof.demo.pods import Pod, PodMaker
from drainproxy.proof.demo.results import KilledResult

_BEFORE_S = 1.2  # longer than a slow answer here takes: some are under way when the axe falls
_AFTER_S = 1.0
_SLOW_S = 1.0


async def kill_sidecar(pod: Pod, maker: PodMaker, *, ledger: Path) -> KilledResult:
    loop = asyncio.get_running_loop()
    assert pod.sidecar is not None
    crowd = Crowd("killed", Router(pod.address).choose, roles(slow_s=_SLOW_S, stream_s=_SLOW_S))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.run(stop))
        await asyncio.sleep(_BEFORE_S)
        t0 = loop.time()
        pod.sidecar.process.kill()
        await pod.sidecar.process.gone.wait()
        await maker.start_sidecar(pod.name, upstream=pod.app_address, traffic=pod.address)
        back_after_s = loop.time() - t0
        await asyncio.sleep(_AFTER_S)
        stop.set()
    return KilledResult(load=crowd.result(ledger, t0=t0), back_after_s=back_after_s)
