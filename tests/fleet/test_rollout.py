"""`drainproxy rollout` on rollouts of every kind, live and afterwards: verdict, numbers and advice."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from tests.fleet.scene import Scene, scene, understood
from tests.support.cluster.access import Rule
from tests.support.cluster.faults import watch
from tests.support.kubelet import wirings
from tests.support.kubelet.wirings import APP_PORT

SHORT = {
    "propagation": "cluster",
    "propagation_min": "1s",
    "propagation_margin": "500ms",
    "propagation_quiet": "500ms",
    "sparse_min": "1s",
    "settle": "100ms",
    "final_scrape_wait": "0s",
    "leave_spread": "200ms",
    "rbac": "slices+pod+events",
    "events": "all",
}


def by_pod(said: dict[str, Any], name: str) -> list[Any]:
    """Return what is said of each pod's report, in the order of the pods."""
    return [each["report"][name] for each in said["pods"]]


async def both(played: Scene) -> tuple[dict[str, Any], dict[str, Any]]:
    """Roll out under load; return what the command says that watched it, and one that comes afterwards."""
    watching = await played.watched()
    async with played.called():
        await played.deployment.roll_out()
        live = understood(*await watching)
    return live, await played.afterwards()


def kinds(said: dict[str, Any]) -> dict[str, str]:
    """Return the advice by its kind."""
    return {each["kind"]: each["sentence"] for each in said["advice"]}


async def test_a_good_rollout(tmp_path):
    """Nothing lost, exit 0, and every pod's end in numbers, whenever it is asked."""
    async with scene(wirings.native(**SHORT), tmp_path) as played:
        names = {pod.name for pod in played.deployment.pods}
        live, later = await both(played)
    assert played.lost == 0
    for said in (live, later):
        assert (said["code"], said["lost"], said["unknown"], said["advice"]) == (0, {}, {}, [])
        assert said["verdict"] == "2 pods of deploy/web in namespace default left: nothing was lost"
        assert {each["pod"] for each in said["pods"]} == names
        assert by_pod(said, "cause") == ["deletion"] * 2
        assert by_pod(said, "propagation_ended") == ["slices_quiet"] * 2
        assert all(each["finished"] for each in by_pod(said, "requests"))
        assert {each["report"]["pod"] for each in said["pods"]} == names
    assert {each["source"] for each in live["pods"]} <= {"termination message", "log"}
    assert {each["source"] for each in later["pods"]} == {"Event"}


@pytest.mark.parametrize(("sleep_s", "how"), [(0, "told to end while callers"), (2, "only sleeps")])
async def test_pods_without_a_sidecar(tmp_path, sleep_s, how):
    """What they lose nobody has counted: that is said, and not that nothing was lost."""
    async with scene(wirings.bare(sleep_s=sleep_s), tmp_path, port=APP_PORT) as played:
        names = {pod.name for pod in played.deployment.pods}
        live, later = await both(played)
    for said in (live, later):
        assert said["code"] == 2
        assert set(said["unknown"]) == names
        assert set(said["unknown"].values()) == {"nothing in it counts what is lost"}
        assert list(kinds(said)) == ["no-sidecar"]
        assert how in kinds(said)["no-sidecar"]
        assert 'label the pod template drainproxy.io/inject: "true"' in kinds(said)["no-sidecar"]


async def test_a_hook_on_a_wrong_port(tmp_path):
    """The application ends while it is called: what was lost, and the port that it should have asked."""
    wrong = copy.deepcopy(wirings.native(**SHORT))
    wrong["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["port"] = 29901
    async with scene(wrong, tmp_path) as played:
        played.lag_s = 1.0
        names = {pod.name for pod in played.deployment.pods}
        live, later = await both(played)
    assert played.lost > 0
    for said in (live, later):
        assert said["code"] in {1, 2}
        assert {*said["lost"], *said["unknown"]} == names
        assert by_pod(said, "propagation_ended") == ["upstream_gone"] * 2
        assert "port 29901 is not the admin port; write 29900" in kinds(said)["hook"]
        assert "nothing was lost" not in said["verdict"]
        assert all(each["hooks_failed"] for each in said["pods"])


async def test_a_drain_that_was_capped(tmp_path):
    """Callers come to the end and are refused behind it, which no report can count: that is said, by name."""
    settings = {**SHORT, "propagation_max": "1500ms", "propagation_quiet": "1s", "grace_period": "8s"}
    capped = wirings.native(**settings)
    capped["spec"]["terminationGracePeriodSeconds"] = 8
    async with scene(capped, tmp_path) as played:
        played.lag_s = 60.0
        names = {pod.name for pod in played.deployment.pods}
        live, later = await both(played)
    assert played.lost > 0
    for said in (live, later):
        # The last of them may have been refused by the proxy itself, which counts.
        assert said["code"] == (1 if said["lost"] else 2)
        assert by_pod(said, "propagation_ended") == ["max"] * 2
        assert {*said["unknown"], *said["lost"]} == names
        assert "raise propagation_max above 1.5s" in kinds(said)["capped"]


async def test_a_stream_that_was_told_to_leave(tmp_path):
    """An EventSource that comes back elsewhere has lost nothing; whose client cannot is told what to set."""
    async with scene(wirings.native(**SHORT), tmp_path) as played:
        address = (played.deployment.pods[0].ip, wirings.TRAFFIC_PORT)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /ticker HTTP/1.1\r\nHost: shop.example\r\nAccept: text/event-stream\r\n\r\n")
        await reader.readuntil(b"\n\n")
        live, later = await both(played)
        writer.close()
    for said in (live, later):
        assert said["code"] == 0
        assert list(kinds(said)) == ["told-to-leave"]
        assert "(1)" in kinds(said)["told-to-leave"]
        assert "set websockets or streams to finish" in kinds(said)["told-to-leave"]


async def test_work_that_the_deadline_ends(tmp_path):
    """It is lost, and the sentence says how long a grace period would have been enough."""
    settings = {**SHORT, "grace_period": "6s", "app_stop": "1s", "reserve": "1s", "propagation_max": "2s"}
    template = wirings.native(**settings)
    template["spec"]["terminationGracePeriodSeconds"] = 6
    async with scene(template, tmp_path) as played:
        address = (played.deployment.pods[0].ip, wirings.TRAFFIC_PORT)
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /gate/never HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        live, later = await both(played)
        writer.close()
    for said in (live, later):
        assert said["code"] == 1
        assert list(said["lost"].values()) == [1]
        assert "1 was lost by 1 of them" in said["verdict"]
        assert "raise terminationGracePeriodSeconds and grace_period to" in kinds(said)["deadline"]


async def test_a_watch_that_the_server_breaks_misses_nobody(tmp_path):
    """410 in mid rollout: everything is read anew, and the log tells what the last state would have."""
    async with scene(wirings.native(**SHORT), tmp_path) as played:
        faults = played.town.api.faults
        with faults.on(watch(expired_after=2), verb="watch", resource="pods", times=2):
            live, _ = await both(played)
        names = {each["pod"] for each in live["pods"]}
    assert (live["code"], len(names)) == (0, 2)
    assert all(each["report"] for each in live["pods"])


async def test_nobody_may_read_events_or_logs(tmp_path):
    """What is missing is named, and the rest is shown."""
    async with scene(wirings.native(**SHORT), tmp_path) as played:
        played.admin.subject.rules = (
            Rule("apps", "*", ("get", "list", "watch")),
            Rule("", "pods", ("get", "list", "watch")),
        )
        live, later = await both(played)
    assert live["code"] == 0
    assert "events" in live["missing"]
    assert "403" in live["missing"]["events"]
    assert any(note.startswith("events could not be read") for note in live["notes"])
    assert (later["code"], later["pods"]) == (2, [])
    assert "which pods were gone before this command began only Events tell" in later["notes"]


async def test_reports_that_nobody_kept(tmp_path):
    """Without Events of ours the kubelet's tell who left: of those it is not known, and why."""
    async with scene(wirings.native(**{**SHORT, "events": "off"}), tmp_path) as played:
        names = {pod.name for pod in played.deployment.pods}
        async with played.called():
            await played.deployment.roll_out()
        later = await played.afterwards()
    assert later["code"] == 2
    assert set(later["unknown"]) == names
    assert "run this with --watch" in kinds(later)["no-report"]
    assert "events: all" in kinds(later)["no-report"]


async def test_a_person_reads_a_table_and_one_verdict(tmp_path):
    """The same for people: a row a pod, the verdict last."""
    async with scene(wirings.native(**SHORT), tmp_path) as played:
        name = played.deployment.pods[0].name
        async with played.called():
            await played.deployment.roll_out()
        code, out, err = await played.drainproxy("rollout", "deploy/web", "--since", "10m")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][:3] == ["pod", "cause", "seconds"]
    assert any(line[:2] == [name, "deletion"] and "slices_quiet" in line for line in lines)
    assert out.splitlines()[-1] == "2 pods of deploy/web in namespace default left: nothing was lost"


async def test_there_is_nothing_to_tell(tmp_path):
    """A workload of which no pod has left, one that is not there, and words that name none."""
    async with scene(wirings.native(**SHORT), tmp_path, replicas=1) as played:
        code, out, _ = await played.drainproxy("rollout", "deploy/web")
        assert (code, out) == (0, "no pod of deploy/web in namespace default is known to have left\n")
        code, out, _ = await played.drainproxy("rollout", "deploy/web", "--watch", "--timeout", "1s")
        assert code == 2
        assert "no rollout began within 1 s" in out
        code, _, err = await played.drainproxy("rollout", "sts/web")
        assert code == 69
        assert err.startswith("drainproxy: sts/web in namespace default: 404:")
        code, _, err = await played.drainproxy("rollout", "web")
        assert code == 64
        assert "write deploy/NAME" in err
        await played.town.api.__aexit__()
        code, _, err = await played.drainproxy("rollout", "deploy/web")
        assert code == 69
        assert len(err.splitlines()) == 1
