"""What namespaces say of the pods in them: labels and annotations, kept at hand by one list and a watch.

Nobody waits for an answer here: what is not known yet, or may not be read, is unknown. What was known stays
while the API server is not there. Called by the webhook.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drainproxy.errors import KubernetesError
from drainproxy.kube.client import Api, connect
from drainproxy.kube.rate_limit import RateLimit
from drainproxy.kube.settings import KubeSettings
from drainproxy.metrics import WebhookMetrics

PATH = "/api/v1/namespaces"
WATCH_S = 300.0
MAX_KNOWN = 20_000
"""Twice what a cluster is tested with (Kubernetes: scalability thresholds)."""
MAX_VALUE_CHARS = 1024
PREFIXES = ("drainproxy.io/", "pod-security.kubernetes.io/", "istio-injection", "istio.io/")
MESH_ANNOTATIONS = ("drainproxy.io/", "linkerd.io/", "config.linkerd.io/", "config.alpha.linkerd.io/")


@dataclass(frozen=True, slots=True)
class Said:
    """What one namespace says, as far as anybody here asks for it."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def said(namespace: Mapping[str, Any]) -> Said:
    """Return what a namespace says: annotations may have any size, and few of them matter."""
    metadata = namespace["metadata"]
    return Said(_kept(metadata.get("labels"), PREFIXES), _kept(metadata.get("annotations"), MESH_ANNOTATIONS))


def _kept(words: Mapping[str, str] | None, prefixes: tuple[str, ...]) -> dict[str, str]:
    return {
        name: value
        for name, value in (words or {}).items()
        if name.startswith(prefixes) and len(value) <= MAX_VALUE_CHARS
    }


@dataclass(eq=False)
class Namespaces:
    """`get` from the event loop's thread; `run` by one task."""

    settings: KubeSettings
    metrics: WebhookMetrics
    complain: Callable[[str, KubernetesError], None]
    looked: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set once it is known what can be known, or that nothing can."""
    _known: dict[str, Said] = field(default_factory=dict, init=False)
    _listed: bool = field(default=False, init=False)
    _pace: RateLimit = field(default_factory=RateLimit, init=False)

    def get(self, name: str) -> Said | None:
        """Return what a namespace says; None where nobody knows."""
        return self._known.get(name)

    def labelled(self, name: str, value: str) -> list[str] | None:
        """Return the namespaces with a label, one of PREFIXES; None where they could not be listed yet."""
        if not self._listed:
            return None
        return [namespace for namespace, said in self._known.items() if said.labels.get(name) == value]

    async def run(self) -> None:
        """List, and follow, until cancelled."""
        try:
            async with connect(self.settings, self.metrics) as api:
                while True:
                    await self._follow(api)
        except KubernetesError as error:
            # There is no way to the cluster at all.
            self.complain("credentials", error)
        finally:
            self.looked.set()

    async def _follow(self, api: Api) -> None:
        """List once, and watch from there until the server has forgotten where that was."""
        try:
            version = await self._list(api)
            self.looked.set()
            while True:
                version = await self._watch(api, version)
        except KubernetesError as error:
            self.looked.set()
            if error.reason != "gone":
                self.complain("namespaces", error)
            self._pace.failed(error.retry_after_s)

    async def _list(self, api: Api) -> str:
        found: dict[str, Said] = {}

        def take(namespace: dict[str, Any]) -> None:
            if len(found) < MAX_KNOWN:
                found[str(namespace["metadata"]["name"])] = said(namespace)

        await self._pace.turn()
        metadata = await api.list(PATH, {}, take)
        self._known, self._listed = found, True
        return str(metadata["resourceVersion"])

    async def _watch(self, api: Api, version: str) -> str:
        """Follow one watch to its end; return the version to go on from. Raises KubernetesError."""
        seen = version

        def take(kind: str, namespace: dict[str, Any]) -> None:
            nonlocal seen
            name, seen = str(namespace["metadata"].get("name")), str(namespace["metadata"]["resourceVersion"])
            if kind == "DELETED":
                self._known.pop(name, None)
            elif kind in {"ADDED", "MODIFIED"} and (name in self._known or len(self._known) < MAX_KNOWN):
                self._known[name] = said(namespace)

        await self._pace.turn()
        await api.watch(PATH, {"resourceVersion": version}, WATCH_S, take)
        if seen == version:
            # Empty answers in a loop would be asked for in a loop.
            self._pace.failed()
        else:
            self._pace.worked()
        return seen
