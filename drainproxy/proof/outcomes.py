"""What became of a request, seen from the client's end of the connection.

The kinds are what a caller can tell apart without knowing what runs at the other end.
`client.py` produces outcomes, `tally.py` counts them, the two views show them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Why a request has no good answer. Every kind is a lost request."""

    REFUSED = "refused"  # nobody listens: the connection was not made
    UNREACHABLE = "unreachable"  # no connection for another cause: name, route, TLS
    RESET = "reset"  # connected, then closed or reset before one byte of an answer
    TRUNCATED = "truncated"  # the answer began and did not end
    INVALID = "invalid"  # the answer is not HTTP/1.1
    SERVER_ERROR = "5xx"  # a complete answer that says the service failed
    TIMEOUT = "timeout"  # nothing final within the caller's patience


class LossError(Exception):
    """Ends an exchange: the kind, and the error in words."""

    def __init__(self, kind: Kind, error: str) -> None:
        super().__init__(error)
        self.kind = kind
        self.error = error


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, finished. Times are of the loop's clock."""

    sent_at: float
    took_s: float
    status: int | None
    kind: Kind | None  # None: it has a good answer
    error: str
    retried: bool  # sent a second time, as RFC 9110 section 9.2.2 lets a client do by itself
    peer: str  # the address that was chosen last, for evidence

    @property
    def lost(self) -> bool:
        return self.kind is not None
