"""Rows about balancers that forget a pod long after the cluster has: each platform's lag, and its preset."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from drainproxy.lifecycle.propagation import PRESETS, Rules
from tests.chaos.row import ONE, Evidence, Measured, row
from tests.chaos.rows_pods_ends import called
from tests.pods.scene import SHORT, only_report, sidecar
from tests.support.cluster.plane import plane
from tests.support.kubelet import wirings
from tests.support.kubelet.cluster import cluster

if TYPE_CHECKING:
    from tests.chaos.ground import Ground

CALLERS = 10
SCALE, QUIET = 10, {"propagation_quiet": "2s"}
"""The short form has all times divided by that, but for silence: callers that starve are silent, too."""
REST_S = 15
"""Of the grace period behind `propagation_max`: 5 + 2 + 5 + 3 (docs/operations.md)."""


@dataclass(frozen=True, slots=True)
class Balancer:
    """How long one sends callers to a pod that ends (docs/platforms), and what stands against it."""

    lag_s: float
    preset: str
    min_s: float | None = None
    max_s: float | None = None

    @property
    def rules(self) -> Rules:
        """The preset's, with what is set beside it."""
        usual = PRESETS[self.preset][0]
        return replace(usual, min_s=self.min_s or usual.min_s, max_s=self.max_s or usual.max_s)


ALB = Balancer(17.0, "alb")
NLB = Balancer(120.0, "alb", 150.0, 180.0)
GCE = Balancer(40.0, "gce-neg")
AGIC = Balancer(90.0, "agic")


async def _forgotten(ground: Ground, balancer: Balancer) -> Measured:
    """Delete one of three pods, to which a balancer goes on sending callers."""
    scale, rules = ground.pick(1, SCALE), balancer.rules
    grace_s = math.ceil(rules.max_s / scale + ground.pick(REST_S, 8))
    times = {"propagation": balancer.preset, "grace_period": f"{grace_s}s"}
    times |= {
        f"propagation_{name}": f"{seconds * 1000 / scale:.0f}ms"
        for name, seconds in (("min", rules.min_s), ("max", rules.max_s))
    }
    if ground.short:
        times = {**SHORT, **QUIET, "propagation_margin": f"{rules.margin_s * 1000 / scale:.0f}ms", **times}
        times |= {"leave_spread": "200ms"}
    manifest = wirings.plain(**times)
    manifest["spec"]["terminationGracePeriodSeconds"] = grace_s
    loop, lag_s = asyncio.get_running_loop(), balancer.lag_s / scale
    async with cluster() as town:
        leaving, *_ = [await town.run(manifest) for _ in range(3)]
        async with (
            plane(town.api.store, wirings.TRAFFIC_PORT, lag_s) as choices,
            called(choices, CALLERS) as outcomes,
        ):
            await asyncio.sleep(1.0)
            began, ending = loop.time(), town.kubelet.delete(leaving)
            await ending
            took_s = loop.time() - began
            await asyncio.sleep(1.0)
        said, report = sidecar(leaving).lines, only_report(leaving)
        ground.said += said
        assert not leaving.killed
        assert report["propagation_ended"] in {"slices_quiet", "quiet"}
        # They were sent there to the end of the lag, or nothing is proved.
        assert report["last_late_after_flip_s"] > lag_s / 2
        assert took_s >= rules.min_s / scale
    lost = sum(each.lost for each in outcomes)
    return Measured(
        lost, f"of {len(outcomes):,} requests, {report['requests']['late']:,} late; gone after {took_s:.0f} s"
    )


LATE = Evidence(line="drain_report", series=None)


@row("balancer: ALB", LATE, most=0, unit="lost", loops=ONE)
async def alb(ground: Ground) -> Measured:
    """A balancer forgets a pod after 17 s, as an Application Load Balancer was seen to; preset alb."""
    return await _forgotten(ground, ALB)


@row("balancer: GKE", LATE, most=0, unit="lost", loops=ONE)
async def gce(ground: Ground) -> Measured:
    """The same after 40 s, for which Google's sample waits; preset gce-neg."""
    return await _forgotten(ground, GCE)


@row("balancer: AGIC", LATE, most=0, unit="lost", loops=ONE)
async def agic(ground: Ground) -> Measured:
    """The same after 90 s, for which the controller's sample waits; preset agic."""
    return await _forgotten(ground, AGIC)


@row("balancer: NLB", LATE, most=0, unit="lost", loops=ONE)
async def nlb(ground: Ground) -> Measured:
    """The same after 120 s, as a Network Load Balancer was seen to; alb with min 150 s and max 180 s."""
    return await _forgotten(ground, NLB)
