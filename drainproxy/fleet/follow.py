"""Reads what survives of a rollout from the cluster, and follows one while it runs.

A list and a watch of the workload's pods and of itself, its ReplicaSets, Events, and the logs of sidecars
that are leaving. What may not be read is named, and the rest goes on. Facts go to departures.py, and nothing
is judged here. Called by the command line.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.fleet import reports, workloads
from drainproxy.fleet.departures import Departure, Departures
from drainproxy.kube import owners
from drainproxy.kube.client import Api
from drainproxy.kube.rate_limit import RateLimit
from drainproxy.podspec import DEFAULT_GRACE_S

WATCH_S = 300.0
"""For one watch; then it is asked for again."""
AFTER_S = 2.0
"""How long last words may come after a pod: an Event, the end of a log."""
LOG_LINES = 500
MAX_LOG_BYTES = 4 * 1024 * 1024
LOG_S = 5.0
"""For a log that is over."""
MAX_FOLLOWED = 64
"""Logs that are followed at once."""
LEAVE_MARGIN_S = 30.0
"""How much longer than its grace period a pod may take to go before nobody waits for it any more."""
MAX_LEAVE_S = 3600.0

Take = Callable[[str, dict[str, Any]], None]


@dataclass(kw_only=True, eq=False)
class Follower:
    """Of one workload. `say` is called when a pod begins to leave, and when it is gone."""

    api: Api
    kind: owners.Kind
    name: str
    namespace: str
    found: Departures
    say: Callable[[Departure], None] = lambda _: None
    missing: dict[str, str] = field(default_factory=dict)
    """What could not be read, and why."""
    workload: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()
        self._said: dict[int, bool] = {}
        """Departure -> whether it was gone when it was told of."""
        self._logs: dict[str, asyncio.Task[None]] = {}
        self._begun = False
        self._chosen: dict[str, str] = {}
        self._pods = f"/api/v1/namespaces/{self.namespace}/pods"

    async def look(self) -> None:
        """Read everything once. Raises KubernetesError where there is no workload to be read."""
        self.workload = await self.api.get(self.kind.path(self.namespace, self.name), dict)
        self.workload.setdefault("kind", self.kind.kind)
        chooser = self.workload
        if reference := self.workload.get("spec", {}).get("workloadRef"):
            # A Rollout that borrows its template, and its selector with it.
            kind = owners.kind_of(str(reference.get("kind"))) or self.kind
            chooser = await self.api.get(kind.path(self.namespace, str(reference.get("name"))), dict)
        self._chosen = {"labelSelector": workloads.selector(chooser)}
        if self.kind.between is not None:
            sets = workloads.all_of(self.kind.between, self.namespace)
            await self._list(self.kind.between.plural, sets, self._chosen, self._replica_set)
        await self._list("pods", self._pods, self._chosen, self._pod)
        await self._events()
        await self._old_logs()

    async def until_gone(self) -> bool:
        """Follow those who are leaving until they are gone, or should be; return whether they are."""
        if not self.found.leaving:
            return True
        return await self._following(lambda: not self.found.leaving, _longest(self.found), itself=False)

    async def until_over(self, timeout_s: float) -> bool:
        """Follow a rollout from before it begins to its end; return whether it ended in time."""
        return await self._following(self._over, timeout_s, itself=True)

    # Following.

    async def _following(self, over: Callable[[], bool], for_s: float, *, itself: bool) -> bool:
        """Watch until `over`, for so long at most. Raises no KubernetesError."""
        watches = [asyncio.ensure_future(self._watch("pods", self._pods, self._chosen, self._pod))]
        if itself:
            path = workloads.all_of(self.kind, self.namespace)
            query = {"fieldSelector": f"metadata.name={self.name}"}
            watches.append(asyncio.ensure_future(self._watch("workload", path, query, self._itself)))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(for_s):
                    while not await self._surely(over) and not self.missing.keys() & {"pods", "workload"}:
                        await self._changed.wait()
                        self._changed.clear()
            await self._last_words()
            return over()
        finally:
            for task in (tasks := [*watches, *self._logs.values()]):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _surely(self, over: Callable[[], bool]) -> bool:
        """Ask once more before it is called over: two watches do not tell what they see in one order."""
        if not over():
            return False
        with contextlib.suppress(KubernetesError):
            await self._again("pods", self._pods, self._chosen, self._pod)
        return over()

    async def _last_words(self) -> None:
        """Give Events and logs a moment where a report is still missing."""
        wanting = [each for each in self.found if each.gone and each.report is None and each.sidecar]
        if wanting:
            if logs := [self._logs[each.uid] for each in wanting if each.uid in self._logs]:
                await asyncio.wait(logs, timeout=AFTER_S)
            else:
                await asyncio.sleep(AFTER_S)
        if "events" not in self.missing:
            await self._events()

    async def _watch(self, what: str, path: str, query: dict[str, str], take: Take) -> None:
        """Keep a list and a watch up until cancelled; end where either is forbidden."""
        pace, version = RateLimit(), ""

        def heard(kind: str, thing: dict[str, Any]) -> None:
            nonlocal version
            version = str(thing["metadata"]["resourceVersion"])
            if kind != "BOOKMARK":
                take(kind, thing)
                self._changed.set()

        while True:
            await pace.turn()
            try:
                if not version:
                    version = await self._again(what, path, query, take)
                    self._changed.set()
                await self.api.watch(path, {**query, "resourceVersion": version}, WATCH_S, heard)
                pace.worked()
            except KubernetesError as error:
                if error.reason == "denied":
                    self.missing[what] = str(error)
                    self._changed.set()
                    return
                if error.reason == "gone":
                    # What happened meanwhile nobody tells: all is read anew.
                    version = ""
                pace.failed(error.retry_after_s)

    async def _again(self, what: str, path: str, query: dict[str, str], take: Take) -> str:
        """List all there is; return the version to watch from."""
        there: list[dict[str, Any]] = []
        metadata = await self.api.list(path, query, there.append)
        for thing in there:
            take("MODIFIED", thing)
        if what == "pods":
            self.found.absent({str(each["metadata"].get("uid")) for each in there}, datetime.now(UTC))
            self._tell()
        return str(metadata.get("resourceVersion", ""))

    def _over(self) -> bool:
        waits = workloads.unsettled(self.kind, self.workload)
        self._begun = self._begun or bool(self.found.leaving or waits)
        return self._begun and not self.found.leaving and not waits

    # Facts.

    def _pod(self, kind: str, thing: dict[str, Any]) -> None:
        if not self._mine(thing):
            return
        leaving = self.found.pod(thing, deleted=kind == "DELETED", now=datetime.now(UTC))
        if leaving is not None:
            self._begun = True
            if not leaving.gone and leaving.report is None and leaving.sidecar is not None:
                self._follow_log(leaving)
        self._tell()

    def _itself(self, kind: str, thing: dict[str, Any]) -> None:
        if kind != "DELETED":
            self.workload = {"kind": self.kind.kind, **thing}
            self._over()

    def _replica_set(self, _kind: str, thing: dict[str, Any]) -> None:
        if owners.owned(thing, self.workload):
            self.found.replica_set(thing)

    def _mine(self, pod: dict[str, Any]) -> bool:
        """Tell whether a pod is the workload's own: its labels may be others' too."""
        owner = owners.controller(pod) or {}
        if self.kind.between is None:
            return owners.owned(pod, self.workload)
        return owner.get("name") in self.found.replica_sets or owners.owned_by_name(pod, self.workload)

    def _tell(self) -> None:
        for each in self.found:
            if self._said.get(id(each)) is not each.gone:
                self._said[id(each)] = each.gone
                self.say(each)

    async def _events(self) -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        await self._list("events", path, {}, lambda _, event: self.found.event(event))

    async def _list(self, what: str, path: str, query: dict[str, str], take: Take) -> None:
        try:
            await self.api.list(path, query, lambda item: take("ADDED", item))
        except KubernetesError as error:
            self.missing[what] = str(error)

    # Logs.

    async def _old_logs(self) -> None:
        """Read the logs of sidecars that have ended in pods that are still there."""
        for each in self.found:
            if each.report is None and each.sidecar is not None and (each.restart or each.gone):
                more = {"previous": "true"} if each.restart else {}
                await self._log(each, more, LOG_S)

    def _follow_log(self, each: Departure) -> None:
        """Read along: whoever misses the last state of the pod has that."""
        following = sum(not task.done() for task in self._logs.values())
        if each.uid not in self._logs and following < MAX_FOLLOWED:
            self._logs[each.uid] = asyncio.ensure_future(self._log(each, {"follow": "true"}, MAX_LEAVE_S))

    async def _log(self, each: Departure, more: dict[str, str], for_s: float) -> None:
        query = {
            "container": str((each.sidecar or {}).get("name")),
            "tailLines": str(LOG_LINES),
            "limitBytes": str(MAX_LOG_BYTES),
            **more,
        }

        def take(line: str) -> bool:
            each.tell(reports.of_line(line), "log")
            return each.report is not None

        try:
            await self.api.lines(f"{self._pods}/{each.pod}/log", query, for_s, take)
        except KubernetesError as error:
            if error.reason == "denied":
                self.missing["logs"] = str(error)


def _longest(found: Departures) -> float:
    """Return for how long those who are leaving may take."""
    graces = [
        float((each.spec or {}).get("terminationGracePeriodSeconds") or DEFAULT_GRACE_S)
        for each in found.leaving
    ]
    return min(max(graces, default=DEFAULT_GRACE_S) + LEAVE_MARGIN_S, MAX_LEAVE_S)
