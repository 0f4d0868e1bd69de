"""What the connections of one listener need: settings, time, limits, the way to the application, accounting.

A value: it decides nothing. `Shared` is made once a process, a Plane of it for each listener; app.py and the
tests make both the same way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from drainproxy.proxy.accounting.accounting import Accounting
from drainproxy.proxy.accounting.arrivals import Arrivals
from drainproxy.proxy.limits.admission import Admission
from drainproxy.proxy.limits.concurrency_limit import ConcurrencyLimit
from drainproxy.proxy.limits.connection_limit import ConnectionLimit
from drainproxy.proxy.limits.routes import default_timeouts
from drainproxy.proxy.limits.routing import Routes
from drainproxy.proxy.upstream.connector import Connector
from drainproxy.proxy.upstream.handoff import Handoff
from drainproxy.proxy.upstream.pool import Pool
from drainproxy.proxy.wire.buffers import Buffers
from drainproxy.proxy.wire.weights import WORK_BYTES
from drainproxy.proxy.wire.write_batch import WriteBatch

if TYPE_CHECKING:
    from drainproxy.lifecycle.inflight import InFlight
    from drainproxy.lifecycle.port import Lifecycle, Siblings
    from drainproxy.log import Log
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.accounting.tracing import Tracing
    from drainproxy.proxy.limits.capacity import Capacity
    from drainproxy.proxy.limits.routes import Route
    from drainproxy.proxy.message.filters import RequestFilters
    from drainproxy.proxy.settings import ProxySettings
    from drainproxy.tasks import Connections


class Shared:
    """What all listeners of a process share."""

    def __init__(
        self,
        settings: ProxySettings,
        capacity: Capacity,
        *,
        lifecycle: Lifecycle,
        inflight: InFlight,
        metrics: Metrics,
        log: Log,
        tasks: Connections,
        routes: tuple[Route, ...],
        linger_s: float,
        access_log: str,
        kernel_counts: bool,
    ) -> None:
        """`kernel_counts`: see Buffers."""
        self.settings = settings
        self.lifecycle, self.inflight = lifecycle, inflight
        self.metrics, self.log, self.access_log = metrics, log, access_log
        self.tasks = tasks
        self.linger_s = linger_s
        self.loop = loop = asyncio.get_running_loop()
        self.write_batch = WriteBatch(loop, tasks.on_failure)
        self.buffers = Buffers(
            capacity.max_buffer_bytes,
            self.write_batch,
            loop,
            room_bytes=capacity.room_bytes,
            kernel_counts=kernel_counts,
        )
        self.buffers.count(inflight, WORK_BYTES)
        self.buffers.export(metrics)
        self.pools = [Pool(each, settings, metrics, loop, self.buffers) for each in settings.upstream]
        Pool.export(self.pools, metrics)
        self.connection_limit = ConnectionLimit(
            capacity, self.pools, metrics, settings.max_connections_per_ip
        )
        self.connection_limit.no_room = self.buffers.is_full
        self.concurrency_limit: ConcurrencyLimit | None = None
        if settings.max_in_flight is not None:
            self.concurrency_limit = ConcurrencyLimit(settings, loop, metrics)
            self.concurrency_limit.away = lambda: any(pool.presence.fallen for pool in self.pools)
        self.arrivals = Arrivals(lifecycle, metrics, settings.health_paths)
        self.admission = Admission(lifecycle, self.arrivals)
        self.routes = Routes(routes, default_timeouts(settings))
        self.siblings: Siblings | None = None
        """Who else serves, where requests may be handed on. Set before the first Plane is built."""
        self.tracing: Tracing | None = None
        self.filters: RequestFilters | None = None
        """Set before the first Plane is built, or not at all."""


class Plane:
    """Of one listener. Nothing of it is replaced once a client has come."""

    __slots__ = (
        "accounting", "admission", "buffers", "concurrency_limit", "connection_limit", "connector", "filters",
        "handoff", "inflight", "keepalive_idle_s", "lifecycle", "linger_s", "loop", "metrics", "pool",
        "routes", "settings", "tasks", "upstream_host", "write_batch",
    )  # fmt: skip

    def __init__(self, shared: Shared, pool: Pool, name: str, port: int = 0) -> None:
        """Make what a listener's connections need to reach `pool`. `name`: its label; `port`: its own."""
        self.settings, self.loop = shared.settings, shared.loop
        self.lifecycle, self.inflight = shared.lifecycle, shared.inflight
        self.metrics, self.tasks = shared.metrics, shared.tasks
        self.buffers, self.write_batch = shared.buffers, shared.write_batch
        self.admission, self.routes = shared.admission, shared.routes
        self.connection_limit, self.concurrency_limit = shared.connection_limit, shared.concurrency_limit
        self.filters = shared.filters
        self.keepalive_idle_s = shared.settings.keepalive_idle
        """For how long a client's connection may idle; said here, where every request finds it at once."""
        self.linger_s = shared.linger_s
        self.pool = pool
        self.handoff = handoff = self._hand_off(shared, pool, port)
        holds = shared.routes.holds
        pool.presence.covered = lambda: holds or (handoff is not None and handoff.possible)
        self.connector = Connector(
            pool, shared.lifecycle, shared.loop, shared.metrics, shared.settings.connect_timeout, holds=holds
        )
        self.accounting = Accounting(
            name=name,
            lifecycle=shared.lifecycle,
            metrics=shared.metrics,
            log=shared.log,
            access_log=shared.access_log,
            arrivals=shared.arrivals,
            filters=shared.filters,
            tracing=shared.tracing,
        )
        self.upstream_host = pool.address.authority.encode("ascii", "replace")
        """The Host for a client that sent none (HTTP/1.0)."""

    @staticmethod
    def _hand_off(shared: Shared, pool: Pool, port: int) -> Handoff | None:
        if shared.siblings is None or pool.address.tcp:
            return None
        return Handoff(
            shared.siblings,
            port,
            pool,
            lifecycle=shared.lifecycle,
            loop=shared.loop,
            metrics=shared.metrics,
            log=shared.log,
            tasks=shared.tasks,
            limits=shared.settings.handoff == "limits",
        )
