"""When has the cluster stopped choosing this pod?

Pure. `judge` weighs the cluster's word, the time since the drain began and the silence on the
listener, always under a cap. It is asked again by the controller whenever a fact changes or its own
`check_at` comes; it never waits.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

MIN_SOUND = 5
"""Arrivals expected within `quiet` below which silence says nothing: at 5 expected, a Poisson source
is silent by chance in 0.7 % of the cases; at one per 5 s it is silent for 2 s in 67 %."""

DOUBT = 2
"""Times `quiet` that callers must be silent against the cluster's word "still ready": with ten arrivals
expected a Poisson source is silent by chance in 0.005 % of the cases."""


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
    """No other endpoint of this pod's Services is ready, in the cluster or on its node."""
    sole: bool = False
    """No other endpoint is ready anywhere: who is not served here is not served."""
    stuck: bool = False
    """A row of this pod stays ready until the pod is gone (publishNotReadyAddresses), and says nothing."""
    coming: bool = False
    """Another endpoint is there and not ready yet."""


UNKNOWN = Evidence(Routability.UNKNOWN, since=0.0)
"""No API, no permission, an error, no own row ever seen, not in Kubernetes: unknown is never gone."""


class Reason(StrEnum):
    """Why propagation ended: the closed label set of `propagation_end_total`."""

    SLICES_QUIET = "slices_quiet"  # the slices have flipped, and callers are quiet
    QUIET = "quiet"  # without the cluster's word, or against it: callers are quiet
    MAX = "max"  # propagation_max has passed
    ALONE = "alone"  # nobody else has become ready and leaving takes what is left, or nobody can
    DEADLINE = "deadline"  # the drain's deadline has come
    UPSTREAM_GONE = "upstream_gone"  # the application is gone: nobody can be served
    INTERRUPTED = "interrupted"  # a person insists (the second SIGINT)


class Rule(StrEnum):
    """What decides how long something lasts, in /status, its views and the log (docs/operations.md)."""

    APPLICATION = "application"
    WARMUP = "warmup"
    RESTART_WINDOW = "restart_window"
    MIN = "min"
    MARGIN = "margin"
    FLIP = "flip"
    QUIET = "quiet"
    TWICE_QUIET = "twice_quiet"
    SPARSE_MIN = "sparse_min"
    MAX = "max"
    ALONE = "alone"
    IN_FLIGHT = "in_flight"
    SETTLE = "settle"
    REFUSE_WINDOW = "refuse_window"
    LAST_SCRAPE = "last_scrape"
    SIGTERM = "sigterm"
    EXIT = "exit"


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing that is waited for. Loop times in seconds."""

    rule: Rule
    words: str
    since: float = -math.inf
    until: float = math.inf
    """`math.inf`: no clock ends it."""


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
    latest: float = -math.inf
    """By when a pod that alone serves has to go over to draining; `-math.inf`: it is not to be held."""
    followed: float | None = None
    """Since when another endpoint has been ready, where there was none: only now can others be chosen."""
    young: bool = False
    """The process had not served for long enough to have heard anybody."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Over, and why; or what it waits for and when to ask again."""

    over: Reason | None
    check_at: float
    waits: tuple[Wait, ...] = ()
    """While it is not over: the first is what decides."""

    @property
    def waiting_for(self) -> str:
        """What decides, in the words of the manual."""
        return self.waits[0].words if self.waits else "nothing"


def sparse(rules: Rules, arrivals_per_s: float) -> bool:
    """Tell whether silence for `quiet` would be no evidence, for want of sound before."""
    return rules.quiet_s > 0 and arrivals_per_s * rules.quiet_s < MIN_SOUND


def held_alone(rules: Rules, facts: Facts) -> bool:
    """Tell whether a pod stays because nobody else serves.

    kube-proxy falls back to endpoints that serve while they terminate (KEP-1669); a balancer does not.
    """
    word = facts.evidence
    told = word.sole and word.state is not Routability.UNKNOWN
    return told and facts.latest > -math.inf and rules.max_s > 0 and not rules.balancer


def contradicted(rules: Rules, word: Evidence) -> bool:
    """Tell whether the cluster says "still ready", whatever silence says. A balancer is not its slices."""
    return word.state is Routability.ROUTABLE and rules.max_s > 0 and not rules.balancer


def silence_s(rules: Rules, word: Evidence, arrivals_per_s: float) -> float:
    """Return for how long callers must be quiet to be believed, once `max` has passed."""
    if not contradicted(rules, word):
        return rules.quiet_s
    return rules.sparse_min_s if sparse(rules, arrivals_per_s) else DOUBT * rules.quiet_s


def judge(rules: Rules, facts: Facts, now: float) -> Verdict:
    """Decide whether the cluster has forgotten this pod."""
    cap = facts.started + rules.max_s
    if held_alone(rules, facts):
        until = max(cap, facts.latest)
        if now >= until:
            return Verdict(Reason.ALONE, now)
        words = "another endpoint to be ready: this pod alone serves"
        return Verdict(None, until, (Wait(Rule.ALONE, words, facts.started, until),))
    begun = facts.started
    if facts.followed is not None:
        # The data plane could not choose anybody else before: every wait begins now.
        begun = max(begun, facts.followed)
        cap = max(cap, min(begun + rules.max_s, facts.latest))
    reason, waits = _waits(rules, facts, begun)
    last = max(waits, key=_end)
    if now >= last.until:
        return Verdict(reason, now)
    if now >= cap:
        return Verdict(Reason.MAX, now)
    # What would last longer than the cap does not decide.
    still_ready = contradicted(rules, facts.evidence)
    words = "max: the cluster still says ready" if still_ready else "max, whoever still comes"
    waits.append(Wait(Rule.MAX, words, facts.started, cap))
    decides = last if last.until <= cap else waits[-1]
    others = sorted((each for each in waits if each is not decides), key=_end, reverse=True)
    return Verdict(None, min(last.until, cap), (decides, *others))


def _end(wait: Wait) -> tuple[float, str]:
    return wait.until, wait.rule


def _waits(rules: Rules, facts: Facts, begun: float) -> tuple[Reason, list[Wait]]:
    """Return what is waited for, each with its end, and the reason when all of it is over."""
    word, thin = facts.evidence, sparse(rules, facts.arrivals_per_s)
    heard = begun if facts.last_late is None else max(begun, facts.last_late)
    waits: list[Wait] = []

    def wait(rule: Rule, words: str, since: float, for_s: float) -> None:
        waits.append(Wait(rule, words, since, since + for_s))

    if word.state is Routability.GONE:
        reason = Reason.SLICES_QUIET
        since = word.since if facts.followed is None else max(begun, word.since)
        wait(Rule.MARGIN, "margin after the slices flipped", since, rules.margin_s)
        if rules.hold_min:
            wait(Rule.MIN, "min, for the balancer or DNS", begun, rules.min_s)
    else:
        reason = Reason.QUIET
        said = word.state is Routability.ROUTABLE
        words = "min: the cluster still says ready" if said else "min, without the cluster's word"
        wait(Rule.MIN, words, begun, rules.min_s)
    if contradicted(rules, word):
        # Silence has to weigh more than the word; where it weighs nothing, the word stands.
        if thin or rules.quiet_s == 0:
            waits.append(Wait(Rule.FLIP, "the slices to flip: silence proves nothing here"))
        else:
            wait(Rule.TWICE_QUIET, "twice quiet: the cluster still says ready", heard, DOUBT * rules.quiet_s)
    elif rules.quiet_s > 0:
        words = "quiet after the last late arrival"
        if facts.last_late is None:
            words = "quiet: nobody has come late yet"
        wait(Rule.QUIET, words, heard, rules.quiet_s)
        if thin:
            why = "the process is too young to know its callers" if facts.young else "for want of traffic"
            wait(Rule.SPARSE_MIN, f"sparse_min, {why}", begun, rules.sparse_min_s)
    return reason, waits
