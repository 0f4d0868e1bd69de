"""What phase are we in, what may follow, and what does each phase mean?

Two tables and no behaviour. TRANSITIONS says where an event leads, POLICY what the rest of the proxy
does in a phase. Every cell is filled: where nothing happens, the phase names itself. The controller is
the only reader of TRANSITIONS; the data plane reads its row of POLICY and never a phase's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Each phase is named for what it waits for."""

    STARTING = "starting"  # the application to answer
    READY = "ready"  # nothing: the steady state
    PROPAGATING = "propagating"  # the cluster to stop choosing this pod
    DRAINING = "draining"  # admitted work to finish
    DRAINED = "drained"  # SIGTERM, if it has not come yet


class Event(StrEnum):
    """What can happen to a lifecycle."""

    UPSTREAM_UP = "upstream_up"
    UPSTREAM_DOWN = "upstream_down"
    TERMINATE = "terminate"
    RESUME = "resume"
    FORGOTTEN = "forgotten"
    IDLE = "idle"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class IfRoutable:
    """A cell with a question: does the cluster still send callers here?"""

    then: Phase
    otherwise: Phase


_STARTING, _READY, _PROPAGATING, _DRAINING, _DRAINED = Phase

TRANSITIONS: dict[Phase, dict[Event, Phase | IfRoutable]] = {
    Phase.STARTING: {
        Event.UPSTREAM_UP: _READY,
        Event.UPSTREAM_DOWN: _STARTING,
        # Never ready, so nobody was told to come here, unless an own slice row says so.
        Event.TERMINATE: IfRoutable(then=_PROPAGATING, otherwise=_DRAINING),
        Event.RESUME: _STARTING,
        Event.FORGOTTEN: _STARTING,
        Event.IDLE: _STARTING,
        Event.DEADLINE: _STARTING,
    },
    Phase.READY: {
        Event.UPSTREAM_UP: _READY,
        # New requests get 503 + Retry-After; a restart of the application is not our end.
        Event.UPSTREAM_DOWN: _READY,
        Event.TERMINATE: _PROPAGATING,
        Event.RESUME: _READY,
        Event.FORGOTTEN: _READY,
        Event.IDLE: _READY,
        Event.DEADLINE: _READY,
    },
    Phase.PROPAGATING: {
        Event.UPSTREAM_UP: _PROPAGATING,
        Event.UPSTREAM_DOWN: _PROPAGATING,
        Event.TERMINATE: _PROPAGATING,
        Event.RESUME: _READY,
        Event.FORGOTTEN: _DRAINING,
        # Idle is no reason to leave while callers are still being sent here.
        Event.IDLE: _PROPAGATING,
        Event.DEADLINE: _DRAINED,
    },
    Phase.DRAINING: {
        Event.UPSTREAM_UP: _DRAINING,
        Event.UPSTREAM_DOWN: _DRAINING,
        Event.TERMINATE: _DRAINING,
        # Tunnels were told to leave: there is nothing to take back. `undrain` answers 409.
        Event.RESUME: _DRAINING,
        Event.FORGOTTEN: _DRAINING,
        Event.IDLE: _DRAINED,
        Event.DEADLINE: _DRAINED,
    },
    Phase.DRAINED: dict.fromkeys(Event, _DRAINED),
}


def step(phase: Phase, event: Event, *, routable: bool) -> Phase:
    """Return the phase after `event`. `routable`: an own EndpointSlice row is ready."""
    cell = TRANSITIONS[phase][event]
    if isinstance(cell, IfRoutable):
        return cell.then if routable else cell.otherwise
    return cell


class Readiness(StrEnum):
    """What /readyz says."""

    WHILE_UPSTREAM_UP = "200 while the application is up"
    BY_SETTING = "by `readiness_on_drain`"
    NOT_READY = "503"


class NewRequest(StrEnum):
    """What becomes of a request head that arrives now."""

    CONNECT_PATIENTLY = "forwarded; connects are retried until the connect timeout, then 503"
    FORWARD = "forwarded"
    FORWARD_LATE = "forwarded, counted late"
    FORWARD_UNTIL_REFUSE = "forwarded, counted late; 503 once less than `refuse_window` is left"
    FORWARD_AFTER_DRAINED = "forwarded if the application answers, else 503; counted after_drained"


class Reuse(StrEnum):
    """Whether a client may send another request on its connection (RFC 9112 section 9.6)."""

    KEEP = "kept"
    DISCOURAGE = "Connection: close (load-balancer presets: once `min` has passed)"
    CLOSE = "Connection: close"


class IdleConnections(StrEnum):
    """What becomes of keep-alive connections between two requests."""

    KEEP = "kept"
    ONE_MORE = "one more request is answered, with close"
    CLOSE_AT_EXIT = "closed at exit: half-close, then read for up to `linger`"


class Streams(StrEnum):
    """What long-lived work is told: WebSockets and event streams."""

    RUN = "run; new ones allowed"
    LEAVE = "told to leave, spread over `leave_spread`; new upgrades 503"
    GONE = "none"


class OtherTunnels(StrEnum):
    """Tunnels whose protocol offers no word for leaving."""

    RUN = "run"
    RUN_TO_DEADLINE = "run to their deadline"
    GONE = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """One row: what a phase means to everything that is not the lifecycle.

    The listener has no column: it stays open in every phase and is the last thing to close.
    """

    readyz: Readiness
    new_request: NewRequest
    reuse: Reuse
    idle_connections: IdleConnections
    streams: Streams
    other_tunnels: OtherTunnels


POLICY: dict[Phase, Policy] = {
    Phase.STARTING: Policy(
        readyz=Readiness.NOT_READY,
        new_request=NewRequest.CONNECT_PATIENTLY,
        reuse=Reuse.KEEP,
        idle_connections=IdleConnections.KEEP,
        streams=Streams.RUN,
        other_tunnels=OtherTunnels.RUN,
    ),
    Phase.READY: Policy(
        readyz=Readiness.WHILE_UPSTREAM_UP,
        new_request=NewRequest.FORWARD,
        reuse=Reuse.KEEP,
        idle_connections=IdleConnections.KEEP,
        streams=Streams.RUN,
        other_tunnels=OtherTunnels.RUN,
    ),
    Phase.PROPAGATING: Policy(
        readyz=Readiness.BY_SETTING,
        new_request=NewRequest.FORWARD_LATE,
        reuse=Reuse.DISCOURAGE,
        idle_connections=IdleConnections.ONE_MORE,
        # They leave only after propagation, so that they reconnect elsewhere.
        streams=Streams.RUN,
        other_tunnels=OtherTunnels.RUN,
    ),
    Phase.DRAINING: Policy(
        readyz=Readiness.NOT_READY,
        new_request=NewRequest.FORWARD_UNTIL_REFUSE,
        reuse=Reuse.CLOSE,
        idle_connections=IdleConnections.ONE_MORE,
        streams=Streams.LEAVE,
        other_tunnels=OtherTunnels.RUN_TO_DEADLINE,
    ),
    Phase.DRAINED: Policy(
        readyz=Readiness.NOT_READY,
        new_request=NewRequest.FORWARD_AFTER_DRAINED,
        reuse=Reuse.CLOSE,
        idle_connections=IdleConnections.CLOSE_AT_EXIT,
        streams=Streams.GONE,
        other_tunnels=OtherTunnels.GONE,
    ),
}
