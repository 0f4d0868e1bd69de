"""Which filters do this process's requests pass? By its settings, in the order in which they are called."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from drainproxy.proxy.message.filters import RequestFilters
from drainproxy.proxy.message.forwarding import Forwarding
from drainproxy.proxy.message.request_start import RequestStart
from drainproxy.proxy.message.trust import Trust
from drainproxy.proxy.message.via import Via

if TYPE_CHECKING:
    from drainproxy.proxy.accounting.tracing import Tracing
    from drainproxy.proxy.message.filters import RequestFilter
    from drainproxy.proxy.transport_settings import TransportSettings


def build(edge: TransportSettings, tracing: Tracing | None = None) -> RequestFilters | None:
    """Return what sets more on a request than what is missing (headers.py); None where nothing does."""
    trust = Trust(edge.trusted_proxies if edge.forwarding == "append" else ())
    filters: list[RequestFilter] = []
    if edge.forwarding != "keep":
        filters.append(Forwarding(edge.forwarding, trust, lambda: os.urandom(16).hex().encode()))
    if edge.via:
        filters.append(Via(b"drainproxy-" + os.urandom(6).hex().encode()))
    if edge.request_start:
        filters.append(RequestStart(time.time))
    if tracing is not None:
        # The last: what another one refuses has no span.
        filters.append(tracing)
    return RequestFilters(trust, filters) if filters else None
