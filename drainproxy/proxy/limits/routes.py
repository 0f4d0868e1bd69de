"""Which timeouts apply to this request? Pure.

An ordered list; the first route that matches counts, and what matches none has the default. Paths are
compared byte by byte, as they were sent: what the application decodes is its own business. A field of
Timeouts is a word of the routes file; the string under it is its manual (docs/configuration.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from drainproxy.kinds import Duration, Kind
from drainproxy.values import positive_duration, show_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drainproxy.proxy.settings import ProxySettings

MAX_ROUTES = 100


def _limit(text: str) -> float:
    return math.inf if text == "off" else positive_duration(text)


def _show_limit(seconds: float) -> str:
    return "off" if seconds == math.inf else show_duration(seconds)


Limit = Annotated[float, Kind("DURATION", "a duration like 500ms or 30s, or off", _limit, _show_limit)]
Leaving = Literal["leave", "finish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Durations in seconds, `math.inf` for none; and whether long-lived work may be told to leave earlier."""

    connect: Limit = math.inf
    """From the request's head to a connection to the application, then 504."""

    response_head: Limit = math.inf
    """From the request's head to the head of the answer, then 504, or 408 where the client has not sent its
    body yet."""

    body: Limit = math.inf
    """From the request's head, or its turn in the queue, to the last byte of its body, then 408, or a cut."""

    idle: Limit = math.inf
    """From the last byte of the request's body or of the answer to the next one, then 504 where the
    application is waited for, 408 where the client is, or a cut where the answer has begun."""

    total: Limit = math.inf
    """From the request's head to the last byte of the answer, then 504, 408 where the client has not sent its
    body yet, or a cut."""

    drain: Limit | None = None
    """From the beginning of a drain to the last byte of the answer, then 503, or a cut; instead of
    `drain_timeout`."""

    hold: Duration = 0.0
    """For so long a request waits for an application that restarts, then 503; instead of `hold_while_down`,
    0s for not at all."""

    streams: Leaving | None = None
    """What a drain asks of event streams, instead of the setting `streams`."""

    websockets: Leaving = "leave"
    """What a drain asks of WebSockets, instead of the setting `websockets`."""


PROFILES: Mapping[str, Timeouts] = {
    "api": Timeouts(connect=3, response_head=5, idle=5, total=10),
    "upload": Timeouts(connect=5, idle=30),
    "internal": Timeouts(connect=2, response_head=3, idle=3, total=10),
    "stream": Timeouts(connect=5),
}
"""What a route may name instead of numbers; numbers beside it win."""


def default_timeouts(settings: ProxySettings) -> Timeouts:
    """Return what the settings say for requests without a route."""
    return Timeouts(
        connect=math.inf if settings.connect_timeout is None else settings.connect_timeout,
        response_head=math.inf if settings.response_head_timeout is None else settings.response_head_timeout,
        total=math.inf if settings.total_timeout is None else settings.total_timeout,
        hold=settings.hold_while_down or 0.0,
        streams=settings.streams,
        websockets=settings.websockets,
    )


@dataclass(frozen=True, slots=True)
class Route:
    """Requests whose path is `path` or below it, with one of `methods` (none: any)."""

    path: bytes
    methods: frozenset[bytes]
    timeouts: Timeouts

    def matches(self, method: bytes, path: bytes) -> bool:
        """Tell whether a request falls under this route. Elements count: /a is not above /ab."""
        if self.methods and method not in self.methods:
            return False
        own = self.path
        return path.startswith(own) and (own[-1:] == b"/" or path[len(own) : len(own) + 1] in b"/")
