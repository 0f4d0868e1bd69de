"""The lifecycle's settings. The string under each field is the manual (docs/configuration.md)."""

from dataclasses import dataclass
from typing import Annotated

from drainproxy.kinds import Duration, Kind, OrOff, PositiveDuration, Text, choice
from drainproxy.lifecycle.propagation import PRESETS
from drainproxy.values import duration, show_duration


@dataclass(frozen=True, slots=True)
class ReadinessOnDrain:
    """What /readyz says while propagating: `auto`, `fail`, or 200 for `delay_s` more seconds."""

    kind: str = "auto"
    delay_s: float = 0.0

    def __str__(self) -> str:
        """Return it as it is written in a setting."""
        return f"delay:{show_duration(self.delay_s)}" if self.kind == "delay" else self.kind


def _readiness(text: str) -> ReadinessOnDrain:
    if text in {"auto", "fail"}:
        return ReadinessOnDrain(text)
    if text.startswith("delay:"):
        return ReadinessOnDrain("delay", duration(text.removeprefix("delay:")))
    raise ValueError("is unknown")


Readiness = Annotated[
    ReadinessOnDrain,
    Kind("auto|fail|delay:DURATION", "auto, fail or delay:30s with your duration", _readiness),
]
Preset = Annotated[str, choice(PRESETS)]

HEALTH_CHECK_AGENTS = ("kube-probe/", "ELB-HealthChecker/", "GoogleHC/", "Envoy/HC", "Prometheus/")


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleSettings:
    """Durations in seconds; None means "not set"."""

    propagation: Preset | None = None
    """Preset of the propagation rules: none, cluster, mesh, alb, gce-neg, agic, headless-dns or multicluster.
    Default: cluster inside Kubernetes (KUBERNETES_SERVICE_HOST is set), none outside."""

    propagation_min: Duration | None = None
    """Without the cluster's word, keep propagating at least this long. Default: the preset's."""

    propagation_margin: Duration | None = None
    """After the pod's EndpointSlice rows flipped, wait this long for proxies to follow.
    Default: the preset's."""

    propagation_quiet: Duration | None = None
    """End propagation only after this long without a late arrival, twice as long while the pod's
    EndpointSlice row still reads ready; 0s switches the rule off. Default: the preset's."""

    propagation_max: Duration | None = None
    """End propagation after this long, but where this pod alone serves (docs/kubernetes.md): then the grace
    period is the bound. Default: the preset's, shortened to fit the grace period."""

    sparse_min: Duration = 8.0
    """Where fewer than five new connections within `propagation_quiet` were to be expected, or the process
    had served for less than 10 s, silence means nothing: propagate at least this long, and to
    `propagation_max` while the pod's EndpointSlice row still reads ready.
    kube-proxy's P99 after a slice flip is 6.8 s in a 100-node run (kubernetes #124272)."""

    settle: Duration = 0.2
    """Drained means: nothing in flight (a head that has begun counts) and no new request for this long."""

    refuse_window: Duration = 1.0
    """Requests that arrive with less than this left until the drain's deadline get 503 and Retry-After.
    Less where the grace period is too short for the sum."""

    linger: Duration = 0.5
    """At exit, idle connections are half-closed and read for up to this long, so that no answer is reset."""

    restart_window: Duration = 5.0
    """A /drain/wait without SIGTERM or `drain` for this long was an application-only restart:
    it is answered."""

    grace_period: PositiveDuration | None = None
    """The pod's terminationGracePeriodSeconds, which the Downward API does not offer.
    Default: 30s, as Kubernetes."""

    node_shutdown_grace: Duration = 15.0
    """What is left of the grace period when the node shuts down: less than the pod asked for, since the
    kubelet has its own (shutdownGracePeriod less its critical share)."""

    app_stop: Duration = 5.0
    """What the application keeps between the answer of /drain/wait and SIGKILL.
    A fifth of the grace period at most where that is too short for the sum, and less where it is much too
    short."""

    reserve: Duration = 3.0
    """Kept back for cutting, reporting and exiting. Less where the grace period is too short for the sum."""

    leave_spread: Duration = 5.0
    """Tunnels and streams are told to leave over this long, so that they do not reconnect as one herd."""

    drain_timeout: OrOff[PositiveDuration] = None
    """A request still running this long after the drain began is ended, before the drain's deadline.
    Default: the drain's deadline."""

    readiness_on_drain: Readiness = ReadinessOnDrain()
    """What /readyz says while propagating: auto and fail say 503 at once, delay:<duration> keeps 200
    that long."""

    health_check_agents: tuple[Text, ...] = HEALTH_CHECK_AGENTS
    """User-Agent prefixes of health checkers: their requests are answered and never hold a drain."""
