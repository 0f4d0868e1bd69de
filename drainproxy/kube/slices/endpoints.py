"""EndpointSlices -> are we still being chosen, in how many slices, and who else is ready?

Pure. Holds what the last slices said of this pod and of its Services, nothing of foreign ones. An own row
that is gone says something only if it was there before: young pods and stale lists have none. Called by
watch.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from drainproxy.kube.identity import PodIdentity
from drainproxy.lifecycle.propagation import Routability

SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class OwnRow:
    """This pod's endpoint in one slice."""

    ready: bool
    terminating: bool
    stuck: bool = False
    """Ready although it is not: publishNotReadyAddresses. It will not flip before the pod is gone."""


@dataclass(frozen=True, slots=True)
class SliceFacts:
    """What matters of one slice. `version` is 0 where it cannot be compared."""

    name: str
    service: str
    family: str
    version: int
    own: tuple[OwnRow, ...]
    others: int
    """Endpoints of other pods that are ready."""
    others_on_node: int
    coming: int = 0
    """Endpoints of other pods that are not ready and not terminating."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What all slices say together."""

    state: Routability
    terminating: bool
    slices: int
    """With a row of ours."""
    rows: int
    """Of ours, in all of them."""
    flipped: int
    """Rows of ours that read not ready."""
    others: int
    """Other ready endpoints in the Service of ours that has the fewest."""
    others_on_node: int
    stuck: bool
    """A row of ours says nothing (publishNotReadyAddresses)."""
    coming: int = 0
    """Other endpoints of our Services that may yet become ready."""


def version_of(metadata: Any) -> int:
    """Return a resourceVersion as a number: comparable since Kubernetes 1.35 (KEP-5504), 0 if it is none."""
    version = str(metadata.get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0


def read(thing: dict[str, Any], me: PodIdentity) -> SliceFacts:
    """Return what a slice says (discovery.k8s.io/v1). Raises KeyError, TypeError or the like on nonsense."""
    metadata = thing["metadata"]
    own, others, near, coming = [], 0, 0, 0
    for endpoint in thing.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        # "A nil value should be interpreted as true" (EndpointConditions).
        ready = conditions.get("ready") is not False
        terminating = conditions.get("terminating") is True
        if me.is_target(endpoint.get("targetRef") or {}):
            own.append(OwnRow(ready, terminating, stuck=ready and not serves(conditions)))
        elif serves(conditions):
            others += 1
            near += bool(me.node) and endpoint.get("nodeName") == me.node
        elif not terminating:
            coming += 1
    return SliceFacts(
        name=str(metadata["name"]),
        service=str((metadata.get("labels") or {}).get(SERVICE_LABEL, "")),
        family=str(thing.get("addressType", "")),
        version=version_of(metadata),
        own=tuple(own),
        others=others,
        others_on_node=near,
        coming=coming,
    )


def serves(conditions: Mapping[str, Any]) -> bool:
    """Tell whether a row is one of a pod that takes requests: with publishNotReadyAddresses each is ready."""
    known = [conditions.get(name) is not False for name in ("ready", "serving")]
    return all(known) and conditions.get("terminating") is not True


class View:
    """What the cluster last said. Written by watch.py."""

    def __init__(self) -> None:
        self._slices: dict[str, SliceFacts] = {}
        self._groups: set[tuple[str, str]] = set()
        """Service and address family of each slice that ever had a row of ours."""
        self._seen_at = 0
        """The newest version with a row of ours."""

    @property
    def seen(self) -> bool:
        """An own row was seen in this process."""
        return bool(self._groups)

    @property
    def services(self) -> set[str]:
        """Services that choose, or chose, this pod."""
        return {service for service, _ in self._groups}

    @property
    def own_slices(self) -> list[str]:
        """Names of the slices with a row of ours."""
        return [each.name for each in self._slices.values() if each.own]

    def replace(self, slices: Iterable[SliceFacts], version: int) -> None:
        """Take a whole list."""
        found = {each.name: each for each in slices}
        if version < self._seen_at and not any(each.own for each in found.values()):
            # Another API server's cache, behind the one that showed our row.
            return
        self._slices = found
        self._notice(version)

    def put(self, facts: SliceFacts) -> None:
        """Take one slice, if it is not older than what is known of it."""
        known = self._slices.get(facts.name)
        if known is None or facts.version >= known.version:
            self._slices[facts.name] = facts
            self._notice(facts.version)

    def drop(self, name: str) -> None:
        """A slice was deleted."""
        self._slices.pop(name, None)

    def reading(self) -> Reading:
        """Say what all of it means."""
        rows = [row for each in self._slices.values() for row in each.own]
        # A Service that chooses this pod no more waits for nobody here.
        choosing = {(each.service, each.family) for each in self._slices.values() if each.own}
        others = dict.fromkeys(choosing or self._groups, 0)
        near = dict(others)
        for each in self._slices.values():
            if (group := (each.service, each.family)) in others:
                others[group] += each.others
                near[group] += each.others_on_node
        return Reading(
            state=self._state(rows),
            terminating=any(row.terminating for row in rows),
            slices=len(self.own_slices),
            rows=len(rows),
            flipped=sum(not row.ready for row in rows),
            others=min(others.values(), default=0),
            others_on_node=min(near.values(), default=0),
            stuck=any(row.stuck for row in rows),
            coming=sum(each.coming for each in self._slices.values()),
        )

    def _state(self, rows: list[OwnRow]) -> Routability:
        if not rows:
            return Routability.GONE if self.seen else Routability.UNKNOWN
        telling = [row.ready for row in rows if not row.stuck]
        if not telling:
            return Routability.UNKNOWN
        return Routability.ROUTABLE if any(telling) else Routability.GONE

    def _notice(self, version: int) -> None:
        self._groups |= {(each.service, each.family) for each in self._slices.values() if each.own}
        if any(each.own for each in self._slices.values()):
            self._seen_at = max(self._seen_at, version)
        # Slices of foreign Services were kept only until it was known whose they are.
        self._slices = {
            name: each for name, each in self._slices.items() if (each.service, each.family) in self._groups
        }
