"""How this pod's end is timed: the propagation rules and the grace period's division, in force now.

Both follow from the settings and from the grace period, which the cluster may tell better than the
settings do, and more than once. Written by the controller.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from drainproxy.lifecycle import budget as budgets

if TYPE_CHECKING:
    from drainproxy.lifecycle.propagation import Rules
    from drainproxy.lifecycle.settings import LifecycleSettings


class Plan:
    """`rules` are the preset's with `max` shortened to what `budget` has room for."""

    def __init__(self, settings: LifecycleSettings, rules: Rules) -> None:
        self._settings = settings
        self._wanted = rules
        self.observe(None)

    def observe(self, grace_s: float | None) -> None:
        """Count with a grace period that the cluster has told, in seconds; None: it has told none.

        The smaller of this and the setting holds: a kubelet that takes longer than told does no harm.
        """
        settings = self._settings
        known = [each for each in (settings.grace_period, grace_s) if each is not None]
        shares = budgets.Shares(
            propagation_max_s=self._wanted.max_s,
            leave_spread_s=settings.leave_spread,
            app_stop_s=settings.app_stop,
            reserve_s=settings.reserve,
        )
        self.budget = budgets.plan(shares, min(known, default=None))
        self.rules = replace(self._wanted, max_s=self.budget.propagation_max_s)
