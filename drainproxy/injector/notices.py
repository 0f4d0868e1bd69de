"""What the cluster shows of injection: Events on the owners of pods, and how many pods have the sidecar.

Beside the reviews, none of which it holds up: what does not fit into the queue, or cannot be sent, is
dropped and counted. Without credentials there are warnings, the log and the metrics alone. Called by
server.py.
"""

import asyncio
import contextlib
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.injector.annotations import INJECTED_LABEL, LABEL
from drainproxy.injector.notice import Notice, Reference
from drainproxy.injector.pod_checks import Around
from drainproxy.kube.client import Api, connect
from drainproxy.kube.events import event_about
from drainproxy.kube.namespaces import Namespaces
from drainproxy.kube.owners import controller, label, stays
from drainproxy.kube.rate_limit import RateLimit
from drainproxy.kube.settings import KubeSettings
from drainproxy.log import Log
from drainproxy.metrics import WebhookMetrics

MAX_QUEUED = 64
MAX_REMEMBERED = 1024
AGAIN_S = 600.0
"""What an owner was told is not told again for so long: its pods are alike."""
COUNT_EVERY_S = 120.0
VERSION_S = 5.0
"""Before the first review is answered."""

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""Of an object (Kubernetes: Object Names and IDs, DNS subdomain names)."""


@dataclass(eq=False)
class Notices:
    """`tell` from the event loop's thread; `run` by one task."""

    settings: KubeSettings
    metrics: WebhookMetrics
    log: Log
    instance: str
    """Who tells: the webhook's pod."""
    _queue: asyncio.Queue[Notice] = field(default_factory=lambda: asyncio.Queue(MAX_QUEUED), init=False)
    _told: OrderedDict[tuple[str, str, str], float] = field(default_factory=OrderedDict, init=False)
    _owners: OrderedDict[str, Reference] = field(default_factory=OrderedDict, init=False)
    _pace: RateLimit = field(default_factory=RateLimit, init=False)

    def __post_init__(self) -> None:
        self.namespaces = Namespaces(self.settings, self.metrics, self._complain)

    def around(self, namespace: str) -> Around:
        """Return what is known of the pods of a namespace, without asking."""
        found = self.namespaces.get(namespace)
        return Around() if found is None else Around(found.labels, (), found.annotations)

    async def looked(self) -> None:
        """Wait until namespaces are known, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(VERSION_S):
                await self.namespaces.looked.wait()

    def tell(self, notice: Notice) -> None:
        """Queue an Event, unless its owner was told the same a short while ago.

        Both names become parts of a path, and whoever reaches the webhook may have written them.
        """
        if not (NAME.fullmatch(notice.namespace) and NAME.fullmatch(str(notice.owner.get("name")))):
            return
        key = str(notice.owner.get("uid")), notice.reason, notice.note
        now = asyncio.get_running_loop().time()
        if now - self._told.get(key, -AGAIN_S) < AGAIN_S:
            return
        try:
            self._queue.put_nowait(notice)
        except asyncio.QueueFull:
            self.metrics.kubernetes_events_dropped.inc()
            return
        _remember(self._told, key, now)

    async def version(self) -> tuple[int, int] | None:
        """Ask for the cluster's version, once and not for long; None where it is not told."""
        try:
            async with asyncio.timeout(VERSION_S), connect(self.settings, self.metrics) as api:
                return await api.get("/version", _version)
        except KubernetesError as error:
            self._complain("version", error)
        except TimeoutError:
            self._complain("version", KubernetesError(f"no answer within {VERSION_S:g}s", reason="timeout"))
        return None

    async def run(self) -> None:
        """Send what is queued, and count pods now and then, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            async with connect(self.settings, self.metrics) as api:
                due = loop.time()
                while True:
                    try:
                        async with asyncio.timeout_at(due):
                            notice = await self._queue.get()
                    except TimeoutError:
                        await self._count(api)
                        due = loop.time() + COUNT_EVERY_S
                    else:
                        await self._send(api, notice)
        except KubernetesError as error:
            # There is no way to the cluster at all: a file is missing, and will be.
            self._complain("credentials", error)

    async def _send(self, api: Api, notice: Notice) -> None:
        await self._pace.turn()
        try:
            regarding = await self._top(api, notice)
            body = event_about(
                {**regarding, "namespace": notice.namespace},
                reason=notice.reason,
                note=notice.note,
                kind="Warning" if notice.warning else "Normal",
                action="Inject",
                reporter=("drainproxy.io/webhook", self.instance),
            )
            await api.create(
                f"/apis/events.k8s.io/v1/namespaces/{notice.namespace}/events", body, lambda _: None
            )
            self._pace.worked()
        except KubernetesError as error:
            self._pace.failed(error.retry_after_s)
            self.metrics.kubernetes_events_dropped.inc()
            self._complain("events", error)

    async def _top(self, api: Api, notice: Notice) -> Reference:
        """Return who people know: of a ReplicaSet its Deployment, where that may be asked."""
        owner = notice.owner
        if owner.get("kind") != "ReplicaSet":
            return _reference(owner)
        uid = str(owner.get("uid"))
        if uid not in self._owners:
            path = f"/apis/apps/v1/namespaces/{notice.namespace}/replicasets/{owner.get('name')}"
            try:
                above = await api.get(path, controller)
            except KubernetesError as error:
                if error.reason not in {"denied", "absent"}:
                    raise
                above = None
            _remember(self._owners, uid, _reference(above or owner))
        return self._owners[uid]

    async def _count(self, api: Api) -> None:
        """Count the pods that ask for the sidecar, by their own label or their namespace's."""
        found = {"with": 0, "without": 0}

        def take(pod: dict[str, Any]) -> None:
            if stays(pod):
                found["with" if label(pod, INJECTED_LABEL) == "true" else "without"] += 1

        namespaces = self.namespaces.labelled(LABEL, "true")
        if namespaces is None:
            # Without them half would be counted, and read as all; who asks for them has said why.
            return
        try:
            await api.list("/api/v1/pods", {"labelSelector": f"{LABEL}=true"}, take)
            for name in namespaces:
                await api.list(f"/api/v1/namespaces/{name}/pods", {"labelSelector": f"!{LABEL}"}, take)
        except KubernetesError as error:
            self._complain("pods", error)
            return
        for sidecar, count in found.items():
            self.metrics.webhook_pods.set(count, sidecar)

    def _complain(self, what: str, error: KubernetesError) -> None:
        self.log.condition("kubernetes_api", what, "warning", asked=what, reason=error.reason, why=str(error))


def _version(said: dict[str, Any]) -> tuple[int, int]:
    # Some clouds write 32+.
    return int(said["major"]), int(str(said["minor"]).rstrip("+"))


def _reference(owner: Reference) -> Reference:
    """Return what an Event says of its object."""
    return {name: str(owner.get(name) or "") for name in ("apiVersion", "kind", "name", "uid")}


def _remember(memory: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > MAX_REMEMBERED:
        memory.popitem(last=False)
