"""The pod's deletion cost: seldom written, only on a change of class, and never in the way of anything."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from drainproxy.kube import pod_cost
from drainproxy.kube.cluster import Cluster
from drainproxy.kube.permissions import POD_COST
from drainproxy.kube.pod_cost import ANNOTATION, COSTS, INTERVAL_S, LONG_S, LOOK_S, SPREAD, STEPS
from drainproxy.kube.settings import KubeSettings
from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.propagation import Rules
from drainproxy.lifecycle.report import Cause
from drainproxy.lifecycle.settings import LifecycleSettings
from drainproxy.tasks import TICK_S, Connections
from tests.admin.premises import Diary
from tests.kube.premises import ME, Premises, premises
from tests.kube.server import drop, fail, hang, page, say
from tests.support.clock import over_sockets
from tests.support.cluster.access import tier
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.checking import managed
from tests.support.cluster.objects import Membership
from tests.support.cluster.resources import PODS
from tests.support.cluster.server import ApiServer, merged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from drainproxy.kube.client import Api

YES, NO = say({"status": {"allowed": True}}), say({"status": {"allowed": False}})
LONGEST_S = INTERVAL_S * (1 + SPREAD) + LOOK_S + TICK_S
"""Until a change of class is written at the latest, where the API answers."""


def pod_of(kind: str = "ReplicaSet") -> dict[str, Any]:
    """Return the pod as the cluster has it."""
    owner = [{"apiVersion": "apps/v1", "kind": kind, "name": "web-1", "uid": "r", "controller": True}]
    owners = {"ownerReferences": owner} if kind else {}
    return {"metadata": {"name": ME.name, "namespace": "shop", "uid": ME.uid, **owners}, "spec": {}}


@dataclass(eq=False)
class Work:
    """Something that lasts."""

    started: float
    held_by: InFlight
    kind: str = "tunnel"
    deadline: float = math.inf

    def drain_by(self, deadline: float) -> None:
        """Nothing of this matters here."""

    def leave(self) -> None:
        """It stays."""

    def cut(self, reason: str) -> None:
        """End now."""
        self.held_by.discard(self)

    def describe(self) -> dict[str, str]:
        """Say what it is."""
        return {}


@dataclass
class Process:
    """What a sidecar has of its lifecycle and its cluster, and the pod it is in."""

    here: Premises
    pod: dict[str, Any] = field(default_factory=pod_of)
    writes: list[tuple[float, str]] = field(default_factory=list)

    def start(self, *, up: bool = True) -> None:
        """Begin, as a process does; a second time: as one that has been restarted in its container."""
        loop, lifecycle = asyncio.get_running_loop(), LifecycleSettings()
        self.log, self.inflight = Diary(), InFlight()
        self.controller = Controller(
            settings=lifecycle,
            rules=Rules(60, 60, 0, 60),
            inflight=self.inflight,
            metrics=self.here.metrics,
            log=self.log,
            loop=loop,
        )
        self.tasks = Connections(lambda name, failure: self.log.event(name, failure=repr(failure)))
        self.cluster = Cluster(
            me=ME,
            settings=replace(self.here.settings, rbac=POD_COST),
            lifecycle=lifecycle,
            controller=self.controller,
            inflight=self.inflight,
            metrics=self.here.metrics,
            log=self.log,
            tasks=self.tasks,
        )
        self.cluster.start()
        if up:
            self.controller.upstream_answers()

    def works(self, number: int) -> list[Work]:
        """Begin so many pieces of work."""
        begun = [Work(asyncio.get_running_loop().time(), self.inflight) for _ in range(number)]
        for each in begun:
            self.inflight.add(each)
        return begun

    def end(self, begun: list[Work]) -> None:
        """Let them go."""
        for each in begun:
            self.inflight.discard(each)

    @property
    def status(self) -> dict[str, Any]:
        """What /status says of it."""
        return self.cluster.status()["pod_cost"]

    @property
    def costs(self) -> list[str]:
        """What was written, in its order."""
        return [cost for _, cost in self.writes]

    def said(self) -> list[dict[str, Any]]:
        """Return what an operator reads about it."""
        return [
            line
            for line in self.log.lines
            if line.get("asked") == "pod-cost"
            or (line["event"] == "config_problem" and "patch pods" in line["problem"])
        ]

    async def get(self, _: web.BaseRequest) -> web.StreamResponse:
        """Answer as the API server."""
        return web.json_response(self.pod)

    async def patch(self, request: web.BaseRequest) -> web.StreamResponse:
        """Merge, and remember who did."""
        assert request.content_type == "application/merge-patch+json"
        change = json.loads(await request.read())
        assert change["metadata"]["uid"] == ME.uid
        self.pod = merged(self.pod, change)
        managed(self.pod, change, request.query["fieldManager"])
        self.writes.append((asyncio.get_running_loop().time(), change["metadata"]["annotations"][ANNOTATION]))
        return web.json_response(self.pod)


@contextlib.asynccontextmanager
async def process(authority, credentials, monkeypatch, *, kind: str = "ReplicaSet") -> AsyncIterator[Process]:
    """A process that may do everything, in a pod of a controller of this kind."""
    async with premises(authority, credentials, monkeypatch) as here:
        it = Process(here, pod_of(kind))
        here.server.script |= {"review": [YES], "list": [page([])], "pod": [it.get], "patch": [it.patch]}
        it.start()
        try:
            yield it
        finally:
            await it.cluster.stop()
            await it.tasks.cancel()


@over_sockets
async def test_the_class_is_written_once_and_again_only_when_it_changes(authority, credentials, monkeypatch):
    """An hour with the same WebSockets is one request that writes."""
    async with process(authority, credentials, monkeypatch) as it:
        begun = it.works(12)
        await asyncio.sleep(3600)
        assert it.costs == ["10"]
        it.end(begun[:2])
        await asyncio.sleep(3600)
        assert it.costs == ["10"]
        it.end(begun[2:5])
        await asyncio.sleep(LONGEST_S)
        assert it.costs == ["10", "1"]
        assert it.status == {"cost": 1, "written": 1, "state": "written"}
        assert it.here.requests()["patch", "ok"] == 2


@pytest.mark.parametrize(
    ("works", "cost"),
    [(0, 0), (1, 1), (9, 1), (10, 10), (99, 10), (100, 100), (999, 100), (1000, 1000), (2500, 1000)],
)
@over_sockets
async def test_each_class_has_its_cost(authority, credentials, monkeypatch, works, cost):
    """Higher for more long-lived work, an int32 that anybody may read, and 0 is what nobody has to write."""
    async with process(authority, credentials, monkeypatch) as it:
        it.works(works)
        await asyncio.sleep(LONG_S + LONGEST_S)
        assert it.costs == ([str(cost)] if cost else [])
        assert it.status == {"cost": cost, "written": cost, "state": "written"}
    assert list(COSTS) == sorted(set(COSTS))
    assert len(COSTS) == len(STEPS) + 1


@over_sockets
async def test_short_requests_cost_nothing(authority, credentials, monkeypatch):
    """However many: a drain lets them end, and whoever is idle else goes by the cluster's own order."""
    async with process(authority, credentials, monkeypatch) as it:
        until = asyncio.get_running_loop().time() + 3 * LONGEST_S
        while asyncio.get_running_loop().time() < until:
            begun = it.works(50)
            await asyncio.sleep(LONG_S / 2)
            it.end(begun)
        assert it.costs == []


@over_sockets
async def test_it_is_written_at_most_once_in_five_minutes(authority, credentials, monkeypatch):
    """Work that comes and goes all the time: the class follows no faster, and never too early."""
    async with process(authority, credentials, monkeypatch) as it:
        for number in (1, 10, 100, 1, 1000, 10) * 10:
            begun = it.works(number)
            await asyncio.sleep(100)
            it.end(begun)
        times = [at for at, _ in it.writes]
        gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert len(gaps) > 3
        assert min(gaps) >= INTERVAL_S
        assert len(set(gaps)) > 3, "pods drift apart"


@over_sockets
async def test_it_falls_only_after_five_quiet_minutes(authority, credentials, monkeypatch):
    """A pod whose caller hangs up and comes again is not idle in between."""
    async with process(authority, credentials, monkeypatch) as it:
        until = asyncio.get_running_loop().time() + 10 * LONGEST_S
        while asyncio.get_running_loop().time() < until:
            begun = it.works(1)
            await asyncio.sleep(LONG_S + LOOK_S + TICK_S)
            it.end(begun)
            await asyncio.sleep(INTERVAL_S / 2)
        assert it.costs == ["1"]
        await asyncio.sleep(INTERVAL_S + LONGEST_S)
        assert it.costs == ["1", "0"]


@over_sockets
async def test_pods_that_start_together_write_apart(authority, credentials, monkeypatch):
    """The first write of each has five minutes in which it falls anywhere."""
    firsts = []
    for _ in range(12):
        async with process(authority, credentials, monkeypatch) as it:
            began = asyncio.get_running_loop().time()
            it.works(1)
            await asyncio.sleep(LONG_S + LONGEST_S)
            firsts.append(it.writes[0][0] - began)
    assert len({round(first) for first in firsts}) > 3
    assert max(firsts) - min(firsts) > 2 * LOOK_S


@over_sockets
async def test_a_restarted_sidecar_knows_what_it_has_written(authority, credentials, monkeypatch):
    """The pod says so: nothing is written twice, and what is no longer true is taken back."""
    async with process(authority, credentials, monkeypatch) as it:
        it.works(100)
        await asyncio.sleep(LONG_S + LONGEST_S)
        await it.tasks.cancel()
        it.start()
        it.works(150)
        await asyncio.sleep(LONG_S + 3 * LONGEST_S)
        assert it.costs == ["100"]
        await it.tasks.cancel()
        it.start()
        await asyncio.sleep(3 * LONGEST_S)
        assert it.costs == ["100", "0"]
        assert it.status["written"] == 0


@pytest.mark.parametrize("value", ["0", "100", "-2147483648"])
@over_sockets
async def test_what_somebody_else_has_written_stays(authority, credentials, monkeypatch, value):
    """A template, a person, Karpenter: whoever decides already goes on deciding."""
    async with process(authority, credentials, monkeypatch) as it:
        it.pod = merged(it.pod, change := {"metadata": {"annotations": {ANNOTATION: value}}})
        managed(it.pod, change, "karpenter")
        it.works(10)
        await asyncio.sleep(4 * LONGEST_S)
        assert it.costs == []
        assert it.status["state"] == "somebody else writes it"
        assert len(it.log.of("pod_cost")) == 1


@over_sockets
async def test_who_takes_it_over_later_keeps_it(authority, credentials, monkeypatch):
    """It is looked at before each write."""
    async with process(authority, credentials, monkeypatch) as it:
        it.works(10)
        await asyncio.sleep(LONG_S + LONGEST_S)
        it.pod = merged(it.pod, change := {"metadata": {"annotations": {ANNOTATION: "7"}}})
        managed(it.pod, change, "kubectl-annotate")
        it.works(1000)
        await asyncio.sleep(4 * LONGEST_S)
        assert it.costs == ["10"]
        assert it.pod["metadata"]["annotations"][ANNOTATION] == "7"


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Job", "ReplicationController", ""])
@over_sockets
async def test_only_a_replica_sets_pod_has_a_cost(authority, credentials, monkeypatch, kind):
    """No other controller heeds it: it is said once, and nobody is troubled."""
    async with process(authority, credentials, monkeypatch, kind=kind) as it:
        it.works(10)
        await asyncio.sleep(4 * LONGEST_S)
        assert it.costs == []
        assert (kind or "nobody") in it.status["state"]
        assert len(it.log.of("pod_cost")) == 1
        assert len(it.here.server.of("pod")) == 2, "one look at start, one here"


@over_sockets
async def test_without_the_permission_there_is_one_line_and_no_attempt(authority, credentials, monkeypatch):
    """It is asked for at start, and the answer is believed for as long as the process lives."""
    async with process(authority, credentials, monkeypatch) as it:
        it.here.server.script["review"] = [*[YES] * 5, NO]
        it.works(10)
        await asyncio.sleep(10 * LONGEST_S)
        (line,) = it.said()
        assert "may not patch pods" in line["problem"]
        assert it.status["state"] == "denied"
        assert it.here.server.of("patch") == []
        assert len(it.here.server.of("pod")) == 1


@over_sockets
async def test_nothing_is_tried_before_it_was_asked_whether_it_may(authority, credentials, monkeypatch):
    """However late the answer is: it may be no."""
    look, asked = Cluster._look_through, asyncio.Event()

    async def late(cluster: Cluster, api: Api) -> None:
        await asked.wait()
        await look(cluster, api)

    monkeypatch.setattr(Cluster, "_look_through", late)
    async with process(authority, credentials, monkeypatch) as it:
        it.works(10)
        await asyncio.sleep(10 * LONGEST_S)
        assert it.here.server.of("pod") == it.here.server.of("patch") == []
        asked.set()
        await asyncio.sleep(2 * LONGEST_S)
        assert it.costs == ["10"]


@over_sockets
async def test_a_refusal_ends_it_with_one_line(authority, credentials, monkeypatch):
    """The review allowed it, and something behind the Role, as an admission policy, does not."""
    async with process(authority, credentials, monkeypatch) as it:
        it.here.server.script["patch"] = [fail(403, "only its own pods")]
        it.works(10)
        await asyncio.sleep(10 * LONGEST_S)
        (line,) = it.said()
        assert (line["event"], line["reason"]) == ("kubernetes_api", "denied")
        assert "only its own pods" in line["detail"]
        assert it.status["state"] == "denied"
        assert len(it.here.server.of("patch")) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fail(409, "the object has been modified"), "error"),
        (fail(422, "must be a 32bit integer"), "error"),
        (fail(429, "too many", Retry_After="5"), "throttled"),
        (fail(500, "etcdserver: leader changed"), "error"),
        (fail(503), "error"),
        (say([]), "malformed"),
        (hang, "timeout"),
        (drop, "unreachable"),
    ],
    ids=["409", "422", "429", "500", "503", "no pod", "hangs", "drops"],
)
@over_sockets
async def test_a_failure_is_not_repeated_before_its_time(authority, credentials, monkeypatch, answer, reason):
    """As seldom as a success, said once, and made good when the server answers again."""
    async with process(authority, credentials, monkeypatch) as it:
        it.here.server.script["patch"] = [answer]
        it.works(10)
        await asyncio.sleep(LONG_S + 6 * LONGEST_S)
        asked = [each.at for each in it.here.server.of("patch")]
        assert 4 <= len(asked) <= (LONG_S + 6 * LONGEST_S) / INTERVAL_S + 1
        assert min(later - sooner for sooner, later in itertools.pairwise(asked)) >= INTERVAL_S
        (line,) = it.said()
        assert line["reason"] == it.status["state"] == reason
        assert it.status["written"] is None
        it.here.server.script["patch"] = [it.patch]
        await asyncio.sleep(LONGEST_S)
        assert it.costs == ["10"]
        assert it.status == {"cost": 10, "written": 10, "state": "written"}


@over_sockets
async def test_retry_after_is_kept(authority, credentials, monkeypatch):
    """Where the server wants to be left alone for longer than five minutes."""
    async with process(authority, credentials, monkeypatch) as it:
        it.here.server.script["patch"] = [fail(429, Retry_After="1800"), it.patch]
        it.works(10)
        await asyncio.sleep(LONG_S + LONGEST_S + 1800 + LONGEST_S)
        refused, done = it.here.server.of("patch")
        assert done.at - refused.at >= 1800


@over_sockets
async def test_no_way_to_the_cluster_is_one_line(authority, credentials, monkeypatch):
    """A token that is gone: what cannot be asked is not asked again at once."""
    async with process(authority, credentials, monkeypatch) as it:
        await asyncio.sleep(5)
        (credentials / "token").unlink()
        it.works(10)
        await asyncio.sleep(6 * LONGEST_S)
        lines = it.log.of("kubernetes_api")
        assert [line["asked"] for line in lines] == ["connection"]
        assert it.status["written"] is None


@over_sockets
async def test_nothing_is_written_while_a_drain_runs(authority, credentials, monkeypatch):
    """Not even what was under way; a drain that is taken back goes on where it was."""
    async with process(authority, credentials, monkeypatch) as it:
        it.here.server.script["patch"] = [hang]
        it.works(10)
        await it.here.server.nth("patch")
        it.controller.terminate(Cause.MANUAL)
        it.works(1000)
        asked = len(it.here.server.of("pod")), len(it.here.server.of("patch"))
        await asyncio.sleep(20)
        assert (len(it.here.server.of("pod")), len(it.here.server.of("patch"))) == asked
        assert it.said() == []
        it.here.server.script["patch"] = [it.patch]
        it.controller.abandon("the test says so")
        await asyncio.sleep(4 * LONGEST_S)
        assert it.costs == []
        assert it.controller.resume() is None
        it.works(1000)
        await asyncio.sleep(LONG_S + LONGEST_S)
        assert it.costs == ["1000"]


@over_sockets
async def test_a_pod_that_is_being_deleted_is_left_alone(authority, credentials, monkeypatch):
    """Its hook or its signal may be late: the pod itself says it."""
    async with process(authority, credentials, monkeypatch) as it:
        it.pod["metadata"]["deletionTimestamp"] = "2026-11-29T12:00:00Z"
        it.works(10)
        await asyncio.sleep(2 * LONGEST_S)
        assert it.costs == []
        assert it.status["state"] == "the pod is being deleted"


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_it_is_written_into_a_cluster(tmp_path, authority, monkeypatch):
    """With TLS, a Role and a pod: the store has the annotation, and whose it is; the idle pod has none."""
    for name, value in {"LONG_S": 0.1, "LOOK_S": TICK_S, "INTERVAL_S": 2 * TICK_S}.items():
        monkeypatch.setattr(pod_cost, name, value)
    tls, signer = server_tls(tmp_path / "tls")
    async with ApiServer(tls=tls) as api:
        account = Account(api, tmp_path / "account", tier(POD_COST, "shop"), authority=signer)
        for name, value in account.environment().items():
            monkeypatch.setenv(name, value)
        member = Membership(api.store, name=ME.name, uid=ME.uid)
        member.appear()
        owned = {"metadata": pod_of()["metadata"]}
        api.store.put(PODS, merged(api.store.get(PODS, "shop", ME.name), owned))
        it = Process(Premises(api, KubeSettings(kubernetes_credentials=str(account.directory))))
        it.start()
        begun = it.works(12)
        await api.journal.until(lambda: _cost(api) == "10")
        it.end(begun)
        await api.journal.until(lambda: _cost(api) == "0")
        asked = [each for each in api.journal.of("patch", "pods") if each.status]
        assert {each.status for each in asked} == {200}
        assert {each.name for each in asked} == {ME.name}
        assert it.said() == []
        await it.cluster.stop()
        await it.tasks.cancel()


def _cost(api: ApiServer) -> str | None:
    pod = api.store.get(PODS, "shop", ME.name)
    assert pod is not None
    return (pod["metadata"].get("annotations") or {}).get(ANNOTATION)
