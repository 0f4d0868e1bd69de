"""How long may a drain take? From a grace period to absolute deadlines.

Pure. One rule everywhere: grace >= propagation max + leave + app_stop + reserve. Dividing never fails: a pod
that runs must not refuse to start over a sum. A grace period that is shorter than the sum is shared out:
propagation keeps its `max` or half of it, the rest shrinks in proportion, and a sentence says which number to
change. The same goes for settings that contradict one another in time. `config --check` turns these
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

MIN_STOP_S = 2.0
"""What a container is given after its preStop hook and its turn, however late they ended (kubelet:
minimumGracePeriodInSeconds in kuberuntime_container.go). A short grace period is longer by it."""

MIN_RESERVE_S = 0.5
"""Less is not enough to cut, report and exit on a busy node."""

PROPAGATION_SHARE, LEAVE_SHARE, STOP_SHARE = 15 / 30, 7 / 30, 8 / 30
"""Of a grace period that is too short: what the default sum gives to propagation, to leaving, and to app_stop
and reserve together. Where one needs less than its share, the others have more."""

REQUESTS_SHARE = 0.48
"""Of any grace period, at least: where app_stop and reserve would leave less, or the sum does not fit, each
has CAP of it at most."""

CAP = 1 / 5

MARGIN_SHARE = 2 / 7
"""Of `leave_s`, for those who were told last: what the default sum gives."""

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
    leave_margin_s: float
    """The last part of `leave_s`, in which everybody has been told."""
    app_stop_s: float
    reserve_s: float
    refuse_window_s: float
    overtime_s: float
    """How long after the deadline work may go on where SIGTERM has not come: the kubelet gives an application
    that is told to stop then MIN_STOP_S, and as much to a native sidecar, which is told after it."""
    problems: tuple[str, ...]

    def deadline(self, t0: float) -> float:
        """Loop time by which the application is let go, for a termination that began at t0."""
        return t0 + max(0.0, self.grace_s - self.app_stop_s - self.reserve_s)

    def work_deadline(self, t0: float, sigterm_at: float | None, *, told_last: bool) -> float:
        """Loop time by which admitted work must have ended; `sigterm_at`: when SIGTERM came, if it has.

        `told_last`: to a native sidecar it comes when the containers after it are gone or the grace period is
        over, and two seconds are given from then on, whatever was planned.
        """
        at = self.deadline(t0)
        if sigterm_at is None:
            return at + self.overtime_s
        if told_last:
            return min(at + self.overtime_s, sigterm_at + MIN_STOP_S - MIN_RESERVE_S)
        return at


def divide(settings: LifecycleSettings, max_s: float, grace_s: float | None) -> Budget:
    """Divide `grace_s` (None: not known, Kubernetes' default is assumed); `max_s`: propagation's wish."""
    grace = DEFAULT_GRACE_S if grace_s is None else grace_s
    leave, app_stop, reserve = settings.leave_spread + LEAVE_MARGIN_S, settings.app_stop, settings.reserve
    needed = max_s + leave + app_stop + reserve
    if needed > grace + _ROUNDING_S or app_stop + reserve > grace * (1 - REQUESTS_SHARE):
        app_stop, reserve = min(app_stop, grace * CAP), min(reserve, grace * CAP)
    if max_s + leave + app_stop + reserve > grace + _ROUNDING_S:
        return _share_out(settings, max_s, grace, needed)
    return Budget(
        grace_s=grace,
        needed_s=needed,
        propagation_max_s=max_s,
        leave_s=leave,
        leave_margin_s=LEAVE_MARGIN_S,
        app_stop_s=app_stop,
        reserve_s=reserve,
        refuse_window_s=settings.refuse_window,
        overtime_s=0.0,
        problems=(),
    )


def _share_out(settings: LifecycleSettings, max_s: float, grace: float, needed: float) -> Budget:
    """Divide a grace period that is too short for what was asked for."""
    leave, stop = settings.leave_spread + LEAVE_MARGIN_S, settings.app_stop + settings.reserve
    scale = min(1.0, max(grace * STOP_SHARE, grace - max_s - leave) / stop) if stop else 1.0
    app_stop = min(settings.app_stop * scale, grace * CAP)
    if scale < 1:
        # Of what the kubelet adds, nothing need be kept.
        app_stop = min(app_stop, max(0.0, 2 * app_stop - MIN_STOP_S))
    reserve = min(max(settings.reserve * scale, min(settings.reserve, MIN_RESERVE_S)), grace * CAP)
    left = grace - app_stop - reserve
    kept = min(max_s, grace * PROPAGATION_SHARE)
    leave_s = min(leave, left - kept, max(grace * LEAVE_SHARE, left - max_s))
    return Budget(
        grace_s=grace,
        needed_s=needed,
        propagation_max_s=min(max_s, left - leave_s),
        leave_s=leave_s,
        leave_margin_s=min(LEAVE_MARGIN_S, leave_s * max(MARGIN_SHARE, LEAVE_MARGIN_S / leave)),
        app_stop_s=app_stop,
        reserve_s=reserve,
        refuse_window_s=settings.refuse_window * scale,
        overtime_s=max(0.0, MIN_STOP_S - app_stop - reserve) if scale < 1 else 0.0,
        problems=(_too_short(settings, max_s, grace, needed),),
    )


def _too_short(settings: LifecycleSettings, max_s: float, grace: float, needed: float) -> str:
    leave = settings.leave_spread + LEAVE_MARGIN_S
    problem = (
        f"grace period {grace:g} s is too short: propagation_max {max_s:g} s"
        f" + leave {leave:g} s (leave_spread {settings.leave_spread:g} s + {LEAVE_MARGIN_S:g} s)"
        f" + app_stop {settings.app_stop:g} s + reserve {settings.reserve:g} s = {needed:g} s;"
        f" set terminationGracePeriodSeconds and grace_period to at least {needed:g} s"
    )
    room = grace - leave - min(settings.app_stop, grace * CAP) - min(settings.reserve, grace * CAP)
    return f"{problem}, or propagation_max to at most {room:g} s" if room > 0 else problem


def _contradictions(settings: LifecycleSettings, rules: Rules, budget: Budget) -> Iterator[str]:
    """Say which settings make sense alone and have no effect together, in a drain so divided."""
    max_s, until_s = rules.max_s, budget.deadline(0.0)
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
    if budget.refuse_window_s >= until_s:
        yield (
            f"refuse_window {settings.refuse_window:g} s leaves no time to accept requests in a drain of"
            f" {until_s:g} s; set it well below that"
        )
    timeout_s = settings.drain_timeout
    if timeout_s is not None and timeout_s > until_s + _ROUNDING_S:
        needed_s = timeout_s + settings.app_stop + settings.reserve
        yield (
            f"drain_timeout {timeout_s:g} s is beyond the {until_s:g} s that grace period"
            f" {budget.grace_s:g} s"
            " leaves for requests: its deadline ends them first; set terminationGracePeriodSeconds"
            f" and grace_period to at least {needed_s:g} s, or drain_timeout to at most {until_s:g} s"
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
        self.successor_waits = False
        """The pod's successor is made only once the pod is gone. Written by who asks the cluster."""
        self.observe(None)

    def observe(self, grace_s: float | None) -> None:
        """Count with a grace period that the cluster has told, in seconds; None: it has told none.

        The smaller of this and the setting holds: a kubelet that takes longer than told does no harm.
        """
        known = [each for each in (self._settings.grace_period, grace_s) if each is not None]
        self.budget = divide(self._settings, self._wanted.max_s, min(known, default=None))
        self.rules = replace(self._wanted, max_s=self.budget.propagation_max_s)
        self.problems = (*self.budget.problems, *_contradictions(self._settings, self._wanted, self.budget))
