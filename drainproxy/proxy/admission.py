"""May this request in? One step, no await: a claim or a refusal, and the books of a drain.

Decided before a byte of the request reaches the application, from the published policy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.errors import DrainEnding
from drainproxy.lifecycle.machine import NewRequest

if TYPE_CHECKING:
    from drainproxy.lifecycle.controller import Controller
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.heads import RequestHead


class Admission:
    """The gate between a parsed head and the application."""

    def __init__(self, controller: Controller, metrics: Metrics) -> None:
        self._controller = controller
        self._metrics = metrics

    def admit(self, head: RequestHead, *, accepted_at: float, first: bool, now: float) -> None:
        """Account for a request that says something; raise a Refusal if it must not be forwarded.

        Of a connection that was made before a drain, only the first request says something: that it came.

        `accepted_at` is when its connection was accepted, `first` whether it is the first one on it.
        """
        published = self._controller.published
        sound = self._controller.sound
        health_check = sound.is_health_check(head.noted.get(b"user-agent", b""))
        if not published.draining:
            if not health_check:
                sound.arrived(now)
            return
        late = accepted_at >= published.drain_started
        if late and first:
            self._metrics.late_connections.inc("probe" if health_check else "request")
        if not health_check:
            self._controller.request_came(now)
            self._metrics.late_requests.inc()
            if late:
                self._controller.late_arrival(now)
            if published.policy.new_request is NewRequest.FORWARD_AFTER_DRAINED:
                self._metrics.after_drained.inc()
        if published.policy.new_request is NewRequest.FORWARD_UNTIL_REFUSE and now >= published.refuse_from:
            self._metrics.drain_requests.inc("refused")
            raise DrainEnding
