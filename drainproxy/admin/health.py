"""Verdicts for kubelets and load balancers: is this pod alive, started, ready?

Pure: facts in, a status with a one-line reason out. Called by server.py for each probe. Nothing here
asks the application anything: liveness of the proxy must not depend on it.
"""

from dataclasses import dataclass

from drainproxy.lifecycle.machine import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known when a probe comes."""

    phase: Phase
    draining: bool
    ready: bool
    """The controller's answer: policy of the phase, readiness setting and application together."""
    upstream_up: bool
    warming: bool = False
    """The application accepts connections, and is warmed up."""
    listening: bool
    """Every listener is bound, or waits for the application."""
    blocked: str = ""
    """Why callers cannot be let in, though the application is there."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `?verbose`."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """200 or 503, and why. `checks` are what it was decided from."""

    passed: bool
    reason: str
    checks: tuple[Check, ...]

    @property
    def status(self) -> int:
        """HTTP status: probes look at nothing else."""
        return 200 if self.passed else 503

    def text(self, *, verbose: bool) -> str:
        """Return the body: the reason, preceded by the checks if they were asked for."""
        lines = [f"[{'+' if check.passed else '-'}] {check.name}: {check.detail}" for check in self.checks]
        return "\n".join([*lines, self.reason] if verbose else [self.reason]) + "\n"


def livez(_facts: Facts) -> Verdict:
    """Alive as long as the loop gets round to answering.

    Neither a drain nor a dead application is a reason to restart the proxy: a restart helps neither.
    """
    return Verdict(passed=True, reason="alive", checks=(Check("event loop", True, "runs"),))


def startupz(facts: Facts) -> Verdict:
    """Started once the listeners are bound.

    Never on the application: a native sidecar's startup probe holds back the containers after it
    (Kubernetes: Sidecar Containers), so waiting for one of them would wait for ever.
    """
    reason = "started" if facts.listening else "not started: listeners are not bound yet"
    return Verdict(facts.listening, reason, (_listeners(facts),))


def readyz(facts: Facts) -> Verdict:
    """Ready as the controller says; while draining that is a matter of `readiness_on_drain`."""
    checks = (_phase(facts, passed=facts.ready or not facts.draining), _upstream(facts))
    if facts.ready:
        return Verdict(True, "ready" if not facts.draining else f"ready, though {facts.phase}", checks)
    return Verdict(False, _not_ready(facts), checks)


def lb_health(facts: Facts) -> Verdict:
    """As ready, but 503 from the start of a drain on.

    A load balancer needs its own time to turn away; an answer that changes back would restart its count.
    """
    passed = facts.ready and not facts.draining
    checks = (_phase(facts, passed=not facts.draining), _upstream(facts))
    return Verdict(passed, "ready" if passed else _not_ready(facts), checks)


def _not_ready(facts: Facts) -> str:
    if facts.draining:
        return f"not ready: {facts.phase}"
    if facts.warming:
        return "not ready: the application is being warmed up"
    return f"not ready: {facts.blocked or 'the application does not accept connections'}"


def _phase(facts: Facts, *, passed: bool) -> Check:
    return Check("phase", passed, facts.phase)


def _upstream(facts: Facts) -> Check:
    if facts.blocked:
        return Check("application", False, "accepts connections, and its callers cannot be let in")
    detail = "accepts connections" if facts.upstream_up else "does not accept connections"
    if facts.warming:
        detail = "is being warmed up"
    return Check("application", facts.upstream_up, detail)


def _listeners(facts: Facts) -> Check:
    return Check("listeners", facts.listening, "bound" if facts.listening else "not bound yet")
