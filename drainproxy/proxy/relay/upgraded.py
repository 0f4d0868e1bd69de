"""What a connection is after its 101: a tunnel, and for a WebSocket one whose client can be told to leave.

Begun by an exchange; any client socket and any connection to the application will do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drainproxy.errors import LeaveOverdue
from drainproxy.lifecycle.budget import LEAVE_MARGIN_S
from drainproxy.metrics import TOLD_TO_LEAVE
from drainproxy.proxy.message.websocket import Conversation
from drainproxy.proxy.relay.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drainproxy.errors import RequestError
    from drainproxy.metrics import TunnelEnded
    from drainproxy.proxy.downstream.registry import Registry
    from drainproxy.proxy.limits.routing import RouteTimeouts


def tunnel_for(
    registry: Registry, timeouts: RouteTimeouts, asked: Mapping[str, str], protocol: bytes
) -> Tunnel:
    """Make what goes on in `protocol`; the rest is as for Tunnel."""
    kind = WebSocketTunnel if protocol == b"websocket" else Tunnel
    return kind(registry, timeouts, asked, protocol)


class WebSocketTunnel(Tunnel):
    """Follows both sides' frames, and puts a Close between two of the application's when it is to leave."""

    __slots__ = ("_mark", "_said", "_stays", "_talk", "_unsent")

    def __init__(
        self, registry: Registry, timeouts: RouteTimeouts, asked: Mapping[str, str], protocol: bytes
    ) -> None:
        super().__init__(registry, timeouts, asked, protocol)
        self._talk = Conversation(self.plane.settings.websocket_close_code)
        self._stays = timeouts.websockets == "finish"
        """It is work like a request, and is not told to leave before its time is up."""
        self._said = False
        """The client was told to leave."""
        self._unsent = math.inf
        """What stood before its client's socket when its Close was last asked after."""
        self._mark: tuple[int, ...] | None = None
        """How far it was when it was to leave, or again."""

    # Frames.

    def filter_client(self, data: bytes) -> tuple[bytes, int] | None:
        """See Relay."""
        if super().filter_client(data) is None:
            return None
        data = self._talk.from_client(data)
        return data, self._talk.backlogs[0]

    def filter_upstream(self, data: bytes) -> tuple[bytes, int] | None:
        """See Relay."""
        data = self._talk.from_server(data)
        super().filter_upstream(data)
        return data, self._talk.backlogs[1]

    def upstream_data(self, data: bytes) -> None:
        """See Relay. The Close may be among it."""
        super().upstream_data(data)
        self._look_for_close()

    def tell_writer(self, *, writable: bool) -> None:
        """See Endpoint. Nothing follows a Close, so nobody has to wait."""
        if not self._said:
            super().tell_writer(writable=writable)

    # Leaving.

    def leave(self) -> None:
        """See Work.

        A message that has begun is waited for, as long as it comes on. Then a Close goes between two of its
        fragments (RFC 6455 section 5.4); in the middle of a frame there is no place for one.
        """
        talk = self._talk
        if talk.lost or self._stays or self._said or not self._open:
            return
        before, self._mark = self._mark, (*talk.progress, self.unsent())
        self._leave(hurry=self._mark == before)
        if self._mark == before and not self._said:
            if talk.over:
                self._end("finished")
            else:
                self._end("cut", reset=True, error=LeaveOverdue())

    def grow_old(self) -> None:
        """See ClientSocket."""
        if not self._stays:
            self._leave(hurry=False)

    def _leave(self, *, hurry: bool) -> None:
        if not self._said and self._open:
            close = self._talk.leave(hurry=hurry)
            self.bytes_sent += len(close)
            self.write(close)
            self._look_for_close()

    def _look_for_close(self) -> None:
        """See whether the Close has gone out: it is to be answered soon."""
        if self._talk.said and not self._said:
            self.tell_writer(writable=True)
            self._said = True
            self._due = self.loop.time() + LEAVE_MARGIN_S
            self._arm()

    # Ends.

    def client_lost(self, *, reset: bool) -> None:
        """See Tunnel."""
        if self._open and self._talk.answered:
            self._arm()  # what it said last is for the application, which is given its time
        else:
            super().client_lost(reset=reset)

    def upstream_eof(self) -> bool:
        """See Tunnel."""
        if not self._said:
            return super().upstream_eof()
        self._upstream_done = True
        self._part()
        return False

    def upstream_lost(self, *, reset: bool) -> None:
        """See Tunnel."""
        if self._said and self._open:
            self._part()
        else:
            super().upstream_lost(reset=reset)

    def cut(self, reason: str) -> None:
        """See Work."""
        if self._said:
            self._part()
        else:
            super().cut(reason)

    def _part(self) -> None:
        """End after a Close: with the client's, in time or not, and without a reset."""
        gone = self._upstream_done or self._application.lost
        self._end("finished" if self._talk.answered or gone else "cut")

    def _end(self, outcome: TunnelEnded, *, reset: bool = False, error: RequestError | None = None) -> None:
        told = self._said and outcome == "finished"
        super()._end(TOLD_TO_LEAVE if told else outcome, reset=reset, error=error)

    # Time.

    def drain_by(self, deadline: float) -> None:
        """See Work. Shortly before, a Close may go between any two frames."""
        super().drain_by(deadline)
        if not self._said and not self._closing:
            self._due = self.deadline - self.plane.lifecycle.published.leave_margin_s
            self._arm()

    def overdue(self) -> None:
        """See Tunnel."""
        if self._said:
            before, self._unsent = self._unsent, float(self.unsent())
            if self._unsent < before and (self._unsent or before < math.inf):
                # It takes what was said before the Close, and has not seen that yet.
                self._due = self.loop.time() + LEAVE_MARGIN_S
                self._arm()
            else:
                self._part()
        elif self._closing:
            super().overdue()
        else:
            self._leave(hurry=True)
            self._arm()
