"""How long may a drain take? From a grace period to absolute deadlines.

Pure. One rule everywhere: grace >= propagation max + leave + app_stop + reserve. Dividing never fails: a pod
that runs must not refuse to start over a sum, so what can be shortened is, and a sentence says which number
to change. The same goes for settings that contradict one another in time. `config --check` turns these
sentences into a failure.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from drainproxy.lifecycle.propagation import Rules
from drainproxy.lifecycle.settings import LifecycleSettings

LEAVE_MARGIN_S = 2.0
"""After the last tunnel was told to leave: the time it has to say goodbye."""

DEFAULT_GRACE_S = 30.0
"""Kubernetes' own default of terminationGracePeriodSeconds."""

_ROUNDING_S = 1e-6
"""Sums of decimal fractions that fit exactly come out a little over."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A grace period divided up, in seconds."""

    grace_s: float
    needed_s: float
    """The least grace period in which all that was asked for fits."""
    propagation_max_s: float
    leave_s: float
    app_stop_s: float
    reserve_s: float
    problems: tuple[str, ...]

    def deadline(self, t0: float) -> float:
        """Loop time by which admitted work must have ended, for a termination that began at t0."""
        return t0 + max(0.0, self.grace_s - self.app_stop_s - self.reserve_s)


def divide(settings: LifecycleSettings, max_s: float, grace_s: float | None) -> Budget:
    """Divide `grace_s` (None: not known, Kubernetes' default is assumed); `max_s`: propagation's wish."""
    grace = DEFAULT_GRACE_S if grace_s is None else grace_s
    leave = settings.leave_spread + LEAVE_MARGIN_S
    needed = max_s + leave + settings.app_stop + settings.reserve
    # A short grace period still leaves most of it to the requests.
    app_stop = min(settings.app_stop, grace / 5)
    reserve = min(settings.reserve, grace / 5)
    room = max(0.0, grace - leave - app_stop - reserve)
    problems: tuple[str, ...] = ()
    if max_s + leave + app_stop + reserve > grace + _ROUNDING_S:
        problem = (
            f"grace period {grace:g} s is too short: propagation_max {max_s:g} s"
            f" + leave {leave:g} s (leave_spread {settings.leave_spread:g} s + {LEAVE_MARGIN_S:g} s)"
            f" + app_stop {settings.app_stop:g} s + reserve {settings.reserve:g} s = {needed:g} s;"
            f" set terminationGracePeriodSeconds and grace_period to at least {needed:g} s"
        )
        if room > 0:
            problem += f", or propagation_max to at most {room:g} s"
        problems = (problem,)
    return Budget(grace, needed, min(max_s, room), leave, app_stop, reserve, problems)


def _contradictions(settings: LifecycleSettings, rules: Rules, until_s: float) -> Iterator[str]:
    """Say which settings make sense alone and have no effect together, in a drain of `until_s` seconds."""
    max_s = rules.max_s
    waits = {
        "propagation_margin": rules.margin_s,
        "propagation_quiet": rules.quiet_s,
        "sparse_min": rules.sparse_min_s if rules.quiet_s else 0.0,
    }
    for name, wait_s in waits.items():
        if wait_s > max_s > 0:
            yield (
                f"{name} {wait_s:g} s is longer than propagation_max {max_s:g} s, which then always ends"
                f" propagation; set propagation_max to at least {wait_s:g}s, or {name} below {max_s:g}s"
            )
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


class Plan:
    """The propagation rules and the grace period's division in force now. Written by the controller.

    `rules` are the preset's with `max` shortened to what `budget` has room for; `problems` say what does not
    fit. The cluster may tell the grace period better than the settings do, and more than once.
    """

    def __init__(self, settings: LifecycleSettings, rules: Rules) -> None:
        self._settings = settings
        self._wanted = rules
        self.observe(None)

    def observe(self, grace_s: float | None) -> None:
        """Count with a grace period that the cluster has told, in seconds; None: it has told none.

        The smaller of this and the setting holds: a kubelet that takes longer than told does no harm.
        """
        known = [each for each in (self._settings.grace_period, grace_s) if each is not None]
        self.budget = divide(self._settings, self._wanted.max_s, min(known, default=None))
        self.rules = replace(self._wanted, max_s=self.budget.propagation_max_s)
        contradictions = _contradictions(self._settings, self._wanted, self.budget.deadline(0.0))
        self.problems = (*self.budget.problems, *contradictions)
