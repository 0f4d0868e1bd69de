"""What a piece of work looks like once it has ended: the only thing that accounting.py reads.

Structural: an exchange, an HTTP/2 stream and a tunnel are read as they are, and no record is made of them.
Whoever was turned away before there was work is a TurnedAway, and what is answered here a Reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from drainproxy.errors import (
    LIMITS,
    Blame,
    DrainDeadline,
    DrainEnding,
    Draining,
    LeaveOverdue,
    LimitReached,
    RequestError,
)

if TYPE_CHECKING:
    from drainproxy.metrics import Ended
    from drainproxy.proxy.message.parser import RequestHead

RequestEnded = Literal["finished", "timed_out", "cut", "refused", "lost", "told_to_leave", "switched", ""]
SWITCHED: Final[Literal["switched"]] = "switched"
"""The request has ended and goes on as a tunnel, whose end is the one that counts."""


class Outcome(Protocol):
    """Times are loop times in seconds, 0 for none."""

    error: RequestError | None
    """Why it did not end well, where there is a reason."""
    started: float
    head_at: float
    """When the application's head came."""
    status: int
    """Of an answer in HTTP/1; 0 where there was none to give."""
    bytes_received: int
    bytes_sent: int
    """Of bodies, from the client and to it."""

    @property
    def kind(self) -> str:
        """See lifecycle's Work; empty for what was none."""

    @property
    def event(self) -> str:
        """What its line is called."""

    @property
    def outcome(self) -> str:
        """How it has ended, in the word of a metric. Empty: by the client's own doing."""

    @property
    def tunnel(self) -> str:
        """What kind of tunnel it is, or would have become; empty for none."""

    @property
    def head(self) -> RequestHead | None:
        """Of the request in HTTP/1, where it was read."""

    @property
    def peer(self) -> bytes:
        """The address at the other end of the client's connection."""

    def said(self) -> dict[str, Any]:
        """Return what its line says beside what is here."""


class Caller(Protocol):
    """Whoever has connected."""

    @property
    def peer(self) -> bytes:
        """Its address."""

    @property
    def accepted_at(self) -> float:
        """When that was."""


class Stranger(NamedTuple):
    """One of whom there is nothing but a socket."""

    peer: bytes
    accepted_at: float


class ClientWork:
    """Base of an exchange: a client's request in HTTP/1."""

    __slots__ = ("bytes_received", "bytes_sent", "error", "head", "head_at", "outcome", "started", "status",
                 "tunnel")  # fmt: skip
    event = "request"
    kind: str
    head: RequestHead
    error: RequestError | None
    outcome: RequestEnded
    status: int
    tunnel: str
    bytes_received: int
    bytes_sent: int
    started: float
    head_at: float

    @property
    def peer(self) -> bytes:
        """See Outcome."""
        raise NotImplementedError

    def failed(self, error: RequestError, *, begun: bool) -> None:
        """Take note of what it has ended in. `begun`: a part of its answer had been sent."""
        # Raised on the way through, it knows frames that know this work, and so does its context: a circle.
        error.__traceback__ = error.__context__ = None
        self.error, self.outcome = error, outcome_of(error, begun=begun)

    def said(self) -> dict[str, Any]:
        """See Outcome. The status says how a request has ended, which others have no word for."""
        line: dict[str, Any] = {"bytes": self.bytes_sent, "bytes_received": self.bytes_received}
        return line if self.kind == "http" else {**line, "outcome": self.outcome}


class _NoWork:
    """Nothing of it reached the application."""

    __slots__ = ()
    kind = ""
    started = 0.0
    head_at = 0.0
    bytes_received = 0
    bytes_sent = 0


class Reply(_NoWork):
    """A request that is answered here, and is nobody's fault."""

    __slots__ = ("error", "head", "peer", "status")
    event = "request"
    outcome = "finished"
    tunnel = ""

    def __init__(self, caller: Caller, head: RequestHead, status: int) -> None:
        self.peer = caller.peer
        self.head = head
        self.status = status
        self.error: RequestError | None = None

    def said(self) -> dict[str, Any]:
        """See Outcome."""
        return {}


class TurnedAway(_NoWork):
    """A request, or a connection before its first one, that was not let in.

    Whom a limit turns away came all the same: callers are still sent here (`unheard`).
    """

    __slots__ = (
        "_said", "accepted_at", "error", "event", "first", "head", "outcome", "peer", "status", "tunnel",
        "unheard",
    )  # fmt: skip

    def __init__(
        self,
        caller: Caller,
        why: RequestError | str,
        head: RequestHead | None = None,
        *,
        detail: str = "",
        answered: bool = False,
        asked: bool = False,
        first: bool = True,
        tunnel: str = "",
    ) -> None:
        """`why`: a string for what is no fault of a request.

        `answered`: in HTTP/1, as a request. `asked`: it had begun to. `first`: nothing was asked on its
        connection before. `tunnel`: what kind of tunnel it would have become.
        """
        self.peer, self.accepted_at = caller.peer, caller.accepted_at
        self.error = error = why if isinstance(why, RequestError) else None
        self.head, self.first, self.tunnel = head, first, tunnel
        self.event = "request" if answered else "turned_away"
        self.status = error.status if answered and error is not None else 0
        self._said = {"reason": str(why), "detail": detail} if error is None else {}
        came = head is not None or asked or isinstance(error, (LimitReached, DrainEnding))
        self.outcome = outcome_of(error, tunnel=tunnel) if came and error is not None else ""
        self.unheard = head is None and self.outcome != ""
        """Nobody knows yet that it came."""

    def said(self) -> dict[str, Any]:
        """See Outcome."""
        return self._said


def outcome_of(error: RequestError, *, begun: bool = False, tunnel: str = "") -> Ended | Literal[""]:
    """Return what a drain counts a request as that ended in `error`; empty: it is no matter of a drain's.

    `begun`: a part of its answer had been sent.
    """
    if isinstance(error, (DrainDeadline, LeaveOverdue)):
        return "cut" if begun else "timed_out"
    if isinstance(error, Draining) and not tunnel:
        # A health check: it has heard what it asked.
        return ""
    if isinstance(error, (*LIMITS, Draining, DrainEnding)) and not begun:
        return "refused"
    return "" if error.blame is Blame.CLIENT else "lost"
