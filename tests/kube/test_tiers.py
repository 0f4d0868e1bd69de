"""Each tier of `rbac`, as a process: what it adds, and what is lost without it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.integration.scene import WAIT, held
from tests.kube.cluster import BY_WORD, pod
from tests.support.client import Client
from tests.support.cluster.objects import Endpoint
from tests.support.upstream import OK

ENDPOINTSLICES = ["list endpointslices", "watch endpointslices", "get endpointslices"]
LOOK = [*["create selfsubjectaccessreviews"] * 5, "list endpointslices"]


async def _status(it) -> str:
    async with await Client.connect(it.proxy.admin) as person:
        answer = await person.ask(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return answer.body.decode()


async def test_none_asks_nothing(tmp_path):
    """Not even a connection is made; time and quiet end the drain."""
    async with pod(tmp_path, rbac="none") as it:
        it.member.delete()
        it.member.flip()
        report = await it.end()
        assert it.api.journal.connections == []
        assert (report["cause"], report["propagation_ended"]) == ("unknown", "quiet")


async def test_slices_tell_that_the_cluster_has_forgotten_and_why(tmp_path):
    """The flip, the deletion, and nothing of the pod's own object; its numbers are read back."""
    # A twentieth of it, where nothing was lost.
    async with pod(tmp_path, **BY_WORD, final_scrape_wait="400s") as it:
        await it.looked()
        await it.proxy.metrics()
        await asyncio.sleep(3.0)
        await it.proxy.metrics()
        it.proxy.signal()
        await it.api.journal.nth("watch", "endpointslices")
        it.member.delete(grace_s=5)
        it.member.flip()
        report = await it.proxy.line("drain_report")
        metrics = await it.proxy.metrics()
        assert await it.proxy.exit_code() == 0
        assert (report["cause"], report["propagation_ended"]) == ("deletion", "slices_quiet")
        assert metrics['termination_cause_info{cause="deletion"}'] == 1
        assert metrics['propagation_end_total{reason="slices_quiet"}'] == 1
        assert 0 < metrics["endpoint_flip_seconds"] < 30
        assert metrics["kubernetes_api_up"] == 1
        assert metrics['kubernetes_requests_total{result="ok",verb="read"}'] == 5
        assert metrics['kubernetes_requests_total{result="ok",verb="watch"}'] == 1
        assert metrics["other_ready_endpoints"] == 1
        # The five seconds stand in the pod alone.
        plans = [line["grace_s"] for line in it.proxy.lines if line["event"] == "drain_plan"]
        assert set(plans) == {20.0}
        assert not it.api.journal.of(resource="pods")
        assert it.events() == []


async def test_slices_and_pod_tell_the_real_grace_period(tmp_path):
    """kubectl delete --grace-period: the deadline follows."""
    async with pod(tmp_path, rbac="slices+pod", serves=False) as it:
        await it.looked()
        client, connection = await held(it.proxy, it.application)
        it.member.delete(grace_s=10)
        it.proxy.signal()
        line = await it.proxy.line("drain_plan", cause="deletion", grace_s=10.0)
        assert line["deadline_in_s"] < 10 - 2 - 2
        await connection.send(OK)
        assert (await client.read_response()).body == b"ok"
        assert await it.proxy.exit_code() == 0


async def test_slices_and_pod_look_at_the_pods_timers(tmp_path):
    """What is wrong is said at start, counted, and shown."""
    spec = {"terminationGracePeriodSeconds": 10, "containers": [{"name": "app"}]}
    async with pod(tmp_path, rbac="slices+pod", spec=spec) as it:
        await it.looked()
        problems = [line["problem"] for line in it.proxy.lines if line["event"] == "config_problem"]
        assert any("set terminationGracePeriodSeconds to 20" in problem for problem in problems)
        assert any("container app has no preStop hook" in problem for problem in problems)
        assert any("admin is 127.0.0.1" in problem for problem in problems)
        assert (await it.proxy.metrics())["config_problems"] == len(problems) == 3
        assert (await _status(it)).count("no preStop hook") == 1


async def _probe(it) -> None:
    async with await Client.connect(it.proxy.admin) as kubelet:
        await kubelet.ask(
            b"GET /readyz HTTP/1.1\r\nHost: pod\r\nUser-Agent: kube-probe/1.36\r\nConnection: close\r\n\r\n"
        )


@pytest.mark.parametrize(("probing", "cause"), [(True, "restart"), (False, "node-shutdown")])
async def test_slices_and_pod_tell_a_restart_from_a_node_that_shuts_down(probing, cause, tmp_path):
    """Nobody has deleted the pod: whether its kubelet still probes it decides."""
    async with pod(
        tmp_path, rbac="slices+pod", serves=False, node_shutdown_grace="12s", restart_window="1s"
    ) as it:
        await it.looked()
        client, connection = await held(it.proxy, it.application)
        for _ in range(2):
            await _probe(it)
            await asyncio.sleep(0.5)
        it.proxy.signal()
        await it.api.journal.nth("get", "pods", number=2)
        if probing:
            await asyncio.sleep(0.6)
            await _probe(it)
        plan = await it.proxy.line("drain_plan", cause=cause)
        assert plan["grace_s"] == (20.0 if probing else 12.0)
        await connection.send(OK)
        assert (await client.read_response()).body == b"ok"
        assert await it.proxy.exit_code() == 0


async def test_events_tell_of_requests_that_were_cut(tmp_path):
    """Where people look for them, after the pod is gone."""
    async with pod(tmp_path, rbac="slices+pod+events", serves=False, grace_period="2s") as it:
        await it.looked()
        await held(it.proxy, it.application)
        report = await it.end()
        assert report["requests"]["cut"] + report["requests"]["timed_out"] == 1
        (event,) = it.events()
        assert (event["reason"], event["type"]) == ("DrainIncomplete", "Warning")
        assert event["note"].startswith("1 requests ")
        assert event["regarding"]["uid"] == it.member.uid


async def test_events_tell_of_every_drain_if_asked(tmp_path):
    """Begin and end."""
    async with pod(tmp_path, rbac="slices+pod+events", events="all") as it:
        await it.looked()
        it.member.delete()
        it.member.flip()
        await it.end()
        assert {event["reason"] for event in it.events()} == {"DrainStarted", "DrainCompleted"}
        assert {event["type"] for event in it.events()} == {"Normal"}


async def test_a_drain_that_went_well_leaves_no_event(tmp_path):
    """Thousands of pods end well every day."""
    async with pod(tmp_path, rbac="slices+pod+events") as it:
        await it.looked()
        it.member.flip()
        await it.end()
        assert it.events() == []


@pytest.mark.parametrize(
    ("granted", "lost"),
    [
        (
            "none",
            [*(f"{verb} endpointslices" for verb in ("list", "watch", "get")), "get pods", "create events"],
        ),
        ("slices", ["get pods", "create events"]),
        ("slices+pod", ["create events"]),
    ],
)
async def test_what_is_not_granted_is_said_at_start(granted, lost, tmp_path):
    """One line for each missing verb; the process runs and drains."""
    async with pod(tmp_path, rbac="slices+pod+events", granted=granted) as it:
        await it.looked()
        said = [line["problem"] for line in it.proxy.lines if line["event"] == "config_problem"]
        denied = [problem.partition(" may not ")[2].partition(",")[0] for problem in said]
        assert list(filter(None, denied)) == lost
        await it.end()


async def test_nothing_is_sent_while_serving_and_little_memory_is_taken(tmp_path):
    """One look; then neither a request nor an open connection, and no more than 50 MB."""
    async with pod(tmp_path, rbac="slices+pod+events") as it:
        await it.looked()
        assert it.asked() == [*LOOK, "get pods"]
        connections = len(it.api.journal.connections)
        for _ in range(20):
            async with await Client.connect(it.proxy.addresses[0]) as client:
                await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await it.proxy.metrics()
        it.member.others = [Endpoint("web-3", "another")]
        it.member.write(ready=False)
        it.member.write()
        await asyncio.sleep(1.5)
        assert it.asked() == [*LOOK, "get pods"]
        assert len(it.api.journal.connections) == connections
        assert it.proxy.rss_bytes() <= 50 * 1024 * 1024


async def test_auto_readiness_is_given_back_to_the_last_replica(tmp_path):
    """503 from the start, 200 while nobody else is ready, 503 as soon as another is."""
    async with pod(tmp_path, serves=False, alone=True, **(BY_WORD | {"propagation_margin": "10s"})) as it:
        await it.looked()
        assert (await it.proxy.get("/readyz")).status == 200
        it.proxy.signal()
        await it.api.journal.nth("watch", "endpointslices")
        assert (await it.proxy.get("/readyz")).status == 503
        it.member.flip()
        await it.proxy.line("drain_plan", cause="deletion")
        assert (await it.proxy.get("/readyz")).status == 200
        assert (await it.proxy.get("/lb-health")).status == 503
        it.member.others = [Endpoint("web-2", "other", node="node-1")]
        it.member.flip()
        async with asyncio.timeout(10):
            while (await it.proxy.get("/readyz")).status != 503:
                await asyncio.sleep(0.01)
        assert (await it.proxy.metrics())["other_ready_endpoints"] == 1


TOLD = {"propagation_min": "4s", "sparse_min": "4s"}
"""Long enough to be told: the first request of a drain waits its turn."""


async def test_a_lone_pod_stays_until_its_successor_is_ready(tmp_path):
    """It knows that it alone serves: a caller long after quiet and sparse_min is still answered."""
    async with pod(tmp_path, alone=True, propagation_max="5s", grace_period="40s", **TOLD) as it:
        await it.looked()
        it.proxy.signal()
        await it.api.journal.nth("watch", "endpointslices")
        it.member.flip()
        await it.proxy.line("drain_plan", cause="deletion")
        # Longer than silence, margin and cap would have taken.
        for _ in range(14):
            await asyncio.sleep(0.5)
            async with await Client.connect(it.proxy.addresses[0]) as client:
                assert (await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).body == b"ok"
        assert "this pod alone serves" in await _status(it)
        it.member.others = [Endpoint("web-2", "other")]
        it.member.flip()
        assert await it.proxy.exit_code() == 0
        report = await it.proxy.line("drain_report")
        assert report["propagation_ended"] in {"slices_quiet", "max"}
        assert report["requests"]["late"] == report["requests"]["finished"] == 14
        assert report["unused_s"] > 5


async def test_two_that_are_deleted_together_both_stay(tmp_path):
    """Neither is the other's successor."""
    async with pod(tmp_path, propagation_max="5s", grace_period="20s", leave_spread="0s", **TOLD) as it:
        await it.looked()
        it.proxy.signal()
        await it.api.journal.nth("watch", "endpointslices")
        it.member.others = [Endpoint("web-2", "other", ready=False, terminating=True)]
        it.member.flip()
        report = await it.end()
        assert report["propagation_ended"] == "alone"
        assert (await it.proxy.line("phase", phase="drained"))["why"] == "nothing is in flight"
        # Until a second before the deadline: 20 s, less 5 s for the application and 3 s of reserve.
        assert sum(report["phases_s"].values()) > 8


async def test_a_row_that_reads_ready_holds_a_quiet_pod_to_max(tmp_path):
    """The endpoints controller stands still: nobody is told, and everybody still comes."""
    async with pod(tmp_path, propagation_max="6s", **TOLD) as it:
        await it.looked()
        it.proxy.signal()
        await it.api.journal.nth("watch", "endpointslices")
        report = await it.end()
        assert report["propagation_ended"] == "max"
        assert report["phases_s"]["propagating"] >= 5.9


async def test_publish_not_ready_addresses_leaves_it_to_time_and_quiet(tmp_path):
    """The only row is ready and terminating: no evidence, no hold, though nobody else is ready."""
    async with pod(tmp_path, alone=True, propagation_max="6s", **TOLD) as it:
        await it.looked()
        it.proxy.signal()
        await it.api.journal.nth("watch", "endpointslices")
        it.member.write(ready=True, terminating=True)
        report = await it.end()
        assert (report["cause"], report["propagation_ended"]) == ("deletion", "quiet")
        plans = [line["plan"] for line in it.proxy.lines if line["event"] == "drain_plan"]
        assert "publishNotReadyAddresses" in plans[-1]


async def _call_until_refused(it, answers: list[bytes]) -> None:
    """Call on a new connection each time, without a pause, until nobody listens any more."""
    with contextlib.suppress(ConnectionError):
        while True:
            async with await Client.connect(it.proxy.addresses[0]) as client:
                answers.append((await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).body)


async def test_callers_who_never_stop_do_not_hold_a_row_that_never_flips(tmp_path):
    """They come until the pod is gone: at `max` it goes, and refuses nobody whom it has let in."""
    answers: list[bytes] = []
    async with pod(tmp_path, alone=True, propagation_max="6s", **TOLD) as it, asyncio.TaskGroup() as group:
        await it.looked()
        for _ in range(4):
            group.create_task(_call_until_refused(it, answers))
        it.proxy.signal()
        await it.api.journal.nth("watch", "endpointslices")
        it.member.write(ready=True, terminating=True)
        report = await it.end()
        assert report["propagation_ended"] == "max"
        assert report["ended_by"] in {"nothing is in flight", "who came in time is served"}
        assert {report["requests"][each] for each in ("timed_out", "cut", "refused", "lost")} == {0}
        assert report["unused_s"] > 4
    assert set(answers) == {b"ok"}
    assert len(answers) > 100


async def test_publish_not_ready_addresses_is_said_at_start_where_it_shows(tmp_path):
    """A row that is ready before its pod serves: once in the log, and in /status for as long as it runs."""
    async with pod(tmp_path, alone=True, row={"ready": True, "serving": False}) as it:
        await it.looked()
        problems = [line["problem"] for line in it.proxy.lines if line["event"] == "config_problem"]
        assert sum("publishNotReadyAddresses" in problem for problem in problems) == 1
        assert "publishNotReadyAddresses" in await _status(it)


async def test_a_waiting_hook_is_told_of_a_deletion_at_once(tmp_path):
    """Its own signal is late: the row is enough, and nothing waits for restart_window."""
    async with pod(tmp_path, restart_window="20s") as it:
        await it.looked()
        async with await Client.connect(it.proxy.admin) as hook:
            await hook.send(WAIT)
            await it.api.journal.nth("watch", "endpointslices")
            it.member.delete()
            it.member.flip()
            line = await it.proxy.line("phase", phase="propagating")
            assert line["was"] == "ready"
            assert (await hook.read_response()).body == b"drained\n"
        report = await it.end()
        assert report["cause"] == "deletion"


async def test_an_application_restarted_alone_is_not_a_deletion(tmp_path):
    """The rows say nothing, and after restart_window the hook is answered."""
    async with pod(tmp_path, rbac="slices+pod", restart_window="1s") as it:
        await it.looked()
        async with await Client.connect(it.proxy.admin) as hook:
            await hook.send(WAIT)
            assert (await hook.read_response()).body == b"not draining\n"
        assert not [line for line in it.proxy.lines if line["event"] == "drain_plan"]
        assert (await it.proxy.get("/readyz")).status == 200


async def test_a_pod_that_is_chosen_before_its_application_is_up_propagates(tmp_path):
    """A container that was restarted in a ready pod, and told to stop before it was up again."""
    async with pod(tmp_path, up=False, **BY_WORD) as it:
        await it.looked()
        it.member.delete()
        it.member.flip()
        report = await it.end()
        assert report["phases_s"]["propagating"] > 0
        assert report["propagation_ended"] == "slices_quiet"


async def test_an_idle_pod_is_drained_soon_after_its_slice_has_flipped(tmp_path):
    """After sparse_min, long before propagation_min: silence alone is no evidence, the slice is."""
    settings = BY_WORD | {"sparse_min": "2s", "propagation_margin": "500ms"}
    async with pod(tmp_path, **settings) as it:
        await it.looked()
        it.member.delete()
        it.member.flip()
        report = await it.end()
        assert 1.99 <= sum(report["phases_s"].values()) < 10.0
        assert report["propagation_ended"] == "slices_quiet"


async def test_status_shows_what_the_cluster_says(tmp_path):
    """For the person who asks what is being waited for."""
    async with pod(tmp_path) as it:
        await it.looked()
        assert '"cluster":{"pod":"shop/web-1","api_up":true,"state":"routable"' in await _status(it)
