"""How long may a drain take? From a grace period to absolute deadlines.

Pure. One rule everywhere: grace >= propagation max + leave + app_stop + reserve. `plan` never fails:
a pod that runs must not refuse to start over a sum, so it shortens what can be shortened and says which
number to change. `config --check` turns the same sentence into a failure.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAVE_MARGIN_S = 2.0
"""After the last tunnel was told to leave: the time it has to say goodbye."""

DEFAULT_GRACE_S = 30.0
"""Kubernetes' own default of terminationGracePeriodSeconds."""

_ROUNDING_S = 1e-6
"""Sums of decimal fractions that fit exactly come out a little over."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Who gets which part of the grace period, in seconds, before it is known whether they fit."""

    propagation_max_s: float
    leave_spread_s: float = 5.0
    app_stop_s: float = 5.0
    reserve_s: float = 3.0

    @property
    def needed_s(self) -> float:
        """The least grace period in which all of it fits."""
        leave_s = self.leave_spread_s + LEAVE_MARGIN_S
        return self.propagation_max_s + leave_s + self.app_stop_s + self.reserve_s


@dataclass(frozen=True, slots=True)
class Budget:
    """A grace period divided up, in seconds."""

    grace_s: float
    needed_s: float
    propagation_max_s: float
    leave_s: float
    app_stop_s: float
    reserve_s: float
    problems: tuple[str, ...]

    def deadline(self, t0: float) -> float:
        """Loop time by which admitted work must have ended, for a termination that began at t0."""
        return t0 + max(0.0, self.grace_s - self.app_stop_s - self.reserve_s)


def plan(shares: Shares, grace_s: float | None) -> Budget:
    """Divide `grace_s` (None: not known, Kubernetes' default is assumed)."""
    grace = DEFAULT_GRACE_S if grace_s is None else grace_s
    leave = shares.leave_spread_s + LEAVE_MARGIN_S
    # A short grace period still leaves most of it to the requests.
    app_stop = min(shares.app_stop_s, grace / 5)
    reserve = min(shares.reserve_s, grace / 5)
    room = max(0.0, grace - leave - app_stop - reserve)
    problems: tuple[str, ...] = ()
    if shares.propagation_max_s + leave + app_stop + reserve > grace + _ROUNDING_S:
        problem = (
            f"grace period {grace:g} s is too short: propagation_max {shares.propagation_max_s:g} s"
            f" + leave {leave:g} s (leave_spread {shares.leave_spread_s:g} s + {LEAVE_MARGIN_S:g} s)"
            f" + app_stop {shares.app_stop_s:g} s + reserve {shares.reserve_s:g} s"
            f" = {shares.needed_s:g} s;"
            f" set terminationGracePeriodSeconds and grace_period to at least {shares.needed_s:g} s"
        )
        if room > 0:
            problem += f", or propagation_max to at most {room:g} s"
        problems = (problem,)
    return Budget(
        grace_s=grace,
        needed_s=shares.needed_s,
        propagation_max_s=min(shares.propagation_max_s, room),
        leave_s=leave,
        app_stop_s=app_stop,
        reserve_s=reserve,
        problems=problems,
    )
