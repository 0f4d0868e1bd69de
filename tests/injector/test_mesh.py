"""A mesh that stands in pods by their namespace's word, and what the webhook knows of namespaces."""

from __future__ import annotations

import asyncio
import base64
import contextlib

import pytest
import yaml

from drainproxy.errors import InjectionRefused
from drainproxy.injector.manifest import read
from drainproxy.injector.patch import Injected, InjectorDefaults, inject
from drainproxy.injector.pod_checks import Around
from tests.injector.pods import ISTIO, app, pod
from tests.injector.test_notices import GRANTED, owned, telling
from tests.injector.ways import HOUSE, review
from tests.support.cluster.faults import watch
from tests.support.cluster.resources import NAMESPACES
from tests.support.wire import PATIENCE_S

ENFORCED = "pod-security.kubernetes.io/enforce"
ON, OFF, REV = {"istio-injection": "enabled"}, {"istio-injection": "disabled"}, {"istio.io/rev": "1-28"}
MESHED, OUT = {"linkerd.io/inject": "enabled"}, {"linkerd.io/inject": "disabled"}
LEAD = "config.linkerd.io/skip-inbound-ports"


def made(asked, labels=None, annotations=None, defaults: InjectorDefaults = HOUSE) -> Injected:
    """Return what becomes of a pod in a namespace that says this."""
    around = Around(labels, namespace_annotations=annotations or {})
    outcome = inject(asked, defaults, "shop", around=around)
    assert isinstance(outcome, Injected)
    return outcome


def beside(outcome: Injected) -> str:
    """Return which mesh it was made for."""
    annotations = outcome.pod["metadata"].get("annotations", {})
    istio, linkerd = "traffic.sidecar.istio.io/excludeInboundPorts" in annotations, LEAD in annotations
    assert (outcome.config.lifecycle.propagation == "mesh") == (istio or linkerd)
    return "istio" if istio else "linkerd" if linkerd else ""


def own(word: str) -> dict:
    return {"sidecar.istio.io/inject": word}


@pytest.mark.parametrize(
    ("labels", "annotations", "asked", "mesh"),
    [
        (ON, {}, pod(), "istio"),
        (REV, {}, pod(), "istio"),
        (OFF, {}, pod(), ""),
        (OFF | REV, {}, pod(), ""),
        (OFF, {}, pod(labels=own("true")), ""),
        (ON, {}, pod(labels=own("false")), ""),
        (ON, {}, pod(annotations=own("false")), ""),
        (ON, {}, pod(labels=own("true"), annotations=own("false")), "istio"),
        (REV, {}, pod(labels=own("false")), ""),
        ({}, {}, pod(labels=own("true")), "istio"),
        ({}, {}, pod(labels=REV), "istio"),
        ({}, {}, pod(labels=REV | own("false")), ""),
        (None, {}, pod(labels=own("true")), "istio"),
        ({}, MESHED, pod(), "linkerd"),
        ({}, {"linkerd.io/inject": "ingress"}, pod(), "linkerd"),
        ({}, OUT, pod(), ""),
        ({}, OUT, pod(annotations=MESHED), "linkerd"),
        ({}, MESHED, pod(annotations=OUT), ""),
        (ON, MESHED, pod(annotations=own("false")), "linkerd"),
        ({"istio.io/dataplane-mode": "ambient"}, {}, pod(), ""),
        (None, {}, pod(), ""),
    ],
    ids=str,
)
def test_the_mesh_of_a_namespace_is_fitted(labels, annotations, asked, mesh):
    """The preset is the mesh's and the admin port stays out of it; a pod's own word goes first."""
    assert beside(made(asked, labels, annotations)) == mesh


@pytest.mark.parametrize(
    ("chosen", "labels", "asked", "mesh"),
    [
        ("istio", {}, pod(), "istio"),
        ("linkerd", None, pod(), "linkerd"),
        ("linkerd", ON, pod(), "linkerd"),
        ("none", ON, pod(), ""),
        ("none", {}, pod(labels=own("true")), ""),
        ("none", {}, pod(initContainers=[{**ISTIO, "restartPolicy": "Always"}]), "istio"),
        ("auto", ON, pod(), "istio"),
    ],
    ids=str,
)
@pytest.mark.parametrize("by", ["the pod", "the house"])
def test_a_mesh_that_is_chosen(chosen, labels, asked, mesh, by):
    """By an annotation, or for every pod; a proxy that is there is seen all the same."""
    defaults = HOUSE
    if by == "the pod":
        metadata = {**asked["metadata"], "annotations": {"drainproxy.io/mesh": chosen}}
        asked = {**asked, "metadata": metadata}
    else:
        defaults = InjectorDefaults(annotations={"mesh": chosen})
    assert beside(made(asked, labels, defaults=defaults)) == mesh


def test_what_a_namespace_says_to_linkerd_still_holds():
    """A pod's list of ports hides its namespace's: ours goes behind it. Its patience is the pod's too."""
    patient = {"config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "50"}
    outcome = made(pod(terminationGracePeriodSeconds=60), {}, {**MESHED, **patient, LEAD: "25,4222"})
    assert outcome.pod["metadata"]["annotations"] == {LEAD: "25,4222,29900"}
    assert outcome.said == ()
    outcome = made(pod(annotations={LEAD: "3306"}), {}, {**MESHED, LEAD: "25"})
    assert outcome.pod["metadata"]["annotations"][LEAD] == "3306,29900"
    assert "the linkerd proxy must outlast the drain" in outcome.said[0]


@pytest.mark.parametrize("where", ["shop", "other"])
def test_a_namespace_among_the_files(where):
    """What it says holds for the workloads that name it, and for no others."""
    namespace = {"apiVersion": "v1", "kind": "Namespace"}
    metadata = {"name": "shop", "labels": ON, "annotations": {**MESHED, LEAD: 25, "note": None}}
    thing = pod()
    thing["metadata"]["namespace"] = where
    text = yaml.safe_dump_all([thing, {**namespace, "metadata": metadata}])
    stream = read([("", text)], HOUSE, every=False)
    [injected] = [each.injected for each in stream.workloads if each.injected]
    assert beside(injected) == ("istio" if where == "shop" else "")


async def meshed(webhook) -> bool:
    """Tell whether a new pod is fitted to a mesh."""
    _, answered = await webhook.ask(review(owned(app())))
    return "the istio proxy must outlast" in " ".join(answered["response"].get("warnings", ()))


async def becomes(webhook, expected: bool) -> None:
    """Ask until what the namespace says has come through."""
    async with asyncio.timeout(PATIENCE_S):
        while await meshed(webhook) != expected:
            pass


def enable(api) -> None:
    api.store.put(NAMESPACES, {"metadata": {"name": "shop", "labels": ON}})


async def test_the_first_review_knows_its_namespace(tmp_path):
    """It is listed before the door opens, and what changes later is watched: also a namespace that goes."""
    async with telling(tmp_path, put=enable) as (webhook, api):
        assert await meshed(webhook)
        api.store.put(NAMESPACES, {"metadata": {"name": "shop", "labels": OFF}})
        await becomes(webhook, False)
        enable(api)
        await becomes(webhook, True)
        api.store.delete(NAMESPACES, None, "shop")
        await becomes(webhook, False)
        assert [each.verb for each in api.journal.requests if each.resource == "namespaces"].count("get") == 0


async def test_a_watch_that_comes_too_late_is_begun_anew(tmp_path):
    """The server has forgotten where it was: everything is listed again (Kubernetes: API concepts, 410)."""
    with contextlib.ExitStack() as stack:

        def forget(api) -> None:
            late = api.faults.on(watch(expired_after=1), verb="watch", resource="namespaces", times=1)
            stack.enter_context(late)

        async with telling(tmp_path, put=forget) as (webhook, api):
            enable(api)
            await becomes(webhook, True)
            api.store.put(NAMESPACES, {"metadata": {"name": "shop", "labels": OFF}})
            await becomes(webhook, False)
            lists = api.journal.of("list", "namespaces")
            assert len([each for each in lists if "labelSelector" not in each.query]) == 2


async def test_namespaces_that_may_not_be_read_are_unknown(tmp_path):
    """It is said once the list was refused, and every review is answered without them."""
    async with telling(tmp_path, GRANTED[:3], put=enable) as (webhook, _):
        assert (await webhook.line("kubernetes_api", asked="namespaces"))["reason"] == "denied"
        assert not await meshed(webhook)


async def test_the_pod_security_of_the_namespace_decides_about_redirect(tmp_path):
    """It is known before the pod is made, so that an API server need not refuse it."""

    def restrict(api) -> None:
        api.store.put(NAMESPACES, {"metadata": {"name": "shop", "labels": {ENFORCED: "baseline"}}})

    more = ("--redirect-image", "example/redirect:1")
    async with telling(tmp_path, put=restrict, more=more) as (webhook, _):
        asked = owned(app(), annotations={"drainproxy.io/capture": "redirect"})
        _, answered = await webhook.ask(review(asked))
        said = " ".join(answered["response"]["warnings"])
        assert "PodSecurity level baseline does not allow redirect" in said
        elsewhere = await webhook.ask(review(asked, namespace="till"))
        assert "PodSecurity must be privileged here" in " ".join(elsewhere[1]["response"]["warnings"])


@pytest.mark.parametrize(
    ("house", "namespace", "own", "preset"),
    [
        ({}, "alb", None, "alb"),
        ({"propagation": "agic"}, "alb", None, "alb"),
        ({"propagation": "agic"}, "alb", "none", "none"),
        ({"propagation": "agic"}, None, None, "agic"),
    ],
    ids=str,
)
def test_a_preset_for_a_namespace(house, namespace, own, preset):
    """Its annotations stand above what holds for every pod, and below the pod's own."""
    asked, here = (
        {} if text is None else {"drainproxy.io/propagation": text, "other.example/propagation": "x"}
        for text in (own, namespace)
    )
    outcome = made(pod(annotations=asked), {}, here, InjectorDefaults(annotations=house))
    assert outcome.config.lifecycle.propagation == preset


def test_a_wish_of_a_namespace_that_is_none():
    """It is refused as a pod's own is, with the words that are allowed."""
    with pytest.raises(
        InjectionRefused, match="propogation is no option; did you mean propagation"
    ) as caught:
        made(pod(), {}, {"drainproxy.io/propogation": "alb"})
    assert caught.value.result == "invalid"


REVISED = InjectorDefaults(images={"": "example/old:1", "canary": "example/new:2"})


@pytest.mark.parametrize(
    ("namespace", "own", "image"),
    [
        ("canary", None, "example/new:2"),
        ("canary", "", "example/old:1"),
        ("", "canary", "example/new:2"),
        (None, None, "example/old:1"),
    ],
)
def test_a_revision_for_a_namespace(namespace, own, image):
    """The label of the pod goes first."""
    own_labels, here = ({} if text is None else {"drainproxy.io/rev": text} for text in (own, namespace))
    outcome = made(pod(labels=own_labels), here, defaults=REVISED)
    assert outcome.pod["spec"]["initContainers"][-1]["image"] == image


async def test_the_webhook_follows_a_namespace(tmp_path):
    """Its revision and its preset."""

    def choose(api) -> None:
        said = {
            "labels": {"drainproxy.io/rev": "canary"},
            "annotations": {"drainproxy.io/propagation": "alb"},
        }
        api.store.put(NAMESPACES, {"metadata": {"name": "shop", **said}})

    async with telling(tmp_path, put=choose) as (webhook, _):
        _, answered = await webhook.ask(review(owned(app())))
        patch = base64.b64decode(answered["response"]["patch"]).decode()
        assert "example/new:2" in patch
        assert '"value":105' in patch
        _, elsewhere = await webhook.ask(review(owned(app()), namespace="till"))
        assert "example/drainproxy:1" in base64.b64decode(elsewhere["response"]["patch"]).decode()
