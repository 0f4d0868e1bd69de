"""What a client has begun and is not through with: work too, since it means to be answered.

One Work (lifecycle/inflight.py) for what comes before a request, a stream or a tunnel has one of its own.
"""

import asyncio
from collections.abc import Hashable
from typing import Protocol

from drainproxy.errors import DrainDeadline, OutOfBuffers, RequestError
from drainproxy.lifecycle.lazytimer import LazyTimer
from drainproxy.proxy.limits.deadlines import Deadlines
from drainproxy.proxy.limits.routes import Timeouts
from drainproxy.proxy.limits.routing import RouteTimeouts
from drainproxy.proxy.plane import Plane
from drainproxy.proxy.wire.buffers import Buffers
from drainproxy.proxy.wire.endpoint import session_of


class Beginner(Hashable, Protocol):
    """The client's connection."""

    plane: Plane
    loop: asyncio.AbstractEventLoop
    timer: LazyTimer
    transport: asyncio.Transport

    def fail_head(self, error: RequestError) -> None:
        """Turn the client away before it has asked anything."""


class Unfinished:
    """Of one client, whose timer says how long it may take."""

    __slots__ = ("_client", "_deadlines", "_stage", "kind", "started")

    def __init__(self, client: Beginner, stage: str, kind: str = "http") -> None:
        """`stage`: what `/status` says of it."""
        self._client = client
        self._stage = stage
        self.kind = kind
        self.started = client.loop.time()
        own = RouteTimeouts(Timeouts(total=client.timer.when - self.started))
        self._deadlines = Deadlines(own, self.started, client.plane.lifecycle.published, client.timer)
        self._deadlines.arm()
        client.plane.inflight.add(self)
        client.plane.buffers.begun[self] = None

    def end(self) -> None:
        """It is through, or never will be."""
        self._client.plane.inflight.discard(self)
        self._client.plane.buffers.begun.pop(self, None)

    @property
    def deadline(self) -> float:
        """See Work."""
        return self._deadlines.end

    def drain_by(self, deadline: float) -> None:
        """End by the drain's deadline too, or no longer (Work)."""
        self._deadlines.follow(self._client.plane.lifecycle.published)

    def leave(self) -> None:
        """What has begun just goes on (Work)."""

    def cut(self, reason: str) -> None:
        """End at the drain's deadline (Work)."""
        self._client.fail_head(DrainDeadline())

    def size(self, held: Buffers) -> int:
        """See Begun. Half a record of TLS is on its way, and comes in while it can."""
        size, tls = held.held_by(self._client), session_of(self._client.transport)
        if held.full and tls is not None:
            size += held.held_by(tls.incoming)
        return size

    def shed(self) -> None:
        """See Begun."""
        self._client.fail_head(OutOfBuffers())

    def describe(self) -> dict[str, str]:
        """Say what is known of it (Work)."""
        return {"method": "", "path": f"({self._stage})"}
