"""When has the cluster stopped choosing this pod?

Pure. `judge` weighs the cluster's word, the time since the drain began and the silence on the
listener, always under a cap. It is asked again by the controller whenever a fact changes or its own
`check_at` comes; it never waits.
"""

from dataclasses import dataclass
from enum import StrEnum

MIN_SOUND = 5
"""Arrivals expected within `quiet` below which silence says nothing: at 5 expected, a Poisson source
is silent by chance in 0.7 % of the cases; at one per 5 s it is silent for 2 s in 67 %."""


class Routability(StrEnum):
    """What the cluster says of this pod."""

    ROUTABLE = "routable"
    GONE = "not routable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The cluster's word, and since when (loop time, seconds) it has been so."""

    state: Routability
    since: float
    terminating: bool = False
    """The cluster says that this pod is being deleted."""
    alone: bool = False
    """No other endpoint of this pod's Services is ready."""


UNKNOWN = Evidence(Routability.UNKNOWN, since=0.0)
"""No API, no permission, an error, no own row ever seen, not in Kubernetes: unknown is never gone."""


class Reason(StrEnum):
    """Why propagation ended: the closed label set of `propagation_end_total`."""

    SLICES_QUIET = "slices_quiet"
    QUIET = "quiet"
    MAX = "max"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers of one propagation, in seconds. `quiet_s` 0 switches the quiet rule off."""

    min_s: float
    margin_s: float
    quiet_s: float
    max_s: float
    hold_min: bool = False
    """Hold `min` even with the cluster's word: it says nothing about a balancer or a DNS cache."""
    balancer: bool = False
    """A balancer would answer `Connection: close` by reconnecting to us, until `min` has passed."""
    sparse_min_s: float = 8.0


PRESETS: dict[str, tuple[Rules, str]] = {
    "none": (Rules(0, 0, 0, 0), "outside Kubernetes (the default there)"),
    "cluster": (Rules(5, 2, 2, 15), "kube-proxy and in-cluster ingress (the default inside)"),
    "mesh": (Rules(5, 10, 0, 25), "a local mesh sidecar pools connections: arrivals mean nothing"),
    "alb": (Rules(35, 10, 10, 90, hold_min=True, balancer=True), "AWS target groups by IP"),
    "gce-neg": (Rules(30, 15, 10, 75, hold_min=True, balancer=True), "GKE container-native load balancing"),
    "agic": (Rules(60, 15, 15, 120, hold_min=True, balancer=True), "Azure Application Gateway"),
    "headless-dns": (Rules(35, 5, 5, 60, hold_min=True), "clients that resolve pods by DNS"),
    "multicluster": (Rules(15, 10, 5, 60), "endpoint rows live in another cluster"),
}
"""Name -> rules and what they are for. Each number can be set alone (`propagation_min` ...)."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one drain at one moment. Times are loop times in seconds."""

    started: float
    evidence: Evidence
    last_late: float | None
    arrivals_per_s: float
    """Request-bearing connections a second before the drain, health checks left out."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Over, and why; or what it waits for and when to ask again."""

    over: Reason | None
    check_at: float
    waiting_for: str


def sparse(rules: Rules, arrivals_per_s: float) -> bool:
    """Tell whether silence for `quiet` would be no evidence, for want of sound before."""
    return rules.quiet_s > 0 and arrivals_per_s * rules.quiet_s < MIN_SOUND


def judge(rules: Rules, facts: Facts, now: float) -> Verdict:
    """Decide whether the cluster has forgotten this pod."""
    cap = facts.started + rules.max_s
    waits: list[tuple[float, str]] = []
    if facts.evidence.state is Routability.GONE:
        reason = Reason.SLICES_QUIET
        waits.append((facts.evidence.since + rules.margin_s, "margin after the slices flipped"))
        if rules.hold_min:
            waits.append((facts.started + rules.min_s, "min, for the balancer or DNS"))
    else:
        reason = Reason.QUIET
        waits.append((facts.started + rules.min_s, "min, without the cluster's word"))
    if rules.quiet_s > 0:
        heard = facts.started if facts.last_late is None else facts.last_late
        waits.append((heard + rules.quiet_s, "quiet after the last late arrival"))
        if sparse(rules, facts.arrivals_per_s):
            waits.append((facts.started + rules.sparse_min_s, "sparse_min, for want of traffic"))
    ready_at, waiting_for = max(waits)
    if now >= ready_at:
        return Verdict(reason, now, "nothing")
    if now >= cap:
        return Verdict(Reason.MAX, now, "nothing")
    return Verdict(None, min(ready_at, cap), waiting_for)
