"""A client's socket that has a connection to the application of its own: bytes both ways, through a filter.

Written once for what is no HTTP/1: upgraded connections (upgraded.py), tcp:// (tcp.py) and HTTP/2
(http2/connection.py). Reaches the application where that is still to be done, holds each end back by the
other, and reads no more in a turn than the filter gets through. What an end means is not decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.errors import RequestError
from drainproxy.proxy.downstream.client import ClientSocket
from drainproxy.proxy.downstream.states import CLOSED, HALF_CLOSED, LINGERING

if TYPE_CHECKING:
    import asyncio

    from drainproxy.proxy.downstream.registry import Registry
    from drainproxy.proxy.upstream.connection import UpstreamConnection


class Relay(ClientSocket):
    """Written by its two transports and its timer, all on the loop's thread. Borrows its connection from the
    moment that one is made: in many protocols the application speaks first."""

    __slots__ = ("_connecting", "_early", "_upstream")
    _upstream: UpstreamConnection | None

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self._upstream = None
        self._connecting: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        """For an application that is not reached yet."""

    # What is spoken on it.

    def filter_client(self, data: bytes) -> tuple[bytes, int] | None:
        """Return what the application gets of `data`, and how much is kept for a turn of its own; then b""
        goes on with that. None: nothing is to pass any more."""
        raise NotImplementedError

    def filter_upstream(self, data: bytes) -> tuple[bytes, int] | None:
        """Return the same of what the application has sent."""
        raise NotImplementedError

    def ask(self) -> None:
        """See whether the application may be reached for this client. Raises RequestError."""

    def upstream_eof(self) -> bool | None:
        """The application has stopped to send (Borrower)."""
        raise NotImplementedError

    def upstream_lost(self, *, reset: bool) -> None:
        """The application's connection has ended (Borrower)."""
        raise NotImplementedError

    def held(self, *, on: bool) -> None:
        """It waits for an application that restarts, or goes on (Held)."""

    def reached(self, upstream: UpstreamConnection) -> None:
        """The application is reached: go on with what was said until now."""
        raise NotImplementedError

    def unreached(self, error: RequestError) -> None:
        """It could not be."""
        raise NotImplementedError

    # Until the application is reached.

    def _reach(self, name: str) -> None:
        """Connect, in a task of that name. A client that leaves in the meantime is not connected for."""
        self._connecting = self.plane.tasks.spawn(self._connect(), name)

    async def _connect(self) -> None:
        plane = self.plane
        if self.state is CLOSED:
            # It was turned away before it could ask.
            return
        try:
            self.ask()
            timeouts = plane.routes.default
            upstream = await plane.connector.connect(timeouts.connect, self, hold_s=timeouts.hold, waits=self)
        except RequestError as error:
            self._connecting = None
            self.unreached(error)
            return
        self._connecting = None
        if self.leaving or upstream.lost:
            plane.pool.discard(upstream)
            self.close()
            return
        self._upstream = upstream
        self._pause(paused=False)
        self.reached(upstream)

    def _keep(self, data: bytes) -> int:
        """Keep what the client says first; return how many bytes there are by now."""
        self._early.append(data)
        size = sum(map(len, self._early))
        self._hold(size)
        return size

    def _take_early(self) -> bytes:
        early, self._early = b"".join(self._early), []
        self.buffers.free(self)
        return early

    def ended(self, *, reset: bool) -> None:
        """See ClientSocket. Nobody waits for the application any more."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None

    # Bytes both ways.

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol: pass on what the client has sent."""
        if self.state >= LINGERING:
            self._linger(data)
            return
        passed = self.filter_client(data)
        if passed is not None:
            out, backlog = passed
            self._to_upstream(out)
            self.give_way(len(data), backlog)

    def upstream_data(self, data: bytes) -> None:
        """Pass on what the application has sent (Borrower)."""
        passed = self.filter_upstream(data)
        if passed is not None:
            out, backlog = passed
            self.write(out)
            if self._upstream is not None:
                self._upstream.give_way(len(data), backlog)

    def _to_upstream(self, data: bytes) -> None:
        """Write to the application, once it is there."""
        upstream = self._upstream
        if not data:
            return
        if upstream is not None:
            self.plane.write_batch.write(upstream.transport, data)
        else:
            self._keep(data)

    def upstream_writable(self, *, writable: bool) -> None:
        """Hold the client back while the application cannot take more (Borrower)."""
        if self.state is not HALF_CLOSED:
            self._pause(paused=not writable)

    def tell_writer(self, *, writable: bool) -> None:
        """See Endpoint: hold the application back while the client cannot take more."""
        if self._upstream is not None:
            self._upstream.hold(held=not writable)
