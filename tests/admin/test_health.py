"""Verdicts for probes: every phase, the application up and down."""

from __future__ import annotations

import pytest

from drainproxy.admin import health
from drainproxy.admin.health import Facts
from drainproxy.lifecycle.machine import Phase

S, R, P, D, E = Phase


def facts(phase: Phase = R, *, ready: bool | None = None, up: bool = True, listening: bool = True) -> Facts:
    """Return facts that fit together; `ready` as the controller would say it by default."""
    said = phase is R and up if ready is None else ready
    return Facts(phase=phase, draining=phase in {P, D, E}, ready=said, upstream_up=up, listening=listening)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("up", [True, False])
def test_alive_whatever_happens(phase, up):
    """Neither a drain nor a dead application is cured by restarting the proxy."""
    assert health.livez(facts(phase, up=up)).status == 200


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(("listening", "status"), [(True, 200), (False, 503)])
def test_started_once_the_listeners_are_bound(phase, up, listening, status):
    """A startup probe that asked the application would keep its container from ever starting."""
    assert health.startupz(facts(phase, up=up, listening=listening)).status == status


@pytest.mark.parametrize(
    ("phase", "ready", "up", "readyz", "lb_health", "reason"),
    [
        (S, False, False, 503, 503, "not ready: the application does not accept connections"),
        (R, True, True, 200, 200, "ready"),
        (R, False, False, 503, 503, "not ready: the application does not accept connections"),
        (P, False, True, 503, 503, "not ready: propagating"),
        # readiness_on_drain: delay keeps 200 for a while, and only on /readyz.
        (P, True, True, 200, 503, "ready, though propagating"),
        (D, False, True, 503, 503, "not ready: draining"),
        (E, False, False, 503, 503, "not ready: drained"),
    ],
)
def test_ready_as_the_controller_says_and_never_to_a_balancer_once_a_drain_began(
    phase, ready, up, readyz, lb_health, reason
):
    """The reason is one line that names the phase or the application."""
    asked = facts(phase, ready=ready, up=up)
    verdict, to_balancer = health.readyz(asked), health.lb_health(asked)
    assert (verdict.status, to_balancer.status) == (readyz, lb_health)
    assert verdict.text(verbose=False) == f"{reason}\n"


def test_verbose_lists_what_was_checked_before_the_reason():
    """A person reads which check failed; the last line stays the reason."""
    text = health.readyz(facts(R, up=False)).text(verbose=True)
    assert text.splitlines() == [
        "[+] phase: ready",
        "[-] application: does not accept connections",
        "not ready: the application does not accept connections",
    ]


def test_a_balancer_sees_the_phase_as_the_failed_check():
    """While /readyz still says 200, /lb-health says why it does not."""
    text = health.lb_health(facts(P, ready=True)).text(verbose=True)
    assert text.splitlines() == [
        "[-] phase: propagating",
        "[+] application: accepts connections",
        "not ready: propagating",
    ]
