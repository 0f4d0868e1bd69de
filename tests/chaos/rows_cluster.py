"""The row about an API server that misbehaves while pods drain."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tests.chaos.row import Measured, pods_row
from tests.pods.scene import SHORT, only_report, sidecar, traffic
from tests.pods.test_faults import ANSWERS, WATCHES
from tests.support.cluster.door import Mode
from tests.support.kubelet import wirings
from tests.support.kubelet.cluster import Cluster, cluster

if TYPE_CHECKING:
    from tests.chaos.ground import Ground

MODES = {mode.name.lower(): mode for mode in (Mode.REFUSING, Mode.RESETTING, Mode.BLACKHOLE, Mode.DROPPING)}
SHORT_FORM = ("500", "refusing")
AT_ONCE = 3
WATCHED = {"slices_quiet", "quiet", "max"}
"""The list may have come before the flip: then the last word is "ready"."""


@pods_row("API server faults in a drain", line="kubernetes_api", series='result="failed"')
async def api(ground: Ground) -> Measured:
    """Pods end under load while the API server refuses, hangs, lies, cuts or is not reached at all."""
    faults = {**ANSWERS, **MODES, **WATCHES}
    chosen = ground.pick(tuple(faults), SHORT_FORM)
    room = asyncio.Semaphore(AT_ONCE)
    sent = lost = 0

    async def play(name: str) -> None:
        nonlocal sent, lost
        async with room, cluster() as town:
            town.neighbour()
            outcomes = await _ended(town, ground, faults[name], watch=name in WATCHES)
            sent += len(outcomes)
            lost += sum(each.lost for each in outcomes)

    async with asyncio.TaskGroup() as group:
        for name in chosen:
            group.create_task(play(name))
    return Measured(lost, f"of {sent:,} requests, {len(chosen)} faults")


async def _ended(town: Cluster, ground: Ground, fault, *, watch: bool):
    """Start a pod under the fault, delete it under load; return what became of the requests."""
    with contextlib.ExitStack() as stack:
        if isinstance(fault, Mode):
            town.api.door.mode = fault
        else:
            stack.enter_context(town.api.faults.on(fault, verb="watch" if watch else None))
        pod = await town.run(wirings.native(**SHORT))
        async with traffic(pod) as calls:
            if not watch:
                await sidecar(pod).line("kubernetes_api")
            ending = town.kubelet.delete(pod)
            await asyncio.sleep(0.5)
            await ground.books((pod.ip, wirings.ADMIN_PORT))
            calls.stop()
            await ending
    assert not pod.killed
    assert only_report(pod)["propagation_ended"] in (WATCHED if watch else {"quiet"})
    said = sidecar(pod).lines
    ground.said += said
    complaints = [(line["asked"], line["reason"]) for line in said if line["event"] == "kubernetes_api"]
    # Once while it starts, once while it drains.
    assert max(map(complaints.count, complaints), default=0) <= 2, complaints
    assert not [line for line in said if line["event"] in {"defect", "library", "text"}]
    return calls.outcomes
