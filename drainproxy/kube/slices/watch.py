"""Watches this pod's EndpointSlices while a drain propagates: where the cluster's word comes from.

One list, then one watch a slice, or one for the whole Service where others' readiness matters too. It ends
at the first answer, when it is told to, or when nothing is permitted. A failure is never an answer. Called
by cluster.py.
"""

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.kube.client import Api
from drainproxy.kube.identity import PodIdentity
from drainproxy.kube.rate_limit import RateLimit
from drainproxy.kube.slices.endpoints import SERVICE_LABEL, SliceFacts, View, read, version_of
from drainproxy.lifecycle.propagation import UNKNOWN, Evidence, Routability
from drainproxy.metrics import Metrics

JITTER_S = 0.5
"""A node's pods, or a Deployment's, are told to end in the same moment."""

ANY_VERSION, NEWEST_VERSION = "0", ""
"""Any API server's cache will do at first; after a 410 only the newest (Kubernetes: API concepts)."""

MAX_VAIN_LISTS = 2
MAX_WATCHES = 8
"""Slices watched by name; a pod in more of them watches its Services."""

FEW = 10
"""With more other ready endpoints than this nobody waits for the last one."""

MAX_WATCH_S = 300.0


@dataclass(kw_only=True, eq=False)
class SliceWatch:
    """Keeps its View from one call to the next: an own row seen at start counts at the end."""

    me: PodIdentity
    pace: RateLimit
    metrics: Metrics
    complain: Callable[[str, KubernetesError], None]
    peers_matter: bool
    """It is asked whether others are ready."""
    node_matters: bool
    """And that on this pod's node too, where it is known."""
    note: Callable[[dict[str, Any]], None] = lambda _: None
    """Shown every slice of a list, too."""

    def __post_init__(self) -> None:
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{self.me.namespace}/endpointslices"
        self._until = 0.0
        self._tell: Callable[[Evidence], None] = lambda _: None
        self._told = UNKNOWN
        self.view = View()

    async def look(self, api: Api) -> Evidence:
        """List once and return what the cluster says now. Raises KubernetesError."""
        await self._list(api, ANY_VERSION)
        return self._word()

    async def watch(self, api: Api, until: float, tell: Callable[[Evidence], None]) -> None:
        """Call `tell` at every change, till loop time `until` at the latest. Raises no KubernetesError."""
        self._until, self._tell, self._told = until, tell, UNKNOWN
        version, asked = ANY_VERSION, 0
        await asyncio.sleep(random.uniform(0.0, JITTER_S))  # noqa: S311 - jitter
        while _now() < until:
            try:
                since = await self._list(api, version)
                version, asked = ANY_VERSION, asked + 1
                if not self._say():
                    return
                if self.view.seen:
                    await self._follow(api, since)
                    return
                # A young pod's row may yet come. Most pods without one have no Service.
                if asked >= MAX_VAIN_LISTS:
                    return
                self.pace.failed()
            except KubernetesError as error:
                if error.reason == "gone":
                    version = NEWEST_VERSION
                elif not self._go_on_after(error):
                    return

    def _go_on_after(self, error: KubernetesError) -> bool:
        self.complain("endpointslices", error)
        self.pace.failed(error.retry_after_s)
        return error.reason != "denied"

    async def _list(self, api: Api, version: str) -> str:
        """Read every slice of the namespace; return the version to watch from."""
        found: list[SliceFacts] = []
        query = {"resourceVersion": version} if version else {}
        await self.pace.turn()

        def take(item: dict[str, Any]) -> None:
            found.append(read(item, self.me))
            self.note(item)

        metadata = await api.list(self._path, query, take)
        self.view.replace(found, version_of(metadata))
        self.pace.worked()
        return str(metadata.get("resourceVersion", ""))

    async def _follow(self, api: Api, version: str) -> None:
        """Stay with what was listed until it is answered. Raises KubernetesError `gone`."""
        failure: KubernetesError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for query in self._queries():
                    group.create_task(self._stay(api, {**query, "resourceVersion": version}))
        except* _Answered:
            pass
        except* KubernetesError as errors:
            failure = next(each for each in errors.exceptions if isinstance(each, KubernetesError))
        if failure is not None and failure.reason == "gone":
            raise failure
        if failure is not None:
            await self._poll(api)

    def _queries(self) -> list[dict[str, str]]:
        """Choose what to watch: by name is cheap for the server, by label shows who else is ready."""
        names, services = self.view.own_slices, sorted(self.view.services)
        few = self.peers_matter and self.view.reading().others <= FEW
        if "" not in services and (few or len(names) > MAX_WATCHES):
            return [{"labelSelector": f"{SERVICE_LABEL} in ({','.join(services)})"}]
        return [{"fieldSelector": f"metadata.name={name}"} for name in names[:MAX_WATCHES]]

    async def _stay(self, api: Api, query: dict[str, str]) -> None:
        """Keep one watch up. Raises _Answered, or KubernetesError `gone` or `denied`."""
        while (left_s := self._until - _now()) > 0:
            before = query["resourceVersion"]
            await self.pace.turn()
            try:
                await api.watch(self._path, query, min(left_s, MAX_WATCH_S), partial(self._take, query))
            except KubernetesError as error:
                if error.reason == "gone" or not self._go_on_after(error):
                    raise
            else:
                if query["resourceVersion"] == before:
                    # Empty answers in a loop would be asked for in a loop.
                    self.pace.failed()
                else:
                    self.pace.worked()

    def _take(self, query: dict[str, str], kind: str, thing: dict[str, Any]) -> None:
        query["resourceVersion"] = str(thing["metadata"]["resourceVersion"])
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            self.view.drop(str(thing["metadata"]["name"]))
        else:
            self.view.put(read(thing, self.me))
        if not self._say():
            raise _Answered

    async def _poll(self, api: Api) -> None:
        """Ask for each own slice again and again: who may get may not always watch."""
        for name in itertools.cycle(self.view.own_slices):
            self.pace.failed()
            await self.pace.turn()
            try:
                self.view.put(await api.get(f"{self._path}/{name}", partial(read, me=self.me)))
            except KubernetesError as error:
                if error.reason == "absent":
                    self.view.drop(name)
                elif not self._go_on_after(error):
                    return
            if not self._say() or _now() >= self._until:
                return

    def _word(self) -> Evidence:
        reading = self.view.reading()
        self.metrics.other_ready_endpoints.set(reading.others)
        lonely_here = self.node_matters and bool(self.me.node) and reading.others_on_node == 0
        since = self._told.since if reading.state is self._told.state else _now()
        return Evidence(
            reading.state,
            since,
            terminating=reading.terminating,
            alone=bool(reading.slices) and (reading.others == 0 or lonely_here),
            sole=bool(reading.slices) and reading.others == 0,
            stuck=reading.stuck,
            coming=reading.coming > 0,
        )

    def _say(self) -> bool:
        """Tell what is new; return whether more is worth knowing."""
        word = self._word()
        if word != self._told:
            self._told = word
            self._tell(word)
        never_flips = word.state is Routability.UNKNOWN and word.terminating
        if word.state is not Routability.GONE and not never_flips:
            return True
        # Another pod that becomes ready takes over: then nobody need be sent here. A row that was not ready
        # before has yet to say that the pod terminates.
        return self.peers_matter and word.sole


class _Answered(Exception):
    """What was asked is known."""


def _now() -> float:
    return asyncio.get_running_loop().time()
