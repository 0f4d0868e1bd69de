"""The objects and their history: what etcd and the API server's watch cache hold.

One version counter for everything, as in etcd. Written by the test, its controllers, and POST.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.cluster.resources import Resource

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace (empty for what has none) and name."""


class TooOld(Exception):
    """What was asked about has been forgotten: 410."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write: `before` is None for an object that is new, `after` for one that is gone."""

    version: int
    resource: Resource
    before: Object | None
    after: Object | None


class Store:
    """Objects are never changed in place: whoever holds one holds what it was."""

    def __init__(self) -> None:
        self.version = 100
        self.oldest = 100
        """From here on the history is whole."""
        self.history: list[Change] = []
        self._objects: dict[Resource, dict[Key, Object]] = {}
        self._snapshots: dict[tuple[Resource, int], list[Object]] = {}
        self._cache: dict[Resource, dict[Key, Object]] | None = None
        self._cache_version = 0
        self._changed = asyncio.Event()

    # Writing.

    def put(self, resource: Resource, thing: Object) -> Object:
        """Create or replace an object; return it as it is stored."""
        thing = copy.deepcopy(thing)
        metadata = thing.setdefault("metadata", {})
        key = _key(metadata)
        before = self._all(resource).get(key)
        old = before["metadata"] if before else {}
        metadata["uid"] = old.get("uid") or metadata.get("uid") or str(uuid.uuid4())
        metadata["creationTimestamp"] = old.get("creationTimestamp") or timestamp()
        metadata["resourceVersion"] = str(self.version + 1)
        self._all(resource)[key] = thing
        self._note(resource, before, thing)
        return thing

    def delete(self, resource: Resource, namespace: str | None, name: str) -> None:
        """Remove an object."""
        before = self._all(resource).pop((namespace or "", name))
        metadata = {**before["metadata"], "resourceVersion": str(self.version + 1)}
        # The last state goes out with the version of its removal.
        self._note(resource, {**before, "metadata": metadata}, None)

    def compact(self) -> None:
        """Forget the history and every list that is half read."""
        self.history.clear()
        self._snapshots.clear()
        self.oldest = self.version

    def hold_cache(self) -> None:
        """From now on, "any version" (resourceVersion=0) is answered with what is known at this moment."""
        self._cache = {resource: dict(objects) for resource, objects in self._objects.items()}
        self._cache_version = self.version

    def release_cache(self) -> None:
        """Let "any version" be the newest again."""
        self._cache = None

    # Reading.

    def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """Return one object."""
        return self._all(resource).get((namespace or "", name))

    def list(self, resource: Resource, namespace: str | None, *, cached: bool) -> tuple[int, list[Object]]:
        """Return a version and the objects at it, by name; of all namespaces for None."""
        objects, version = self._all(resource), self.version
        if cached and self._cache is not None:
            objects, version = self._cache.get(resource, {}), self._cache_version
        return version, [objects[key] for key in sorted(objects) if namespace in (None, key[0])]

    def keep(self, resource: Resource, version: int, objects: list[Object]) -> None:
        """Keep a list for the pages that follow its first."""
        self._snapshots[resource, version] = objects

    def kept(self, resource: Resource, version: int) -> list[Object]:
        """Return a list that was kept. Raises TooOld."""
        try:
            return self._snapshots[resource, version]
        except KeyError:
            raise TooOld from None

    def since(self, version: int) -> list[Change]:
        """Return every change after `version`. Raises TooOld."""
        if version < self.oldest:
            raise TooOld
        return [change for change in self.history if change.version > version]

    async def changes(self, after: int) -> None:
        """Wait for a version after that one."""
        while self.version <= after:
            await self._changed.wait()

    def _all(self, resource: Resource) -> dict[Key, Object]:
        return self._objects.setdefault(resource, {})

    def _note(self, resource: Resource, before: Object | None, after: Object | None) -> None:
        self.version += 1
        self.history.append(Change(self.version, resource, before, after))
        self._changed.set()
        self._changed = asyncio.Event()


def _key(metadata: Object) -> Key:
    return metadata.get("namespace", ""), metadata["name"]


def timestamp(in_s: float = 0.0) -> str:
    """Return the time as objects carry it, in whole seconds; of now, or `in_s` later."""
    return (datetime.now(UTC) + timedelta(seconds=in_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
