"""Events go out in their order, or are dropped and counted; nobody waits for them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

from drainproxy.kube.cluster import Cluster
from drainproxy.kube.events import MAX_NOTE_BYTES, MAX_QUEUED, Events, event
from drainproxy.kube.transport import Session
from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.propagation import Rules
from drainproxy.lifecycle.report import Cause
from drainproxy.lifecycle.settings import LifecycleSettings
from drainproxy.tasks import Connections
from tests.admin.premises import Diary
from tests.kube.premises import ME, premises
from tests.kube.server import fail, hang, page, say
from tests.support.clock import over_sockets


def events(here) -> Events:
    """Return a queue."""
    return Events(ME, here.pace, here.metrics, here.complain)


async def sent(here, queue: Events):
    """Send what is queued; return the bodies."""
    async with here.connect() as api:
        await queue.send(api)
    return [asked.body for asked in here.server.of("event")]


@over_sockets
async def test_an_event_tells_of_this_pod(authority, credentials, monkeypatch):
    """Every field that events.k8s.io/v1 insists on."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["event"] = [say({})]
        queue = events(here)
        queue.put("DrainIncomplete", "2 requests cut", warning=True)
        (body,) = await sent(here, queue)
        assert here.server.asked[0].path == "/apis/events.k8s.io/v1/namespaces/shop/events"
        assert body.pop("metadata").keys() == {"name", "namespace"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", body.pop("eventTime"))
        assert body == {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "reportingController": "drainproxy.io/sidecar",
            "reportingInstance": "pod-u-1",
            "action": "Drain",
            "reason": "DrainIncomplete",
            "type": "Warning",
            "note": "2 requests cut",
            "regarding": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": "pod-u-1",
                "namespace": "shop",
                "uid": "u-1",
            },
        }
        assert here.requests() == {("create", "ok"): 1}


@over_sockets
async def test_what_does_not_fit_is_dropped_and_counted(authority, credentials, monkeypatch):
    """A queue without an end would be memory without an end."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["event"] = [say({})]
        queue = events(here)
        for number in range(MAX_QUEUED + 3):
            queue.put("DrainStarted", str(number))
        assert here.metrics.kubernetes_events_dropped.value() == 3
        assert [body["note"] for body in await sent(here, queue)] == [str(n) for n in range(MAX_QUEUED)]


@over_sockets
async def test_what_cannot_be_sent_is_tried_twice_and_dropped(authority, credentials, monkeypatch):
    """An Event is not worth more."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["event"] = [fail(500), say({}), fail(500), hang]
        queue = events(here)
        queue.put("DrainStarted", "a")
        queue.put("DrainCompleted", "b")
        assert [body["note"] for body in await sent(here, queue)] == ["a", "a", "b", "b"]
        assert here.metrics.kubernetes_events_dropped.value() == 1
        assert here.complaints[0][:2] == ("events", "timeout")


@over_sockets
async def test_what_is_forbidden_is_not_tried_again(authority, credentials, monkeypatch):
    """Said once, counted each."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["event"] = [fail(403)]
        queue = events(here)
        queue.put("DrainCompleted", "a")
        assert len(await sent(here, queue)) == 1
        assert here.metrics.kubernetes_events_dropped.value() == 1


def cluster_of(here) -> tuple[Cluster, Connections]:
    """Return what tells the cluster of a pod's drains, and its tasks."""
    metrics, log, loop = here.metrics, Diary(), asyncio.get_running_loop()
    lifecycle = LifecycleSettings()
    inflight = InFlight()
    controller = Controller(
        settings=lifecycle, rules=Rules(60, 60, 0, 60), inflight=inflight, metrics=metrics, log=log, loop=loop
    )
    tasks = Connections(lambda name, failure: log.event(name, failure=repr(failure)))
    settings = replace(here.settings, rbac="slices+pod+events", events="all")
    cluster = Cluster(
        me=ME,
        settings=settings,
        lifecycle=lifecycle,
        controller=controller,
        inflight=inflight,
        metrics=metrics,
        log=log,
        tasks=tasks,
    )
    controller.on_change(cluster._changed)
    controller.upstream_answers()
    return cluster, tasks


@over_sockets
async def test_what_is_left_at_the_end_is_counted(authority, credentials, monkeypatch):
    """Dropped is dropped, for whatever reason."""
    async with premises(authority, credentials, monkeypatch) as here:
        queue = events(here)
        queue.put("DrainStarted", "a")
        queue.drop()
        queue.drop()
        assert len(queue) == 0
        assert here.metrics.kubernetes_events_dropped.value() == 1


def test_a_long_note_is_cut_at_a_character():
    """The API server refuses more than a kilobyte."""
    note = event(ME, "DrainCompleted", "ä" * MAX_NOTE_BYTES, "Normal")["note"]
    assert note == "ä" * (MAX_NOTE_BYTES // 2)


async def test_an_event_that_comes_while_the_session_closes_is_sent(authority, credentials, monkeypatch):
    """A short drain: its end is told just when its beginning has been written."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script |= {"event": [say({})], "list": [page([])]}
        cluster, tasks = cluster_of(here)
        controller = cluster.controller
        close = Session.close

        def closing(session):
            if len(here.server.of("event")) == 1:
                controller.abandon("the test says so")
            close(session)

        monkeypatch.setattr(Session, "close", closing)
        controller.terminate(Cause.MANUAL)
        asked = await here.server.nth("event", 2)
        assert asked.body["reason"] == "DrainCompleted"
        await cluster.stop()
        await tasks.cancel()


@over_sockets
async def test_a_second_drain_has_its_own_events(authority, credentials, monkeypatch):
    """The first was by hand, and was taken back when it was over."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script |= {"event": [say({})], "list": [page([])]}
        cluster, tasks = cluster_of(here)
        for drain in range(2):
            cluster.controller.terminate(Cause.MANUAL)
            assert (await here.server.nth("event", 2 * drain + 1)).body["reason"] == "DrainStarted"
            cluster.controller.abandon("the test says so")
            assert (await here.server.nth("event", 2 * drain + 2)).body["reason"] == "DrainCompleted"
            assert cluster.controller.resume() is None
        await cluster.stop()
        await tasks.cancel()
