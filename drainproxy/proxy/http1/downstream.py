"""What an exchange asks of its client's connection: where the answer goes, and where the body comes from.

connection.py is one; a test may be another. It has one exchange at a time, and hears once how that has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from drainproxy.proxy.accounting.outcome import Caller
from drainproxy.proxy.http1.private import Holder

if TYPE_CHECKING:
    from drainproxy.errors import RequestError
    from drainproxy.lifecycle.lazytimer import LazyTimer
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import RequestHead
    from drainproxy.proxy.upstream.connection import UpstreamConnection
    from drainproxy.proxy.wire.write_batch import Piece


class Downstream(Caller, Holder, Protocol):
    """Written by its transport and its exchange."""

    scheme: bytes
    timer: LazyTimer

    @property
    def gone(self) -> bool:
        """The client will not read an answer."""

    # The answer.

    def closes_after(self, head: RequestHead) -> bool:
        """Tell whether this request is the last one on this connection."""

    def answer_last(self) -> None:
        """Have the present answer say that it is the last one on this connection."""

    def write(self, data: bytes) -> None:
        """Write, unless the client is gone."""

    def write_pieces(self, pieces: list[Piece]) -> None:
        """Write them as if they were one."""

    def unsent(self) -> int:
        """Return how many bytes of what was written the socket has not taken."""

    def pause_until_flushed(self, *, on: bool) -> None:
        """Have the exchange told (`client_writable`) only once nothing is left to send, or as usual again."""

    # The request's body.

    def read_body(self, body: Body) -> None:
        """Hand it over from now on, beginning with what is already here (`request_data`)."""

    def pause_body(self, *, paused: bool) -> None:
        """Stop or go on reading while the application cannot take more of it."""

    def give_way(self, size: int, backlog: int) -> None:
        """After a read of `size` bytes let others have their turn, if it is time for that."""

    # The end.

    def exchange_done(self) -> None:
        """The client's socket has the whole answer."""

    def exchange_failed(self, error: RequestError) -> None:
        """It has ended in `error`, of which the client may not know yet."""

    def exchange_switched(self, upstream: UpstreamConnection, protocol: bytes, rest: bytes) -> None:
        """The application has agreed to another protocol, and `rest` is in it."""

    def defective(self, defect: Exception) -> None:
        """Something went wrong that should not have: a defect of ours costs one connection."""
