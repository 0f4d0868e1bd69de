"""Why a pod ends, from its object and the kubelet's probes, on a clock of its own."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy.errors import KubernetesError
from drainproxy.kube.pod import SILENCE, STALE_PROBE_S, ask_twice, infer_cause, read
from drainproxy.lifecycle.arrival_rate import Probes
from drainproxy.lifecycle.report import Cause
from tests.kube.premises import ME, premises
from tests.kube.server import fail, say
from tests.lifecycle.house import at
from tests.support import clock
from tests.support.clock import over_sockets


def pod(*, deleted_with: int | None = None, uid: str = "u-1"):
    """Return a Pod."""
    metadata = {"name": "pod-u-1", "uid": uid}
    if deleted_with is not None:
        metadata |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": deleted_with}
    return {"metadata": metadata, "spec": {"terminationGracePeriodSeconds": 40, "containers": []}}


def test_a_deleted_pod_has_the_grace_that_was_given():
    """kubectl delete --grace-period and the spec may differ."""
    facts = read(pod(deleted_with=7), ME)
    assert (facts.deleting, facts.grace_s) == (True, 7)
    facts = read(pod(), ME)
    assert (facts.deleting, facts.grace_s) == (False, 40)


@pytest.mark.parametrize(
    ("owners", "kind"),
    [
        ([{"kind": "StatefulSet", "name": "db", "controller": True}], "StatefulSet"),
        ([{"kind": "Other"}, {"kind": "ReplicaSet", "name": "web-1", "controller": True}], "ReplicaSet"),
        ([{"kind": "StatefulSet", "controller": False}], ""),
        ([], ""),
        (None, ""),
    ],
)
def test_a_pod_tells_who_made_it(owners, kind):
    """A StatefulSet makes the next one only when this one is gone."""
    thing = pod()
    if owners is not None:
        thing["metadata"]["ownerReferences"] = owners
    assert read(thing, ME).owner == kind


def test_another_pod_of_that_name_is_none_of_ours():
    """A StatefulSet's next pod is not this one."""
    with pytest.raises(ValueError, match="another pod"):
        read(pod(uid="u-2"), ME)


async def cause(here, *, probes: Probes | None = None):
    """Look for the cause of a drain that begins now, as cluster.py does."""
    began = asyncio.get_running_loop().time()
    async with here.connect() as api:
        facts = await ask_twice(api, ME, here.pace)
    if facts.deleting:
        return Cause.DELETION, facts.grace_s
    return await infer_cause(probes or Probes(), began), None


def probed(interval_s: float = 5.0, *, ago_s: float = 1.0) -> Probes:
    """Probes that came in this interval, the last one so long ago."""
    now, probes = asyncio.get_running_loop().time(), Probes()
    probes.came(now - ago_s - interval_s)
    probes.came(now - ago_s)
    return probes


@over_sockets
async def test_a_deletion_is_seen_in_the_object(authority, credentials, monkeypatch):
    """With the grace period that counts."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["pod"] = [say(pod(deleted_with=12))]
        assert await cause(here) == (Cause.DELETION, 12)
        assert len(here.server.asked) == 1


@over_sockets
async def test_a_deletion_that_comes_a_moment_later_is_seen_too(authority, credentials, monkeypatch):
    """The kubelet may know before a cache does."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["pod"] = [say(pod()), say(pod(deleted_with=12))]
        assert await cause(here) == (Cause.DELETION, 12)


@over_sockets
async def test_a_pod_that_is_still_probed_had_a_container_restarted(authority, credentials, monkeypatch):
    """Its kubelet goes on as before."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["pod"] = [say(pod())]
        probes = probed(5, ago_s=1)
        asking = asyncio.get_running_loop().create_task(cause(here, probes=probes))
        await at(4)
        probes.came(asyncio.get_running_loop().time())
        assert await asking == (Cause.RESTART, None)


@over_sockets
async def test_a_pod_that_is_probed_no_more_is_stopped_by_its_kubelet(authority, credentials, monkeypatch):
    """No deletion after a second look, and no probe for more than an interval."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["pod"] = [say(pod())]
        assert await cause(here, probes=probed(4, ago_s=1)) == (Cause.NODE_SHUTDOWN, None)
        assert clock.now() == pytest.approx(4 * SILENCE + STALE_PROBE_S, abs=0.1)
        assert len(here.server.asked) == 2


@over_sockets
async def test_a_probe_that_was_on_its_way_proves_nothing(authority, credentials, monkeypatch):
    """It may have been sent before the kubelet stopped."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["pod"] = [say(pod())]
        probes = probed(4, ago_s=3.9)
        asking = asyncio.get_running_loop().create_task(cause(here, probes=probes))
        await at(0.1)
        probes.came(asyncio.get_running_loop().time())
        assert await asking == (Cause.NODE_SHUTDOWN, None)


@pytest.mark.parametrize("count", [0, 1])
@over_sockets
async def test_without_probes_the_cause_stays_unknown(count, authority, credentials, monkeypatch):
    """Silence is evidence only where there was sound."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["pod"] = [say(pod())]
        probes = Probes()
        for _ in range(count):
            probes.came(asyncio.get_running_loop().time())
        assert await cause(here, probes=probes) == (Cause.UNKNOWN, None)


@over_sockets
async def test_a_fault_is_borne_twice(authority, credentials, monkeypatch):
    """The answer is worth a few questions."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["pod"] = [fail(500), fail(429), say(pod(deleted_with=5))]
        assert await cause(here) == (Cause.DELETION, 5)


@pytest.mark.parametrize(("status", "questions"), [(403, 1), (500, 3)])
@over_sockets
async def test_what_goes_on_failing_is_given_up(status, questions, authority, credentials, monkeypatch):
    """Forbidden at once, the rest after three."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["pod"] = [fail(status)]
        with pytest.raises(KubernetesError):
            await cause(here)
        assert len(here.server.asked) == questions
