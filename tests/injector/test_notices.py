"""What the webhook tells and asks the cluster: Events on the owners of pods, and who has the sidecar."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json

import pytest

from tests.injector.pods import app, pod
from tests.injector.test_server import Webhook
from tests.injector.ways import review
from tests.support.cluster.access import Rule
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.resources import EVENTS, NAMESPACES, PODS, REPLICA_SETS
from tests.support.cluster.server import ApiServer
from tests.support.wire import PATIENCE_S

GRANTED = (
    Rule("events.k8s.io", "events", ("create",)),
    Rule("apps", "replicasets", ("get",)),
    Rule("", "pods", ("list",)),
    Rule("", "namespaces", ("list", "watch")),
)
"""As the chart's ClusterRole."""

DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "uid-web"}
REPLICAS = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": "uid-replicas"}


@contextlib.asynccontextmanager
async def telling(directory, rules=GRANTED, *, put=None, more=()):
    """Run a webhook that may tell a cluster."""
    tls, authority = server_tls(directory / "tls")
    async with ApiServer(tls=tls) as api:
        account = Account(api, directory / "account", rules, namespace="drainproxy", authority=authority)
        owner = {"name": "web-5d4f", "namespace": "shop", "uid": "uid-replicas"}
        owner["ownerReferences"] = [{**DEPLOYMENT, "controller": True}]
        api.store.put(REPLICA_SETS, {"metadata": owner})
        if put is not None:
            put(api)
        made = Webhook(directory, "--credentials", str(account.directory), *more, **account.environment())
        try:
            await made.start()
            yield made, api
        finally:
            with contextlib.suppress(ProcessLookupError):
                made.process.kill()
            await made.process.wait()
            await made._reading


def owned(*containers, by=REPLICAS, **more) -> dict:
    """Return a pod that a controller makes."""
    made = pod(*containers, **more)
    made["metadata"]["ownerReferences"] = [{**by, "controller": True}]
    return made


async def events(api, count: int) -> list[dict]:
    """Wait until so many Events are there; return them."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            seen = api.store.version
            found = api.store.list(EVENTS, "shop", cached=False)[1]
            if len(found) >= count:
                return found
            await api.store.changes(seen)


async def test_the_owner_of_a_pod_is_told_of_its_ports(tmp_path):
    """The Deployment and not its ReplicaSet, once for all pods that are alike."""
    async with telling(tmp_path) as (webhook, api):
        for _ in range(3):
            await webhook.ask(review(owned()))
        await webhook.ask(review(owned(app("app", ("redis", 6379)))))
        told, skipped = sorted(await events(api, 2), key=lambda each: each["reason"])
        assert (told["reason"], told["type"], told["regarding"]["uid"]) == ("Injected", "Normal", "uid-web")
        assert told["note"] == "port http 28080 -> drainproxy -> 8080 (name)"
        assert told["regarding"] == {**DEPLOYMENT, "namespace": "shop"}
        assert told["reportingController"] == "drainproxy.io/webhook"
        assert (skipped["reason"], skipped["type"]) == ("InjectionSkipped", "Warning")
        assert skipped["note"].startswith("no sidecar: no container port says that it speaks HTTP")
        assert len([each for each in api.journal.requests if each.resource == "replicasets"]) == 1


@pytest.mark.parametrize(
    ("rules", "kind"),
    [(GRANTED[:1], "ReplicaSet"), (GRANTED, "StatefulSet")],
    ids=["nobody may read ReplicaSets", "a StatefulSet"],
)
async def test_the_owner_itself_is_told_where_there_is_none_above(tmp_path, rules, kind):
    """Or where it may not be asked for."""
    by = {**REPLICAS, "kind": kind}
    async with telling(tmp_path, rules) as (webhook, api):
        await webhook.ask(review(owned(by=by)))
        (told,) = await events(api, 1)
        assert (told["regarding"]["kind"], told["regarding"]["name"]) == (kind, "web-5d4f")


async def test_nobody_is_told_of_a_dry_run(tmp_path):
    """It has no side effects (Kubernetes: Dynamic Admission Control, side effects), nor has a pod by hand."""
    async with telling(tmp_path) as (webhook, api):
        await webhook.ask(review(owned(), dryRun=True))
        await webhook.ask(review(pod()))
        await webhook.ask(review(owned(labels={"drainproxy.io/inject": "false"})))
        await webhook.ask(review(owned(app("app", ("http", 8081)))))
        (told,) = await events(api, 1)
        assert told["note"].endswith("8081 (name)")


async def test_names_that_are_none_lead_nowhere(tmp_path):
    """Whoever reaches the webhook can write a review: no name of theirs becomes another path."""
    async with telling(tmp_path) as (webhook, api):
        for name in ("../../../pods/x", "a/b", "x?y", "X", ""):
            await webhook.ask(review(owned(by={**REPLICAS, "name": name})))
        await webhook.ask(review(owned(), namespace="shop/../kube-system"))
        await webhook.ask(review(owned()))
        await events(api, 1)
        paths = {(each.verb, each.resource, each.namespace) for each in api.journal.requests}
        usual = {("list", "pods", None), ("list", "namespaces", None), ("watch", "namespaces", None)}
        assert paths - usual == {("get", "replicasets", "shop"), ("create", "events", "shop")}
        assert len(api.store.list(EVENTS, None, cached=False)[1]) == 1


async def test_a_cluster_that_refuses_costs_no_review(tmp_path):
    """What cannot be told is dropped and counted, with a line in the log."""
    async with telling(tmp_path, ()) as (webhook, api):
        status, answer = await webhook.ask(review(owned()))
        assert (status, answer["response"]["patchType"]) == (200, "JSONPatch")
        assert (await webhook.line("kubernetes_api", asked="events"))["reason"] == "denied"
        assert await webhook.count("kubernetes_events_dropped_total") == 1
        assert api.store.list(EVENTS, "shop", cached=False)[1] == []


async def test_credentials_that_are_not_there_are_said(tmp_path):
    """And reviews are answered."""
    made = Webhook(tmp_path, "--credentials", f"{tmp_path}/none")
    try:
        await made.start()
        assert (await made.line("kubernetes_api", asked="credentials"))["reason"] == "unreachable"
        assert (await made.ask(review(owned())))[0] == 200
    finally:
        made.process.kill()
        await made.process.wait()
        await made._reading


async def test_pods_that_ask_are_counted_with_the_sidecar_and_without(tmp_path):
    """By their own label, or their namespace's; what ends is not counted."""

    def put(api) -> None:
        def one(name: str, namespace: str, *, phase: str = "Running", **labels: str) -> None:
            said = {name.replace("_", "/"): text for name, text in labels.items()}
            metadata = {"name": name, "namespace": namespace, "labels": said}
            api.store.put(PODS, {"metadata": metadata, "spec": {}, "status": {"phase": phase}})

        api.store.put(NAMESPACES, {"metadata": {"name": "till", "labels": {"drainproxy.io/inject": "true"}}})
        asks, has = {"drainproxy.io_inject": "true"}, {"drainproxy.io_injected": "true"}
        one("a", "shop", **asks, **has)
        one("b", "shop", **asks)
        one("c", "shop")
        one("d", "till", **has)
        one("e", "till")
        one("f", "till", **{"drainproxy.io_inject": "false"})
        one("g", "shop", **asks, phase="Succeeded")

    async with telling(tmp_path, put=put) as (webhook, api):
        # The first count is made at the start, and an Event comes after it.
        await webhook.ask(review(owned()))
        await events(api, 1)
        assert await webhook.count('webhook_pods{sidecar="with"}') == 2
        assert await webhook.count('webhook_pods{sidecar="without"}') == 2
        asked = [(each.verb, each.resource) for each in api.journal.requests]
        assert asked.count(("list", "namespaces")) == 1


async def test_half_of_the_pods_are_not_counted_as_all(tmp_path):
    """Where namespaces may not be read nobody knows whose pods they ask for; the log says so."""

    def put(api) -> None:
        labels = {"drainproxy.io/inject": "true"}
        metadata = {"name": "a", "namespace": "shop", "labels": labels}
        api.store.put(PODS, {"metadata": metadata, "spec": {}, "status": {"phase": "Running"}})

    async with telling(tmp_path, GRANTED[:-1], put=put) as (webhook, api):
        assert (await webhook.line("kubernetes_api", asked="namespaces"))["reason"] == "denied"
        await webhook.ask(review(owned()))
        await events(api, 1)
        assert ("list", "pods") not in [(each.verb, each.resource) for each in api.journal.requests]
        assert await webhook.count('webhook_pods{sidecar="without"}') == 0


@pytest.mark.parametrize(
    ("version", "mode"), [("v1.32.5", "containers"), ("v1.33.0", "initContainers"), ("", "initContainers")]
)
async def test_the_clusters_version_is_asked_for(tmp_path, version, mode):
    """Where no flag says it: below 1.33 a name that moves takes a plain sidecar. No answer is said."""
    tls, authority = server_tls(tmp_path / "tls")
    async with ApiServer(tls=tls) as api:
        api.version = version
        account = Account(api, tmp_path / "account", (), namespace="drainproxy", authority=authority)
        place = str(account.directory) if version else f"{tmp_path}/none"
        made = Webhook(tmp_path, "--credentials", place, **account.environment())
        made.version = ()
        try:
            await made.start()
            _, answered = await made.ask(review(pod(app())))
            response = answered["response"]
            patch = json.loads(base64.b64decode(response["patch"]))
            [holder] = {each["path"].split("/")[2] for each in patch if "DRAINPROXY_LISTEN" in str(each)}
            assert holder == mode
            said = " ".join(response.get("warnings", ()))
            assert ("before Kubernetes 1.33 no Service finds" in said) == (not version)
        finally:
            with contextlib.suppress(ProcessLookupError):
                made.process.kill()
            await made.process.wait()
            await made._reading
