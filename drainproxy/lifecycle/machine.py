"""What phase are we in, what may follow, and what does each phase mean?

Two tables and no behaviour. TRANSITIONS says where an event leads, POLICY what the rest of the proxy
does in a phase. Every cell is filled: where nothing happens, the phase names itself. The controller is
the only reader of TRANSITIONS; the data plane reads its row of POLICY and never a phase's name.
"""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Each phase is named for what it waits for."""

    STARTING = "starting"  # the application to answer
    READY = "ready"  # nothing: the steady state
    PROPAGATING = "propagating"  # the cluster to stop choosing this pod
    DRAINING = "draining"  # admitted work to finish
    DRAINED = "drained"  # SIGTERM, if it has not come yet; after a manual drain, perhaps `undrain`


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
# Never ready, so nobody was told to come here, unless an own slice row says so.
_BY_SLICES = IfRoutable(then=_PROPAGATING, otherwise=_DRAINING)

# fmt: off
_FOLLOWING: dict[Event, tuple[Phase | IfRoutable, ...]] = {
    # in:                starting    ready         propagating   draining   drained
    Event.UPSTREAM_UP:   (_READY,     _READY,       _PROPAGATING, _DRAINING, _DRAINED),
    # A restart of the application is not our end: its callers are turned away until it is back.
    Event.UPSTREAM_DOWN: (_STARTING,  _READY,       _PROPAGATING, _DRAINING, _DRAINED),
    Event.TERMINATE:     (_BY_SLICES, _PROPAGATING, _PROPAGATING, _DRAINING, _DRAINED),
    # Tunnels that were told to leave do leave: a manual drain goes on to its end, and is taken back there.
    Event.RESUME:        (_STARTING,  _READY,       _READY,       _DRAINING, _READY),
    Event.FORGOTTEN:     (_STARTING,  _READY,       _DRAINING,    _DRAINING, _DRAINED),
    # No reason to leave while callers are still being sent here.
    Event.IDLE:          (_STARTING,  _READY,       _PROPAGATING, _DRAINED,  _DRAINED),
    Event.DEADLINE:      (_STARTING,  _READY,       _DRAINED,     _DRAINED,  _DRAINED),
}
# fmt: on

TRANSITIONS: dict[Phase, dict[Event, Phase | IfRoutable]] = {
    phase: {event: cells[column] for event, cells in _FOLLOWING.items()} for column, phase in enumerate(Phase)
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

    CONNECT_PATIENTLY = "forwarded; refused connects are retried until `connect_timeout` (3 s), then 503"
    FORWARD = "forwarded"
    FORWARD_LATE = "forwarded, counted late"
    FORWARD_UNTIL_REFUSE = "forwarded, counted late; 503 once less than `refuse_window` is left"
    FORWARD_AFTER_DRAINED = "forwarded and counted after_drained, while the application is there"


class Reuse(StrEnum):
    """Whether a client may send another request on its connection (RFC 9112 section 9.6)."""

    KEEP = "kept"
    DISCOURAGE = "Connection: close (load-balancer presets: once `min` has passed)"
    CLOSE = "Connection: close"


class Streams(StrEnum):
    """What long-lived work is told: WebSockets and EventSources, unless their settings say `finish`."""

    RUN = "run; new ones allowed"
    LEAVE = "told to leave, spread over `leave_spread`; new upgrades 503"
    GONE = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """One row: what a phase means to everything that is not the lifecycle.

    The listener has no column: it stays open in every phase and is the last thing to close.
    """

    readyz: Readiness
    new_request: NewRequest
    reuse: Reuse
    streams: Streams


POLICY: dict[Phase, Policy] = {
    _STARTING: Policy(Readiness.NOT_READY, NewRequest.CONNECT_PATIENTLY, Reuse.KEEP, Streams.RUN),
    _READY: Policy(Readiness.WHILE_UPSTREAM_UP, NewRequest.FORWARD, Reuse.KEEP, Streams.RUN),
    # Streams leave only after propagation, so that they reconnect elsewhere.
    _PROPAGATING: Policy(Readiness.BY_SETTING, NewRequest.FORWARD_LATE, Reuse.DISCOURAGE, Streams.RUN),
    _DRAINING: Policy(Readiness.NOT_READY, NewRequest.FORWARD_UNTIL_REFUSE, Reuse.CLOSE, Streams.LEAVE),
    _DRAINED: Policy(Readiness.NOT_READY, NewRequest.FORWARD_AFTER_DRAINED, Reuse.CLOSE, Streams.GONE),
}
