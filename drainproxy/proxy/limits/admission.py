"""May this request in? One step, no await, decided before a byte of the request reaches the application.

From the published policy alone; what came of it is accounting's matter, and that it came is arrivals.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.errors import DrainEnding, Draining
from drainproxy.lifecycle.machine import NewRequest, Streams

if TYPE_CHECKING:
    from drainproxy.lifecycle.port import Lifecycle
    from drainproxy.proxy.accounting.arrivals import Arrivals
    from drainproxy.proxy.message.parser import RequestHead


class Admission:
    """The gate between a parsed head and the application."""

    def __init__(self, lifecycle: Lifecycle, arrivals: Arrivals) -> None:
        self._lifecycle = lifecycle
        self._arrivals = arrivals

    def admit(self, head: RequestHead, *, now: float, tunnel: str = "") -> None:
        """Raise a Refusal if a request must not be forwarded.

        `tunnel`: what kind of tunnel it would become, empty for none.
        """
        if self._arrivals.asks_health(head) and not self._lifecycle.ready:
            raise Draining
        if tunnel and self._lifecycle.published.policy.streams is not Streams.RUN:
            raise Draining
        if self.ending(now):
            raise DrainEnding

    def ending(self, now: float) -> bool:
        """Tell whether too little of the drain is left to answer what comes at loop time `now`."""
        published = self._lifecycle.published
        return (
            published.policy.new_request is NewRequest.FORWARD_UNTIL_REFUSE and now >= published.refuse_from
        )
