"""Which pods have left, and what is known of the end of each: facts from several places become one record.

Pure. Facts come in any order and more than once; the record of a pod only grows. Written by follow.py, judged
by verdict.py.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from drainproxy import podspec
from drainproxy.fleet import reports, workloads
from drainproxy.fleet.reports import Report
from drainproxy.kube.events import REPORT_ANNOTATION

Thing = Mapping[str, Any]

MAX_DEPARTURES = 2_000
MAX_WORDS_CHARS = 300
SIDECAR_CONTROLLER = "drainproxy.io/sidecar"
KILLED = 137
"""128 and SIGKILL."""

_DELETED = re.compile(r"(?:Deleted pod: |delete Pod )([a-z0-9.-]+)")
"""What the controllers of ReplicaSets, DaemonSets and StatefulSets say of a pod that they have deleted."""
_STOPPED = "Stopping container "
"""What the kubelet says (reason Killing) of a pod that ends; otherwise of one that restarts."""


@dataclass(slots=True)
class Departure:
    """One pod that leaves or has left, or one restart of its sidecar."""

    pod: str
    uid: str = ""
    node: str = ""
    began: datetime | None = None
    ended: datetime | None = None
    gone: bool = False
    restart: bool = False
    """Only its sidecar has ended: the pod is still there."""
    spec: Thing | None = None
    report: Report | None = None
    source: str = ""
    """Where the report was found."""
    incomplete: str = ""
    """What an Event says of a drain that has lost something, where its numbers are not known."""
    killed: dict[str, str] = field(default_factory=dict)
    """Container -> why it did not end by itself."""
    hooks: list[str] = field(default_factory=list)
    """What the kubelet says of preStop hooks that have failed."""
    probes_failed: int = 0
    evicted: str = ""

    @property
    def sidecar(self) -> Thing | None:
        """Our container, where the pod's spec is known and has one."""
        return None if self.spec is None else podspec.sidecar(self.spec)[0]

    @property
    def bare(self) -> bool:
        """Tell whether it is known that nothing of ours ran in it."""
        return self.report is None and self.spec is not None and self.sidecar is None

    @property
    def took_s(self) -> float | None:
        """How long it took to leave."""
        if self.report is not None:
            return reports.seconds(self.report)
        if self.began is None or self.ended is None:
            return None
        return max(0.0, (self.ended - self.began).total_seconds())

    def tell(self, report: Report | None, source: str) -> None:
        """Take a report; the first one found stays."""
        if report is not None and self.report is None:
            self.report, self.source = report, source


class Departures:
    """Those of one workload. Times before `since` are another rollout's."""

    def __init__(self, workload: str, since: datetime) -> None:
        self.workload = workload
        self.since = since
        self.replica_sets: dict[str, Thing] = {}
        """Name -> the template of its pods."""
        self.dropped = 0
        self.any_pod: Thing | None = None
        """The spec of a pod that was seen."""
        self._all: list[Departure] = []

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Departure]:
        return iter(sorted(self._all, key=_when))

    @property
    def leaving(self) -> list[Departure]:
        """Those that are not gone yet."""
        return [each for each in self._all if not each.gone and not each.restart]

    # Facts.

    def pod(self, thing: Thing, *, deleted: bool = False, now: datetime) -> Departure | None:
        """Take a Pod as it is, or was when it was `deleted`; return its departure, if it leaves."""
        metadata, status = thing["metadata"], thing.get("status") or {}
        self.any_pod = thing["spec"]
        statuses = _container_statuses(status)
        leaves = deleted or "deletionTimestamp" in metadata or status.get("phase") in {"Failed", "Succeeded"}
        ours, _ = podspec.sidecar(thing["spec"])
        if not leaves:
            self._restarts(thing, statuses, ours)
            return None
        ended = max((at for each in statuses if (at := _ended(each)) is not None), default=None)
        over = status.get("phase") in {"Failed", "Succeeded"}
        if over and not deleted and (ended is None or ended < self.since):
            return None
        found = self._of(metadata["name"], str(metadata.get("uid", "")))
        if found is None:
            return None
        found.node = str(thing["spec"].get("nodeName") or found.node)
        found.spec = thing["spec"]
        found.began = _deleted_at(metadata) or found.began
        found.gone = found.gone or deleted or over
        found.ended = ended or found.ended or (now if found.gone else None)
        if status.get("reason") in {"Evicted", "Terminated", "NodeShutdown"}:
            found.evicted = f"{status['reason']}: {status.get('message', '')}"[:MAX_WORDS_CHARS]
        for each in statuses:
            self._container(found, each, ours)
        return found

    def replica_set(self, thing: Thing) -> None:
        """Take one of the workload's ReplicaSets: the pods of a name like its own were made by it."""
        self.replica_sets[str(thing["metadata"]["name"])] = thing["spec"].get("template") or {}

    def absent(self, there: set[str], now: datetime) -> None:
        """Take that of all pods only these, by UID, are still there."""
        for each in self.leaving:
            if each.uid and each.uid not in there:
                each.gone = True
                each.ended = each.ended or now

    def event(self, thing: Thing) -> None:
        """Take an Event of events.k8s.io/v1 that is about a pod of the workload's, or about who owns it."""
        at = _event_time(thing)
        if at is not None and at < self.since:
            return
        about, note = thing.get("regarding") or {}, str(thing.get("note", ""))
        pod, uid = str(about.get("name", "")), str(about.get("uid", ""))
        if about.get("kind") != "Pod":
            mine = pod == self.workload or pod in self.replica_sets
            if mine and thing.get("reason") == "SuccessfulDelete" and (named := _DELETED.search(note)):
                self._told(named[1], "", at)
        elif workloads.is_pod_of(self.workload, pod, self.replica_sets):
            if thing.get("reportingController") == SIDECAR_CONTROLLER:
                self._own_event(thing, pod, uid, note)
            else:
                self._kubelets_event(str(thing.get("reason", "")), pod, uid, note, at)

    def _told(self, pod: str, uid: str, at: datetime | None) -> None:
        """Take that a pod was told to end."""
        if (found := self._of(pod, uid)) is not None:
            found.began = found.began or at

    def _kubelets_event(self, reason: str, pod: str, uid: str, note: str, at: datetime | None) -> None:
        stops = reason == "Killing" and note.startswith(_STOPPED)
        found = self._of(pod, uid, new=stops or reason == "Evicted")
        if found is None:
            return
        if stops:
            found.began = found.began or at
        if reason == "FailedPreStopHook":
            found.hooks.append(note[:MAX_WORDS_CHARS])
        elif reason == "Unhealthy" and "Readiness probe failed" in note:
            found.probes_failed += 1
        elif reason == "Evicted":
            found.evicted = note[:MAX_WORDS_CHARS]

    def template(self, each: Departure) -> Thing | None:
        """Return the template that a pod was made from, where its ReplicaSet is still there."""
        return self.replica_sets.get(each.pod.rpartition("-")[0])

    # How they are put together.

    def _own_event(self, thing: Thing, pod: str, uid: str, note: str) -> None:
        found = self._of(pod, uid)
        if found is None:
            return
        said = ((thing.get("metadata") or {}).get("annotations") or {}).get(REPORT_ANNOTATION, "")
        found.tell(reports.of_message(said), "Event")
        if thing.get("reason") == "DrainIncomplete":
            found.incomplete = note[:MAX_WORDS_CHARS]

    def _of(self, pod: str, uid: str, *, new: bool = True) -> Departure | None:
        """Return the record of a pod, a new one if need be; None where there are too many.

        Who only knows a name means the newest of that name: a StatefulSet's pods have the same again.
        """
        same = [each for each in self._all if each.pod == pod and not each.restart]
        for each in same:
            if not uid or not each.uid or each.uid == uid:
                each.uid = each.uid or uid
                return each
        if not new:
            return None
        return self._add(Departure(pod, uid))

    def _add(self, made: Departure) -> Departure | None:
        if len(self._all) >= MAX_DEPARTURES:
            self.dropped += 1
            return None
        self._all.append(made)
        return made

    def _restarts(self, thing: Thing, statuses: Iterable[Thing], ours: Thing | None) -> None:
        """Take the report of a sidecar that has ended while its pod stays."""
        name = None if ours is None else ours["name"]
        last = next((each.get("lastState") or {} for each in statuses if each.get("name") == name), {})
        ended = last.get("terminated") or {}
        at = _time(ended.get("finishedAt"))
        if ours is None or at is None or at < self.since:
            return
        metadata = thing["metadata"]
        uid = str(metadata.get("uid", ""))
        for each in self._all:
            if each.restart and each.uid == uid and each.ended == at:
                return
        made = Departure(metadata["name"], uid, gone=True, restart=True, ended=at, spec=thing["spec"])
        made.node = str(thing["spec"].get("nodeName") or "")
        made.tell(reports.of_message(ended.get("message") or ""), "termination message")
        if why := _killed(ended):
            made.killed[ours["name"]] = why
        self._add(made)

    def _container(self, found: Departure, each: Thing, ours: Thing | None) -> None:
        state = (each.get("state") or {}).get("terminated") or {}
        if why := _killed(state):
            found.killed[str(each["name"])] = why
        if ours is not None and each.get("name") == ours["name"]:
            found.tell(reports.of_message(state.get("message") or ""), "termination message")


def _container_statuses(status: Thing) -> list[Thing]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _killed(terminated: Thing) -> str:
    if terminated.get("reason") == "OOMKilled":
        return "it ran out of memory"
    return "SIGKILL ended it" if terminated.get("exitCode") == KILLED else ""


def _ended(status: Thing) -> datetime | None:
    return _time(((status.get("state") or {}).get("terminated") or {}).get("finishedAt"))


def _deleted_at(metadata: Thing) -> datetime | None:
    """Return when a pod was told to end: its deletionTimestamp is when it has to be gone."""
    until = _time(metadata.get("deletionTimestamp"))
    grace_s = metadata.get("deletionGracePeriodSeconds") or 0
    return None if until is None else until - timedelta(seconds=grace_s)


def _event_time(thing: Thing) -> datetime | None:
    series = thing.get("series") or {}
    for said in (
        series.get("lastObservedTime"),
        thing.get("eventTime"),
        thing.get("deprecatedLastTimestamp"),
        (thing.get("metadata") or {}).get("creationTimestamp"),
    ):
        if (at := _time(said)) is not None:
            return at
    return None


def _time(text: Any) -> datetime | None:
    """Return a moment as objects carry it (RFC 3339, UTC)."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _when(each: Departure) -> tuple[datetime, str]:
    return each.began or each.ended or datetime.max.replace(tzinfo=UTC), each.pod


def as_json(each: Departure) -> dict[str, Any]:
    """Return a record for machines."""
    plain = json.loads(json.dumps(each.report)) if each.report is not None else None
    return {
        "pod": each.pod,
        "uid": each.uid,
        "node": each.node,
        "began": None if each.began is None else each.began.isoformat(),
        "took_s": each.took_s,
        "gone": each.gone,
        "restart": each.restart,
        "sidecar": None if each.spec is None else each.sidecar is not None,
        "report": plain,
        "source": each.source or None,
        "killed": each.killed,
        "hooks_failed": each.hooks,
        "evicted": each.evicted or None,
    }
