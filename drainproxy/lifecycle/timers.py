"""Settings that contradict one another in time: each alone makes sense, together one has no effect.

Pure. Called by config.py, which makes them warnings: a running pod lives with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.lifecycle.budget import Plan
    from drainproxy.lifecycle.propagation import Rules
    from drainproxy.lifecycle.settings import LifecycleSettings


def timer_problems(settings: LifecycleSettings, rules: Rules, plan: Plan) -> Iterator[str]:
    """Yield a sentence for each, with the number to change. `rules`: as they were asked for."""
    max_s = rules.max_s
    if max_s > 0:
        waits = {
            "propagation_margin": rules.margin_s,
            "propagation_quiet": rules.quiet_s,
            "sparse_min": rules.sparse_min_s if rules.quiet_s else 0.0,
        }
        for name, wait_s in waits.items():
            if wait_s > max_s:
                yield (
                    f"{name} {wait_s:g} s is longer than propagation_max {max_s:g} s, which then always ends"
                    f" propagation; set propagation_max to at least {wait_s:g}s, or {name} below {max_s:g}s"
                )
    until_s = plan.budget.deadline(0.0)
    if settings.refuse_window >= until_s:
        yield (
            f"refuse_window {settings.refuse_window:g} s leaves no time to accept requests in a drain of"
            f" {until_s:g} s; set it well below that"
        )
    readiness = settings.readiness_on_drain
    if readiness.kind == "delay" and readiness.delay_s >= until_s:
        yield (
            f"readiness_on_drain delay:{readiness.delay_s:g}s says 200 until the drain's deadline after"
            f" {until_s:g} s; set it below"
        )
