"""The composition root: a Config becomes objects, runs as one TaskGroup, and ends with an exit code.

The only file that knows every room. What happens at the very end, and in which order, is in `_leave`
and proxy/shutdown.py.
"""

import asyncio
import contextlib
import math
import platform
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from drainproxy import __version__, flavour
from drainproxy.addresses import ListenAddress
from drainproxy.admin.recent import Recent
from drainproxy.admin.server import AdminServer
from drainproxy.certificates import Rotation
from drainproxy.config import Config
from drainproxy.kube import node
from drainproxy.kube.bypass import Bypass
from drainproxy.kube.cluster import Cluster
from drainproxy.kube.identity import identity, place
from drainproxy.lifecycle import signals
from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.propagation import Reason
from drainproxy.lifecycle.report import Cause
from drainproxy.log import Log, adopt_libraries
from drainproxy.metrics import Metrics
from drainproxy.monitor import Monitor
from drainproxy.proxy import filters, preamble
from drainproxy.proxy.accounting.first_minute import FirstMinute
from drainproxy.proxy.downstream.registry import Registry
from drainproxy.proxy.limits.capacity import measure, sockets_count
from drainproxy.proxy.listener import Listener
from drainproxy.proxy.plane import Plane, Shared
from drainproxy.proxy.server import ProxyServer
from drainproxy.proxy.shutdown import Shutdown
from drainproxy.proxy.upstream.pool import KERNEL, Pool
from drainproxy.proxy.upstream.probe import Answer, Probe
from drainproxy.proxy.upstream.tls import secure
from drainproxy.proxy.warmup import Warmup
from drainproxy.proxy.wire import keepalive
from drainproxy.proxy.wire.garbage import Garbage
from drainproxy.proxy.wire.listening_socket import ListeningSocket, address_of, bind
from drainproxy.tasks import Connections
from drainproxy.telemetry.closing import Telemetry

Door = ListeningSocket | Callable[[], ListeningSocket]
"""Bound; or what will bind it once the application is there."""


async def run(config: Config) -> int:
    """Serve until SIGTERM and the end of the drain; return the process's exit code.

    Raises ListenError where an address cannot be bound.
    """
    keep_alive = keepalive.options(config.proxy)
    late = config.proxy.open_when == "application"
    doors = [
        [partial(bind, place, keep_alive) if late else bind(place, keep_alive) for place in places]
        for places in (address.within(config.kube.pod_ips) for address in config.proxy.listen)
    ]
    admin_wire = bind(config.admin.admin, keep_alive)
    process = config.process
    voice = Log(process.log_format, level=process.log_level, project=process.gcp_project)
    with contextlib.closing(voice) as log:
        adopt_libraries(log)
        for warning in config.warnings:
            log.event("config_problem", "warning", problem=warning)
        await _Process(config, doors, log).run(admin_wire)
    return 0


class _Process:
    """One run. Built, run and left once."""

    def __init__(self, config: Config, doors: Sequence[Sequence[Door]], log: Log) -> None:
        self._config = config
        self._log = log
        self._loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self._monitor = Monitor(self.metrics, log)
        self.inflight = InFlight()
        self.controller = Controller(
            settings=config.lifecycle,
            rules=config.rules,
            inflight=self.inflight,
            metrics=self.metrics,
            log=log,
            loop=self._loop,
            place=place(config.kube),
        )
        self._tasks = Connections(self._task_failed)
        self._capacity = measure(config.proxy)
        log.event("limits", **self._capacity.fields())
        self._shared = Shared(
            config.proxy,
            self._capacity,
            lifecycle=self.controller,
            inflight=self.inflight,
            metrics=self.metrics,
            log=log,
            tasks=self._tasks,
            routes=config.routes,
            linger_s=config.lifecycle.linger,
            access_log=config.process.access_log,
            kernel_counts=sockets_count(),
        )
        self._buffers, self._pools = self._shared.buffers, self._shared.pools
        self._buffers.on_change = self._buffers_changed
        self._shared.connection_limit.on_crowd = self._places_changed
        self._probe = Probe(self._pools, config.proxy.probe_path, self.controller, self.metrics)
        for pool in self._pools:
            pool.breaker.on_change = partial(self._breaker_changed, pool)
            pool.starvation.on_change = partial(self._starvation_changed, pool)
            pool.presence.on_change.append(partial(self._application_changed, pool))
        self._fallen: dict[Pool, float] = {}
        self._probe.on_unreachable = self._unreachable
        self._warmup: Warmup | None = None
        self._rotation = Rotation(self.metrics, log)
        secure(self._pools, config.edge, self._rotation)
        whose, reserve_s = place(config.kube).fields(), self.controller.plan.budget.reserve_s
        self._telemetry = Telemetry(config.process, whose, reserve_s, metrics=self.metrics, log=log)
        self._cluster = self._know_the_cluster()
        self._blocked: dict[Listener, str] = {}
        self._listeners = list(self._open(doors))
        settle_s = config.lifecycle.settle
        self._shutdown = Shutdown(self._listeners, self.controller, self.inflight, settle_s)
        self._shutdown.callers_until = self._callers_until
        ports = [pool.address.port for pool in self._pools if not pool.address.path]
        self._bypass = Bypass(ports, self.metrics, self._tasks)
        self._started = False
        self._interrupted = False
        self._patience: asyncio.Timeout | None = None
        """Of leaving: it ends when a person insists."""
        self.metrics.build_info.set(1.0, __version__, platform.python_version(), flavour.current())

    def _count_rates(self) -> Recent:
        accountings = {each.server.plane.accounting: None for each in self._listeners}
        recent = Recent(self.controller, self.metrics, list(accountings))
        self._monitor.each_tick = recent.tick
        return recent

    def _open(self, doors: Sequence[Sequence[Door]]) -> Iterator[Listener]:
        """Yield what listens at each address, and tells when callers are let in."""
        servers = self._serve(doors)
        if self._config.proxy.warmup:
            self._warmup = self._probe.warmup = self._warm_up()
            FirstMinute([each.plane.accounting for each in servers], self.controller, self.metrics)
        Registry.export([server.registry for server in servers], self.metrics)
        self._probe.callers_let_in = lambda: all(listener.opened for listener in self._listeners)
        for wires, server in zip(doors, servers, strict=True):
            for door in wires:
                listener = Listener(door, server)
                listener.on_opened = partial(self._opened, listener)
                listener.on_blocked = partial(self._cannot_open, listener)
                yield listener

    def _serve(self, doors: Sequence[Sequence[Door]]) -> list[ProxyServer]:
        """Return what answers at each address of `listen`."""
        config, shared = self._config, self._shared
        shared.tracing = self._telemetry.tracing
        if config.proxy.handoff != "off" and self._cluster is not None:
            shared.siblings = self._cluster.siblings
        elif config.proxy.handoff != "off":
            problem = "handoff: this pod knows neither its namespace nor its name, so no siblings; set both"
            self._log.event("config_problem", "warning", problem=problem)
        shared.filters = filters.build(config.edge, self._telemetry.tracing)
        preambles = preamble.build(config.edge, config.proxy, self._rotation)
        return [
            ProxyServer(self._plane(pool, _port(door[0], address)), preambles[address.tls])
            for door, pool, address in zip(doors, self._pools, config.proxy.listen, strict=True)
        ]

    def _plane(self, pool: Pool, port: int) -> Plane:
        return Plane(self._shared, pool, str(port), port)

    def _warm_up(self) -> Warmup:
        warmup = Warmup(
            self._pools,
            self._config.proxy,
            lifecycle=self.controller,
            metrics=self.metrics,
            log=self._log,
            tasks=self._tasks,
        )
        warmup.on_over = self._probe.judge
        return warmup

    def _know_the_cluster(self) -> Cluster | None:
        me = identity(self._config.kube)
        if me is None or self._config.kube.rbac == "none":
            return None
        return Cluster(
            me=me,
            settings=self._config.kube,
            lifecycle=self._config.lifecycle,
            admin=self._config.admin.admin,
            controller=self.controller,
            inflight=self.inflight,
            metrics=self.metrics,
            log=self._log,
            tasks=self._tasks,
        )

    async def run(self, admin_wire: socket.socket) -> None:
        """Start everything, wait for the end, leave."""
        admin = AdminServer(
            controller=self.controller,
            inflight=self.inflight,
            metrics=self.metrics,
            log=self._log,
            settings=self._config.admin,
            node=node.addresses(self._config.kube.host_ips),
            about=self._about,
            recent=self._count_rates(),
        )
        await admin.start(admin_wire)
        self._log.event("listening", listener="admin", address=address_of(admin_wire))
        for listener in self._listeners:
            await listener.start()
        self._started = True
        self.controller.on_change(self._leave_message)
        if self._cluster is not None:
            self._cluster.start()
        garbage = Garbage()
        signals.deliver(self._loop, self._signalled)
        async with asyncio.TaskGroup() as services:
            running = [
                services.create_task(_service(self._probe.run()), name="probe"),
                services.create_task(_service(self._monitor.run()), name="monitor"),
                services.create_task(_service(garbage.watch(self._held_bytes)), name="garbage"),
                services.create_task(_service(self._rotation.watch()), name="certificates"),
            ]
            await self.controller.until(lambda: self.controller.may_exit)
            await self._leave(admin)
            for service in running:
                service.cancel()
        await self._telemetry.close(self._shutdown.exit_by - self._loop.time())
        signals.ignore(self._loop)
        self._log.event("exit", after_s=round(self._loop.time() - self.controller.journal.phase_since, 3))

    async def _leave(self, admin: AdminServer) -> None:
        """Go, in the order in which nothing is lost: the listener is the last door to close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as self._patience:
                # Past the deadline the pod stays while its application stops: what was cut is counted.
                until = min(self.controller.hooks.late_scrape_until, self._shutdown.exit_by)
                if until > self._loop.time():
                    await admin.wait_last_scrape(until=until)
                await self._shutdown.depart()
        self._patience = None
        await self._shutdown.end()
        if self._cluster is not None:
            await self._cluster.stop(self._shutdown.exit_by)
        await self._tasks.cancel()
        await admin.stop()

    # Signals.

    def _signalled(self, name: str) -> None:
        if name == "SIGHUP":
            self._rotation.reload()
            return
        if name == "SIGINT":
            if self._interrupted:
                self.controller.abandon("interrupted twice", Reason.INTERRUPTED)
                self.controller.hooks.hurry()
                if self._patience is not None:
                    self._patience.reschedule(self._loop.time())
                    self._patience = None
            self._interrupted = True
        already = self.controller.published.draining and self.controller.sigterm_at is None
        self.controller.terminate(Cause.UNKNOWN, sigterm=True)
        if already and not self.controller.drained:
            self._tasks.spawn(self._stop_if_alone(), "stop if alone")

    async def _stop_if_alone(self) -> None:
        """SIGTERM in mid drain: every main container has exited, or somebody sent it by hand."""
        if await self._probe.ask() is Answer.REFUSES:
            # Many close their door first and then finish what is in them: that much is waited for.
            finishing = any(pool.active_count for pool in self._pools)
            self.controller.abandon("the application is gone", Reason.UPSTREAM_GONE, cut=not finishing)

    def _callers_until(self) -> float:
        """Who comes after a drain is served by siblings, if there are any."""
        handoffs = [listener.server.plane.handoff for listener in self._listeners]
        served = any(each is not None and each.possible for each in handoffs)
        return self.controller.hooks.callers_until if served else -math.inf

    # What others ask of the whole.

    def _about(self) -> dict[str, Any]:
        planes = [listener.server.plane for listener in self._listeners]
        handoffs = [plane.handoff for plane in planes if plane.handoff is not None]
        return {
            "version": __version__,
            "place": place(self._config.kube).fields(),
            "listeners": self._listening() if self._started else [],
            "blocked": "; ".join(self._blocked.values()),
            "limits": self._capacity.fields(),
            "siblings": None if not handoffs else max(each.known for each in handoffs),
            "warmup": None if self._warmup is None else self._warmup.status(),
            "upstreams": [str(pool.address) for pool in self._pools],
            "cluster": None if self._cluster is None else self._cluster.status(),
        }

    def _leave_message(self) -> None:
        report = self.controller.report
        if report is None or not self.controller.drained:
            return
        # The kubelet makes the file; outside a pod there is none, and none is wanted.
        path = Path(self._config.admin.termination_log)
        with contextlib.suppress(OSError):
            if path.is_file():
                path.write_text(report.message() + "\n")

    def _listening(self) -> list[str]:
        names = [(each.address, each.server.plane.accounting.name) for each in self._listeners]
        return [address or f"port {name}, once the application is there" for address, name in names]

    def _opened(self, listener: Listener) -> None:
        self._blocked.pop(listener, None)
        name = listener.server.plane.accounting.name
        self._log.event("listening", listener=name, address=listener.address)
        # Who waits for the application waits for this too.
        self._probe.judge()

    def _cannot_open(self, listener: Listener, failure: str) -> None:
        port = int(listener.server.plane.accounting.name)
        found = ", ".join(KERNEL.places(port)) or "an address that is unknown"
        if listener not in self._blocked:
            fix = "was it told to listen on 127.0.0.1, and does it read that (drainproxy.io/app-host-env)?"
            self._blocked[listener] = f"{failure}; somebody listens at {found}, port {port}: {fix}"
            self._log.event("cannot_listen", "warning", listener=str(port), why=self._blocked[listener])

    def _held_bytes(self) -> int:
        return self._buffers.resident_bytes

    def _buffers_changed(self) -> None:
        self._log.event("buffers", tight=self._buffers.tight, held_bytes=self._buffers.held_bytes)

    def _places_changed(self, taken: int, most: int) -> None:
        # Whoever sizes the pod hears of it before anybody is turned away.
        self._log.condition("client_connections", "client_connections", open=taken, limit=most)

    def _breaker_changed(self, pool: Pool) -> None:
        self._log.event("breaker", open=pool.breaker.open, upstream=str(pool.address))

    def _unreachable(self, pool: Pool) -> None:
        """Say where an application may be that is not where it is looked for."""
        found = KERNEL.places(pool.address.port) if pool.address.port else []
        fix = "set `upstream`, or drainproxy.io/upstream-host: localhost, pod, or an IP address"
        elsewhere = f"somebody listens on its port at {', '.join(found)}: {fix}"
        why = elsewhere if found else "nobody listens on its port"
        self._log.event("unreachable", "warning", upstream=str(pool.address), why=why)

    def _application_changed(self, pool: Pool) -> None:
        now, upstream = self._loop.time(), str(pool.address)
        if pool.presence.fallen:
            self._fallen[pool] = now
            why = "callers are refused too, and go to other pods"
            if not pool.presence.shut:
                why = "requests wait for it, or go to siblings, as hold_while_down and handoff say"
            self._log.event("application", "warning", upstream=upstream, state="refuses connections", why=why)
        elif (since := self._fallen.pop(pool, None)) is not None:
            away_s = round(now - since, 3)
            self._log.event("application", upstream=upstream, state="accepts connections", after_s=away_s)

    def _starvation_changed(self, pool: Pool) -> None:
        # Its threads or processes each serve one connection: which the next one waits for, if it is kept.
        self._log.event("upstream_reuse", reuse=not pool.starvation.learnt, upstream=str(pool.address))

    def _task_failed(self, name: str, failure: BaseException) -> None:
        self._log.condition("defect", "defect", "error", task=name, failure=repr(failure))


def _port(door: Door, address: ListenAddress) -> int:
    return address.port if callable(door) else int(door.getsockname()[1])


async def _service(work: Coroutine[Any, Any, None]) -> None:
    await work
    raise RuntimeError("a service has ended")
