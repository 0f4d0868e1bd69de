"""Whose half of a client's socket is still open, what may follow, and what does that mean?

One table and no behaviour, as in lifecycle/machine.py. A cell that is None cannot be: its transition raises
KeyError, which is a defect of ours. Its column of the table is all that is told of an end; beside it vary
freely, and so stay booleans: that the transport is not read from, and that it does not take more
(`_reading_paused`, `write_paused`: levels, each switched by one side alone), that a PROXY header is awaited
(preamble.py), and that there was no place for the client (`over`: limits/connection_limit.py, which may still
find one).
"""

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final, TypeVar

State = TypeVar("State", bound=IntEnum)
Event = TypeVar("Event", bound=Enum)


class SocketState(IntEnum):
    """In the order in which a connection ends. The halves are those of RFC 9293 section 3.6."""

    OPEN = 0
    HALF_CLOSED = 1  # by the client, who may read on (`allow_half_close`)
    LINGERING = 2  # by us, behind the last answer: what comes is thrown away (RFC 9112 section 9.6)
    CLOSING = 3  # by both: what was written last is on its way
    CLOSED = 4  # lost, or aborted: nothing is read or written any more


OPEN: Final = SocketState.OPEN
HALF_CLOSED: Final = SocketState.HALF_CLOSED
LINGERING: Final = SocketState.LINGERING
CLOSING: Final = SocketState.CLOSING
CLOSED: Final = SocketState.CLOSED
# From LINGERING on nothing is taken from the client any more.


class End(Enum):
    """What can happen to a socket."""

    EOF = "eof"
    CLOSE = "close"
    LOSS = "loss"


def table(
    states: type[State], following: Mapping[Event, tuple[State | None, ...]]
) -> dict[Event, dict[State, State]]:
    """Return where each event leads from each state. `following`: a cell for each state, None for none."""
    return {
        event: {state: cell for state, cell in zip(states, cells, strict=True) if cell is not None}
        for event, cells in following.items()
    }


# fmt: off
TRANSITIONS: Final = table(SocketState, {
    # in:       open         half-closed  lingering  closing  closed
    End.EOF:   (HALF_CLOSED, HALF_CLOSED, CLOSING,   CLOSING, CLOSED),
    # Only once, and of what is still there.
    End.CLOSE: (LINGERING,   CLOSING,     None,      None,    None),
    End.LOSS:  (CLOSED,      CLOSED,      CLOSED,    CLOSED,  CLOSED),
})
# fmt: on
AFTER_EOF: Final = TRANSITIONS[End.EOF]
AFTER_CLOSE: Final = TRANSITIONS[End.CLOSE]
