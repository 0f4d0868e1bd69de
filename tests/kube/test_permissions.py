"""What a tier needs, and how it is asked whether it is granted."""

from __future__ import annotations

from drainproxy.kube.permissions import lacking, needs
from tests.kube.premises import ME, premises
from tests.kube.server import say
from tests.support.clock import over_sockets

REVIEWS = "/apis/authorization.k8s.io/v1"


def test_each_tier_needs_what_the_one_before_needs():
    """They are steps."""
    words = [f"{need.verb} {need.resource}" for need in needs("slices+pod+events")]
    slices = ["list endpointslices", "watch endpointslices", "get endpointslices"]
    assert words == [*slices, "get pods", "create events"]
    assert needs("slices") == needs("slices+pod+events")[:3]
    assert needs("none") == []


async def asked(here, *allowed: bool, **whose: str):
    """Ask with these answers; return what is lacking and what was sent."""
    here.server.script["review"] = [say({"status": {"allowed": each}}) for each in allowed]
    async with here.connect() as api:
        found = await lacking(api, "slices+pod+events", ME.namespace, **whose)
    return [f"{need.verb} {need.resource}" for need in found], here.server.asked


@over_sockets
async def test_a_pod_asks_about_itself(authority, credentials, monkeypatch):
    """Verb by verb, in its namespace; a Role may allow it to read this pod alone, by its name."""
    async with premises(authority, credentials, monkeypatch) as here:
        found, sent = await asked(here, True, False, True, True, False, name=ME.name)
        assert found == ["watch endpointslices", "create events"]
        assert {each.path for each in sent} == {f"{REVIEWS}/selfsubjectaccessreviews"}
        specs = [each.body["spec"] for each in sent]
        assert [spec.keys() for spec in specs] == [{"resourceAttributes"}] * 5
        wanted = [spec["resourceAttributes"] for spec in specs]
        assert {each["namespace"] for each in wanted} == {"shop"}
        assert [each.get("name") for each in wanted] == [None, None, None, "pod-u-1", None]
        # They are written to events.k8s.io, not to the group that had them before.
        assert wanted[-1]["group"] == "events.k8s.io"
        assert here.requests() == {("read", "ok"): 5}


@over_sockets
async def test_somebody_else_asks_about_a_service_account(authority, credentials, monkeypatch):
    """With the groups that it is in."""
    async with premises(authority, credentials, monkeypatch) as here:
        found, sent = await asked(here, True, True, True, True, True, account="web")
        assert found == []
        assert {each.path for each in sent} == {f"{REVIEWS}/subjectaccessreviews"}
        spec = sent[0].body["spec"]
        assert spec["user"] == "system:serviceaccount:shop:web"
        assert "system:serviceaccounts:shop" in spec["groups"]
