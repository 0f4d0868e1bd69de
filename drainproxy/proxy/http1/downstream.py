"""What an exchange asks of its client's connection: where the answer goes, and where the body comes from.

connection.py is one. It has one exchange at a time, and hears once how that has ended. A base and no
Protocol: what that stands for is looked up by name where it is compiled, several times a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.proxy.downstream.client import ClientSocket

if TYPE_CHECKING:
    from drainproxy.errors import RequestError
    from drainproxy.proxy.http1.private import Private
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import RequestHead
    from drainproxy.proxy.upstream.connection import UpstreamConnection


class Downstream(ClientSocket):
    """Written by its transport and its exchange."""

    __slots__ = ("private",)
    private: Private | None
    """Its own connection to the application, between two requests."""

    # The answer.

    def closes_after(self, head: RequestHead) -> bool:
        """Tell whether this request is the last one on this connection."""
        raise NotImplementedError

    def answer_last(self) -> None:
        """Have the present answer say that it is the last one on this connection."""
        raise NotImplementedError

    # The request's body.

    def read_body(self, body: Body) -> None:
        """Hand it over from now on, beginning with what is already here (`request_data`)."""
        raise NotImplementedError

    def pause_body(self, *, paused: bool) -> None:
        """Stop or go on reading while the application cannot take more of it."""
        raise NotImplementedError

    # The end.

    def exchange_done(self) -> None:
        """The client's socket has the whole answer."""
        raise NotImplementedError

    def exchange_failed(self, error: RequestError) -> None:
        """It has ended in `error`, of which the client may not know yet."""
        raise NotImplementedError

    def exchange_switched(self, upstream: UpstreamConnection, protocol: bytes, rest: bytes) -> None:
        """The application has agreed to another protocol, and `rest` is in it."""
        raise NotImplementedError

    def defective(self, defect: Exception) -> None:
        """Something went wrong that should not have: a defect of ours costs one connection."""
        raise NotImplementedError

    def close_if_idle(self) -> None:
        """End it, unless something has come that was not read."""
        raise NotImplementedError
