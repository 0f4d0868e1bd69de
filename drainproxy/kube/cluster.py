"""When the cluster is asked, and what is done with its answers: the room's one object.

One look at start, a watch while a drain propagates or a preStop hook waits to be told, Events when a drain
begins and ends. While serving nothing is sent but the pod's cost, where its tier is chosen. No failure here
ever reaches the data plane. Built by app.py.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from drainproxy.addresses import ListenAddress
from drainproxy.errors import KubernetesError
from drainproxy.kube import permissions, pod
from drainproxy.kube.client import Api, connect
from drainproxy.kube.events import Events
from drainproxy.kube.identity import PodIdentity
from drainproxy.kube.lint import spec_problems
from drainproxy.kube.pod_cost import PodCost
from drainproxy.kube.rate_limit import RateLimit
from drainproxy.kube.settings import KubeSettings
from drainproxy.kube.slices.siblings import SiblingReader
from drainproxy.kube.slices.watch import SliceWatch
from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Routability
from drainproxy.lifecycle.report import Cause
from drainproxy.lifecycle.settings import LifecycleSettings
from drainproxy.log import Log
from drainproxy.metrics import Metrics
from drainproxy.tasks import Connections

SETTLE_S = 1.0
"""How long the process's end may wait for an Event to be sent, out of `reserve`."""


@dataclass(kw_only=True, eq=False)
class Cluster:
    """Reads the controller and tells it what it learns. Used on the event loop's thread only."""

    me: PodIdentity
    settings: KubeSettings
    lifecycle: LifecycleSettings
    controller: Controller
    inflight: InFlight
    metrics: Metrics
    log: Log
    tasks: Connections
    admin: ListenAddress | None = None
    """Where hooks and probes are answered."""

    def __post_init__(self) -> None:
        me, settings = self.me, self.settings
        self._pace = RateLimit()
        self._said: set[tuple[str, str]] = set()
        self.siblings = SiblingReader(me, settings, self.metrics, self._complain)
        self._slices = SliceWatch(
            me=me,
            note=self.siblings.note,
            pace=self._pace,
            metrics=self.metrics,
            complain=self._complain,
            # With `fail` nobody is sent to a pod that terminates, however alone it is.
            peers_matter=self.lifecycle.readiness_on_drain.kind != "fail",
            # A balancer that probes pods would go on choosing this one on every node with one pod only.
            node_matters=not self.controller.plan.rules.balancer,
        )
        self._reads_pod = bool(me.name) and permissions.includes(settings.rbac, "slices+pod")
        self._events = Events(me, RateLimit(), self.metrics, self._complain)
        self._writes = (
            settings.events if me.name and permissions.includes(settings.rbac, "slices+pod+events") else "off"
        )
        self._cost = None
        if me.name and permissions.includes(settings.rbac, permissions.POD_COST):
            self._cost = PodCost(me, self.inflight, self._asking, self._complain, self.log)
        self._pricing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._watching_for = ""
        self._asking_why: asyncio.Task[None] | None = None
        self._asked_for: object = None
        """The drain whose cause is, or was, looked for."""
        self._sending: asyncio.Task[None] | None = None
        self._announced = False
        self._reported = False

    def start(self) -> None:
        """Take one look, in the background; from now on follow the lifecycle."""
        self.tasks.spawn(self._look(), "cluster look")
        self.controller.on_change(self._changed)

    async def stop(self, until: float = math.inf) -> None:
        """Give Events that are on their way a moment, until loop time `until` at the latest."""
        if self._sending is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(asyncio.get_running_loop().time() + SETTLE_S, until)):
                    await asyncio.wait([self._sending])
        self._events.drop()

    def status(self) -> dict[str, Any]:
        """What /status shows of the cluster."""
        reading = self._slices.view.reading()
        return {
            "pod": f"{self.me.namespace}/{self.me.name or self.me.uid}",
            "api_up": self.metrics.kubernetes_api_up.value() == 1.0,
            "state": reading.state,
            "terminating": reading.terminating,
            "slices": reading.slices,
            "rows": reading.rows,
            "rows_flipped": reading.flipped,
            "other_ready": reading.others,
            "other_ready_on_node": reading.others_on_node,
            "successor_waits": self.controller.plan.successor_waits,
            "pod_cost": None if self._cost is None else self._cost.status(),
        }

    def _changed(self) -> None:
        controller = self.controller
        wanted = ""
        if controller.published.phase is Phase.PROPAGATING:
            wanted = "drain"
        elif controller.drain is None and controller.hook_waits:
            wanted = "hook"
        if wanted != self._watching_for:
            if not self._watching_for:
                # A hook that turns out to be a drain's is the same occasion.
                self._said.clear()
            self._watching_for = wanted
            self._watching = self._instead(self._watching, self._watch(wanted) if wanted else None)
        if self._reads_pod:
            subject = self._in_question(wanted)
            if subject is not self._asked_for:
                self._asked_for = subject
                why = None if subject is None else self._find_cause()
                self._asking_why = self._instead(self._asking_why, why)
        if self._writes != "off":
            self._tell_events()
        if self._cost is not None and (self._pricing is None) == (controller.drain is None):
            # Who goes is decided once a drain runs, and a pod that starts has nothing yet.
            self._pricing = self._instead(
                self._pricing, self._cost.run() if controller.drain is None else None
            )

    def _in_question(self, wanted: str) -> object:
        """Return what ends for a reason yet unknown: a drain until it is over, a hook's application."""
        drain = self.controller.drain
        if drain is None:
            return wanted or None
        return None if drain.cause is Cause.MANUAL or self.controller.drained else drain

    def _instead(
        self, running: asyncio.Task[None] | None, work: Coroutine[Any, Any, None] | None
    ) -> asyncio.Task[None] | None:
        if running is not None:
            running.cancel()
        return None if work is None else self.tasks.spawn(work, "cluster")

    async def _look(self) -> None:
        """See what is permitted, what the slices say, and whether the pod's timers fit together."""
        try:
            await self._asking(self._look_through)
        finally:
            if self._cost is not None:
                self._cost.reviewed = True

    async def _look_through(self, api: Api) -> None:
        await self._pace.turn()
        # Its answer is advice: what is forbidden is said again when it is tried.
        with contextlib.suppress(KubernetesError):
            tier = self.settings.rbac
            lacking = await permissions.lacking(api, tier, self.me.namespace, name=self.me.name)
            self.controller.journal.note(
                f"the ServiceAccount may not {need.verb} {need.resource}, which rbac"
                f" {tier} needs: {need.lost}"
                for need in lacking
            )
            if self._cost is not None and any(need.resource == "pods" for need in lacking):
                # Said already.
                self._cost.stop("denied")
        with self._complaining("endpointslices"):
            word = await self._slices.look(api)
            # Not-ready says nothing of later. Ready does, where SIGTERM comes before the application is up.
            if word.state is Routability.ROUTABLE or word.terminating or word.stuck:
                self.controller.evidence(word)
        if self._reads_pod:
            with self._complaining("pods"):
                facts = await pod.ask(api, self.me, self._pace)
                self.controller.plan.successor_waits = facts.owner in pod.SUCCESSOR_WAITS
                if self.controller.drain is None:
                    self.controller.plan.observe(facts.grace_s)
                max_s = self.controller.plan.rules.max_s
                grace_s = self.lifecycle.grace_period
                self.controller.journal.note(spec_problems(facts.spec, grace_s, max_s, self.admin))
        self.log.event("cluster", **self.status())

    async def _watch(self, wanted: str) -> None:
        until = self.controller.deadline
        if wanted == "hook":
            until = asyncio.get_running_loop().time() + self.lifecycle.restart_window
        await self._asking(lambda api: self._slices.watch(api, until, self.controller.evidence))

    async def _find_cause(self) -> None:
        drain, deleting = self.controller.drain, True
        began = asyncio.get_running_loop().time() if drain is None else drain.started

        async def ask(api: Api) -> None:
            nonlocal deleting
            with self._complaining("pods"):
                facts = await pod.ask_twice(api, self.me, self._pace)
                deleting = facts.deleting
                self.controller.plan.successor_waits = facts.owner in pod.SUCCESSOR_WAITS
                if deleting:
                    self.controller.learn(Cause.DELETION, facts.grace_s)

        await self._asking(ask)
        # Without a drain, a container that was restarted is the application's own business.
        if deleting or drain is None or drain.cause is not Cause.UNKNOWN:
            return
        cause = await pod.infer_cause(self.controller.probes, began)
        grace_s = self.lifecycle.node_shutdown_grace if cause is Cause.NODE_SHUTDOWN else None
        self.controller.learn(cause, grace_s)

    def _tell_events(self) -> None:
        drain, report, every = self.controller.drain, self.controller.report, self._writes == "all"
        if drain is None:
            self._announced = self._reported = False
        elif not self._announced:
            self._announced = True
            if every:
                self._events.put("DrainStarted", f"{drain.in_flight_at_start} in flight; cause {drain.cause}")
        if report is not None and not self._reported:
            self._reported = True
            if report.incomplete or every:
                reason = "DrainIncomplete" if report.incomplete else "DrainCompleted"
                note, warning = report.sentence(), report.incomplete
                self._events.put(reason, note, warning=warning, report=report.message())
        if len(self._events) and (self._sending is None or self._sending.done()):
            self._sending = self.tasks.spawn(self._asking(self._send_events), "cluster events")

    async def _send_events(self, api: Api) -> None:
        await self._events.send(api)
        # The session has yet to close: what comes from now on is another's.
        self._sending = None

    async def _asking(self, ask: Callable[[Api], Awaitable[None]]) -> None:
        with self._complaining("connection"):
            async with connect(self.settings, self.metrics) as api:
                await ask(api)

    @contextlib.contextmanager
    def _complaining(self, asked: str) -> Iterator[None]:
        try:
            yield
        except KubernetesError as error:
            self._complain(asked, error)

    def _complain(self, asked: str, error: KubernetesError) -> None:
        """Say a condition once a drain: what it is, and that the drain goes on without."""
        if (asked, error.reason) not in self._said:
            self._said.add((asked, error.reason))
            self.log.event("kubernetes_api", "warning", asked=asked, reason=error.reason, detail=str(error))
