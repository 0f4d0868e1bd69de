"""Which route does a request take, and what does it hold it to? Pure, and asked by every request: routes.py
says what a route is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drainproxy.proxy.limits.routes import Timeouts

if TYPE_CHECKING:
    from drainproxy.proxy.limits.routes import Leaving, Route


class RouteTimeouts:
    """A route's Timeouts as requests read them: compiled, these are read where they lie, and those are looked
    up by name."""

    __slots__ = (
        "body", "connect", "drain", "hold", "idle", "response_head", "streams", "total", "websockets",
    )  # fmt: skip

    def __init__(self, timeouts: Timeouts) -> None:
        self.connect: float = timeouts.connect
        self.response_head: float = timeouts.response_head
        self.body: float = timeouts.body
        self.idle: float = timeouts.idle
        self.total: float = timeouts.total
        self.drain: float | None = timeouts.drain
        self.hold: float = timeouts.hold
        self.streams: Leaving | None = timeouts.streams
        self.websockets: Leaving = timeouts.websockets

    def of_conversation(self) -> RouteTimeouts:
        """Return those that hold for a conversation: nobody knows how long one should take."""
        return RouteTimeouts(Timeouts(idle=self.idle, drain=self.drain))

    def of_unread(self) -> RouteTimeouts:
        """Return those that hold for a request that nobody reads on its way."""
        return RouteTimeouts(Timeouts(total=self.total, drain=self.drain))


class Routes:
    """The list, and what applies where nothing on it does."""

    __slots__ = ("_routes", "default", "limits_unread", "unread")

    def __init__(self, routes: tuple[Route, ...], default: Timeouts) -> None:
        self._routes = [(route, RouteTimeouts(route.timeouts)) for route in routes]
        self.default = RouteTimeouts(default)
        self.unread = self.default.of_unread()
        self.limits_unread = self.unread.total < math.inf
        """A request that nobody reads has a time of its own, and not only the drain's."""

    @property
    def holds(self) -> bool:
        """Some requests wait for an application that restarts."""
        return any(each.hold for each in (self.default, *(timeouts for _, timeouts in self._routes)))

    def find(self, method: bytes, target: bytes) -> RouteTimeouts:
        """Return the timeouts of a request with this origin-form target."""
        if self._routes:
            path = target.split(b"?", 1)[0]
            for route, timeouts in self._routes:
                if route.matches(method, path):
                    return timeouts
        return self.default
