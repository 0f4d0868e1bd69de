"""What everybody else may know of the lifecycle at one moment: one immutable picture.

Pure. Made by the controller at every change; the data plane reads it and asks nothing else.
"""

import math
from dataclasses import dataclass

from drainproxy.lifecycle.budget import MIN_STOP_S, Plan
from drainproxy.lifecycle.drain import Drain
from drainproxy.lifecycle.machine import POLICY, Phase, Policy, Reuse
from drainproxy.lifecycle.settings import LifecycleSettings


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Times are loop times in seconds; `math.inf` for never."""

    phase: Phase
    policy: Policy
    drain_started: float
    """Requests on connections accepted after this are late arrivals."""
    discourage_reuse: bool
    refuse_from: float
    """From here on a new request is refused: too little is left to answer it."""
    work_deadline: float
    """By when an admitted request must have ended, if its route does not say otherwise."""
    deadline: float
    """By when the drain must have ended."""
    draining: bool
    """A drain has begun and was not taken back."""
    leave_margin_s: float
    """Who has been told to leave and has not by so long before the deadline is ended."""
    killed_at: float
    """By when the process must have ended."""
    sent_until: float
    """Up to here the cluster sends callers, who would not find another pod by coming again. Later ones come
    by themselves, to an address that they keep."""


def picture(
    phase: Phase,
    drain: Drain | None,
    plan: Plan,
    settings: LifecycleSettings,
    now: float,
    *,
    sole: bool = False,
) -> Snapshot:
    """Return what is true at `now` in `phase`; `drain` None: none runs. `sole`: nobody else serves."""
    policy = POLICY[phase]
    margin_s = plan.budget.leave_margin_s
    if drain is None:
        never = math.inf
        return Snapshot(phase, policy, never, False, never, never, never, False, margin_s, never, never)
    deadline = plan.budget.work_deadline(drain.t0, drain.sigterm_at, told_last=drain.own_hook)
    # A balancer would only reconnect to us as long as it has not heard of the drain.
    hold_s = plan.rules.min_s if plan.rules.balancer else 0.0
    discourage = policy.reuse is Reuse.DISCOURAGE and now >= drain.started + hold_s
    timeout = math.inf if settings.drain_timeout is None else settings.drain_timeout
    return Snapshot(
        phase=phase,
        policy=policy,
        drain_started=drain.started,
        discourage_reuse=discourage or policy.reuse is Reuse.CLOSE,
        refuse_from=-math.inf if drain.refusing else deadline - plan.budget.refuse_window_s,
        work_deadline=math.inf if phase is Phase.DRAINED else min(deadline, drain.started + timeout),
        deadline=math.inf if phase is Phase.DRAINED else deadline,
        draining=True,
        leave_margin_s=margin_s,
        killed_at=_killed_at(drain, plan),
        sent_until=_sent_until(drain, plan, sole=sole) if phase is Phase.PROPAGATING else -math.inf,
    )


def _sent_until(drain: Drain, plan: Plan, *, sole: bool) -> float:
    # Before `followed` the data plane could not choose anybody else.
    begun = drain.started if drain.followed is None else max(drain.started, drain.followed)
    return math.inf if sole else begun + plan.rules.min_s


def _killed_at(drain: Drain, plan: Plan) -> float:
    if drain.sigterm_at is None:
        return math.inf
    # Where SIGTERM comes last, the kubelet promises this much and no more: nobody need have told us of a
    # shorter grace period.
    least = drain.sigterm_at + MIN_STOP_S
    return least if drain.outlived or drain.own_hook else max(least, drain.t0 + plan.budget.grace_s)
