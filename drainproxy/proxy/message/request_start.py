"""When has a request come? For applications that measure how long one waited for them. Pure.

No standard has the field; its form is that of nginx's `t=${msec}`, which Puma, Rack and agents of monitoring
read, with microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from drainproxy.proxy.message.headers import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.proxy.message.filters import Hop
    from drainproxy.proxy.message.parser import RequestHead

_NAME: Final = b"x-request-start"


class RequestStart:
    """See RequestFilter. `clock`: returns seconds since 1970."""

    sets: ClassVar = frozenset((_NAME,))

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def prepare(self, head: RequestHead, hop: Hop) -> None:
        """Say that it has come now, and nothing that a client says of it."""
        kept = [line for line in head.fields if name_of(line) != _NAME]
        head.fields = [*kept, b"X-Request-Start: t=%.6f\r\n" % self._clock()]
