"""A Deployment: its object, its ReplicaSets, and rollouts that replace every pod, new ones first.

It stands for the Deployment and ReplicaSet controllers, and writes what they write: status, ownerReferences,
pod-template-hash, and an Event for each pod that is deleted.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from tests.support.cluster.resources import DEPLOYMENTS, EVENTS, REPLICA_SETS
from tests.support.cluster.store import timestamp

if TYPE_CHECKING:
    from tests.support.kubelet.cluster import Cluster
    from tests.support.kubelet.kubelet import Pod

HASHES = ("5d4f7c9b8", "6b7d8f9c5", "7f9bd4c68", "8c5b6d7f9")


class Deployment:
    """`start` makes the first pods; `roll_out` replaces them. The manifest is the template."""

    def __init__(
        self,
        town: Cluster,
        template: dict[str, Any],
        *,
        name: str = "web",
        namespace: str = "default",
        replicas: int = 2,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.pods: list[Pod] = []
        self._town = town
        self._store = town.api.store
        self._template = template
        self._replicas = replicas
        self._uid = str(uuid.uuid4())
        self._revision = 0
        self._updated = 0
        self._sets: list[str] = []

    async def start(self) -> None:
        """Make the first pods; return when they are ready."""
        self._begin()
        for _ in range(self._replicas):
            self.pods.append(await self._run())
        self._write()

    async def roll_out(self, template: dict[str, Any] | None = None) -> None:
        """Replace every pod; return when the old ones are gone."""
        self._template = template or self._template
        old, self.pods, endings = self.pods, [], []
        before = self._sets[-1]
        self._begin(len(old))
        for leaving in old:
            self.pods.append(await self._run())
            self._updated += 1
            self._tell(before, f"Deleted pod: {leaving.name}")
            endings.append(self._town.kubelet.delete(leaving))
            self._write(len(old) - len(endings))
        await asyncio.gather(*endings)

    async def obey(self) -> None:
        """Roll out whenever somebody changes the template, as the controllers do; until cancelled."""
        while True:
            version = self._store.version
            thing = self._store.get(DEPLOYMENTS, self.namespace, self.name)
            if thing is not None and thing["spec"]["template"] != self._template:
                await self.roll_out(thing["spec"]["template"])
            await self._store.changes(version)

    # What the controllers write.

    def _begin(self, old: int = 0) -> None:
        self._revision += 1
        self._updated = self._replicas if not old else 0
        self._sets.append(f"{self.name}-{HASHES[self._revision - 1]}")
        self._store.put(
            REPLICA_SETS,
            {
                "metadata": {
                    "name": self._sets[-1],
                    "namespace": self.namespace,
                    "labels": self._labels(),
                    "ownerReferences": [
                        {"kind": "Deployment", "name": self.name, "uid": self._uid, "controller": True}
                    ],
                },
                "spec": {"template": self._template},
            },
        )
        self._write(old)

    def _write(self, old: int = 0) -> None:
        new = self._updated
        self._store.put(
            DEPLOYMENTS,
            {
                "metadata": {
                    "name": self.name,
                    "namespace": self.namespace,
                    "uid": self._uid,
                    "generation": self._revision,
                },
                "spec": {
                    "replicas": self._replicas,
                    "selector": {"matchLabels": self._template["metadata"]["labels"]},
                    "template": self._template,
                },
                "status": {
                    "observedGeneration": self._revision,
                    "replicas": new + old,
                    "updatedReplicas": new,
                    "availableReplicas": len(self.pods) + old,
                },
            },
        )

    def _labels(self) -> dict[str, str]:
        return {
            **self._template["metadata"]["labels"],
            "pod-template-hash": self._sets[-1].rpartition("-")[2],
        }

    async def _run(self) -> Pod:
        owner = {"kind": "ReplicaSet", "name": self._sets[-1], "controller": True}
        metadata = {
            **self._template["metadata"],
            "name": self._sets[-1],
            "namespace": self.namespace,
            "labels": self._labels(),
            "ownerReferences": [owner],
        }
        return await self._town.run({**self._template, "metadata": metadata})

    def _tell(self, replica_set: str, note: str) -> None:
        self._store.put(
            EVENTS,
            {
                "metadata": {"name": f"{replica_set}.{uuid.uuid4().hex[:16]}", "namespace": self.namespace},
                "eventTime": None,
                "deprecatedLastTimestamp": timestamp(),
                "reason": "SuccessfulDelete",
                "note": note,
                "regarding": {"kind": "ReplicaSet", "name": replica_set, "namespace": self.namespace},
            },
        )
