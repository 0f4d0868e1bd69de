"""Which route does a request take? Pure, and asked by every request: routes.py says what one is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drainproxy.proxy.limits.routes import Route, Timeouts


class Routes:
    """The list, and what applies where nothing on it does."""

    __slots__ = ("_routes", "default", "limits_unread", "unread")

    def __init__(self, routes: tuple[Route, ...], default: Timeouts) -> None:
        self._routes = routes
        self.default = default
        self.unread = default.of_unread()
        self.limits_unread = self.unread.total < math.inf
        """A request that nobody reads has a time of its own, and not only the drain's."""

    @property
    def holds(self) -> bool:
        """Some requests wait for an application that restarts."""
        return any(each.hold for each in (self.default, *(route.timeouts for route in self._routes)))

    def find(self, method: bytes, target: bytes) -> Timeouts:
        """Return the timeouts of a request with this origin-form target."""
        if self._routes:
            path = target.split(b"?", 1)[0]
            for route in self._routes:
                if route.matches(method, path):
                    return route.timeouts
        return self.default
