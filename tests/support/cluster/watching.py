"""One watch: a stream of events, in the manner a fault may have asked for."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.support.cluster.faults import MANNER, Manner
from tests.support.cluster.status import status_object
from tests.support.cluster.store import Change, Object, Store, TooOld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.resources import Target
    from tests.support.cluster.selectors import Chosen

DEFAULT_TIMEOUT_S = 1800
_BEFORE_THE_END_S = 0.5
"""A bookmark comes this long before a watch times out (the real one: 2 s)."""


class Watch:
    """`stream` runs it to its end."""

    def __init__(
        self,
        store: Store,
        target: Target,
        chosen: Chosen,
        query: dict[str, str],
        *,
        bookmark_every_s: float,
        sent: Callable[[], None],
    ) -> None:
        self._store = store
        self._resource = target.resource
        self._namespace = target.namespace
        self._chosen = chosen
        self._since = query.get("resourceVersion", "")
        self._timeout_s = float(query.get("timeoutSeconds") or DEFAULT_TIMEOUT_S)
        self._initial = query.get("sendInitialEvents") == "true"
        self._bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self._bookmark_every_s = bookmark_every_s
        self._sent = sent
        self._count = 0

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send events until the time the client asked for is over, or it is gone."""
        self._manner = request.get(MANNER) or Manner()
        self._transport = request.transport
        self._response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await self._response.prepare(request)
        if not self._manner.empty:
            try:
                await self._until_the_end()
            except TooOld:
                await self._error()
            except _Cut:
                assert self._transport is not None
                self._transport.abort()
        return self._response

    async def _until_the_end(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout_s
        version = await self._first()
        last_bookmark_at = end - _BEFORE_THE_END_S
        bookmark_at = min(loop.time() + self._bookmark_every_s, last_bookmark_at)
        while loop.time() < end:
            self._look_at_manner()
            for change in self._store.since(version):
                version = change.version
                await self._tell(change)
            try:
                async with asyncio.timeout_at(min(end, bookmark_at)):
                    await self._store.changes(version)
            except TimeoutError:
                if bookmark_at < end:
                    await self._bookmark(version)
                again_at = loop.time() + self._bookmark_every_s
                bookmark_at = min(again_at, last_bookmark_at) if loop.time() < last_bookmark_at else end

    async def _first(self) -> int:
        """Send what exists, where no version was named; return the version from which to go on."""
        if self._since not in ("", "0"):
            version = int(self._since)
            self._store.since(version)
            return version
        version, objects = self._store.list(self._resource, self._namespace, cached=self._since == "0")
        for thing in filter(self._chosen, objects):
            await self._send("ADDED", thing)
        if self._initial:
            await self._bookmark(version, {"k8s.io/initial-events-end": "true"})
        return version

    async def _tell(self, change: Change) -> None:
        for kind, thing in self._meaning(change):
            await self._send(kind, thing)
            if self._manner.echo and change.before is not None:
                await self._send("MODIFIED", change.before)

    def _meaning(self, change: Change) -> Iterator[tuple[str, Object]]:
        """What the change is to this watch: an object that no longer fits the selector was deleted."""
        if change.resource is not self._resource:
            return
        thing = change.after or change.before
        assert thing is not None
        if self._namespace not in (None, thing["metadata"].get("namespace")):
            return
        was = change.before is not None and self._chosen(change.before)
        now = change.after is not None and self._chosen(change.after)
        if now:
            yield ("MODIFIED" if was else "ADDED"), thing
        elif was:
            yield "DELETED", thing

    async def _bookmark(self, version: int, said: dict[str, str] | None = None) -> None:
        """Say how far it is; `said`: with these annotations (Kubernetes: API concepts, streaming lists)."""
        if self._bookmarks:
            metadata = {"resourceVersion": str(version), "creationTimestamp": None, "annotations": said}
            await self._write("BOOKMARK", self._typed({"metadata": metadata}))

    async def _send(self, kind: str, thing: Object) -> None:
        await self._write(kind, self._typed(thing))
        self._count += 1
        self._sent()
        self._look_at_manner()

    def _look_at_manner(self) -> None:
        if self._manner.expired_after is not None and self._count >= self._manner.expired_after:
            raise TooOld
        if self._manner.cut_after is not None and self._count >= self._manner.cut_after:
            raise _Cut

    async def _error(self) -> None:
        await self._write("ERROR", status_object(410, "Expired", f"too old resource version: {self._since}"))

    async def _write(self, kind: str, thing: Object) -> None:
        line = json.dumps({"type": kind, "object": thing}, separators=(",", ":")).encode() + b"\n"
        if self._manner.torn and self._manner.cut_after == self._count + 1:
            line = line[: len(line) // 2]
        await self._response.write(line)

    def _typed(self, thing: Object) -> dict[str, Any]:
        return {"kind": self._resource.kind, "apiVersion": self._resource.api_version, **thing}


class _Cut(Exception):
    """The connection is to end here."""
