"""By when must one piece of work have got how far? A value that each piece has, made of the times it wants.

A request wants all of its route's, a conversation `idle` and the drain's alone; what nobody has named does
not hold. Knows no clock: its timer wakes by the nearest, and whoever is woken asks what has run out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from drainproxy.errors import (
    BodyTimeout,
    ClientIdle,
    IdleTimeout,
    RequestError,
    ResponseHeadTimeout,
    TotalTimeout,
)

if TYPE_CHECKING:
    from drainproxy.lifecycle.lazytimer import LazyTimer
    from drainproxy.lifecycle.snapshot import Snapshot
    from drainproxy.proxy.limits.routing import RouteTimeouts


def ends_by(timeouts: RouteTimeouts, published: Snapshot) -> float:
    """Return the loop time by which a drain wants a request with these timeouts to end."""
    if timeouts.drain is None or published.deadline == math.inf:
        return published.work_deadline
    return min(published.deadline, published.drain_started + timeouts.drain)


class Timed(Protocol):
    """What ends when its time is up."""

    body_read: bool
    """The client has sent its whole request."""

    def fail(self, error: RequestError) -> None:
        """End with `error`, unless it has ended."""

    def cut(self, reason: str) -> None:
        """End at the drain's deadline, so that the other side sees it (Work)."""


class Deadlines:
    """Loop times in seconds, `math.inf` for none."""

    __slots__ = ("_shared", "_timeouts", "_timer", "body", "drain", "idle", "response_head", "total")

    def __init__(
        self,
        timeouts: RouteTimeouts,
        now: float,
        published: Snapshot,
        timer: LazyTimer,
        *,
        shared: bool = False,
    ) -> None:
        """Count from loop time `now`. `shared`: the timer wakes for others, too."""
        self._timeouts = timeouts
        self._timer, self._shared = timer, shared
        # A sum is a float of its own, and a thousand streams have four each: one does for every limit unset.
        none = math.inf
        self.total = none if timeouts.total == none else now + timeouts.total
        self.response_head = none if timeouts.response_head == none else now + timeouts.response_head
        self.body = none if timeouts.body == none else now + timeouts.body
        self.idle = none if timeouts.idle == none else now + timeouts.idle
        self.drain = ends_by(timeouts, published)

    @property
    def end(self) -> float:
        """By when it ends at the latest, however it goes on until then."""
        return min(self.total, self.drain)

    def nearest(self) -> float:
        """Return when the next of them is due."""
        nearest = self.total
        if self.response_head < nearest:  # noqa: PLR1730 - compiled, `min` makes an object of each
            nearest = self.response_head
        if self.body < nearest:  # noqa: PLR1730 - as above
            nearest = self.body
        if self.idle < nearest:  # noqa: PLR1730 - as above
            nearest = self.idle
        if self.drain < nearest:  # noqa: PLR1730 - as above
            nearest = self.drain
        return nearest

    def arm(self) -> None:
        """Be woken at the nearest, if there is any."""
        if (nearest := self.nearest()) < math.inf:
            if self._shared:
                self._timer.wake_by(nearest)
            else:
                self._timer.set(nearest)

    def count_from(self, now: float) -> None:
        """Give the application its time from `now` on; `math.inf`: it has not been asked yet."""
        self.response_head = now + self._timeouts.response_head
        self.body = now + self._timeouts.body
        self.idle = now + self._timeouts.idle
        self.arm()

    def moved(self, now: float) -> None:
        """A byte has moved at loop time `now`."""
        self.idle = now + self._timeouts.idle

    def follow(self, published: Snapshot) -> None:
        """Take the drain's deadline as it is now; a route may have one of its own."""
        self.drain = ends_by(self._timeouts, published)
        self.arm()

    def expire(self, work: Timed, now: float, *, client_awaited: bool) -> None:
        """End `work` with what has run out by loop time `now`, if anything has.

        `client_awaited`: the client holds things up, not taking its answer or not sending its body. A request
        that it has not sent yet is not late by the application's fault. Of an HTTP/2 stream nobody here
        knows: its ends bound each other's flow (RFC 9113 section 5.2).
        """
        if work.body_read:
            self.body = math.inf
        unsent = client_awaited and not work.body_read
        if now >= self.drain:
            work.cut("drain-deadline")
        elif now >= self.total:
            work.fail(BodyTimeout() if unsent else TotalTimeout())
        elif now >= self.body:
            work.fail(BodyTimeout())
        elif now >= self.response_head:
            work.fail(BodyTimeout() if unsent else ResponseHeadTimeout())
        elif now >= self.idle:
            work.fail(ClientIdle() if client_awaited else IdleTimeout())
        else:
            self.arm()
