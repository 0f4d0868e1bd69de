"""Every way in makes the same pod of the same pod."""

from __future__ import annotations

import contextlib
import copy

import pytest

from drainproxy.errors import InjectionRefused
from drainproxy.injector.patch import inject
from drainproxy.podspec import applications, pre_stop
from tests.injector.pods import PLAIN_TABLE, PREFIX, Row
from tests.injector.ways import HOUSE, by_file, by_webhook, placed
from tests.injector.wishes import TABLE

INJECTED = [row for row in TABLE if row.result == "injected"]
LEFT = [row for row in TABLE if row.result != "injected"]


def rows(table: list[Row]):
    return pytest.mark.parametrize("row", table, ids=[row.id for row in table])


def sidecar(pod):
    """Return our container and where it stands."""
    spec = pod["spec"]
    native = [each for each in spec.get("initContainers", []) if each["name"] == "drainproxy"]
    plain = [each for each in spec["containers"] if each["name"] == "drainproxy"]
    [ours] = native + plain
    return ours, spec["initContainers"] if native else spec["containers"]


@rows(TABLE)
def test_file_and_webhook_agree(row):
    """`drainproxy inject` and the webhook make the same pod, and say the same."""
    assert by_file(row) == by_webhook(row)


@rows(INJECTED)
def test_injected(row):
    """The sidecar listens and forwards as the row says, and what is said of it is exactly that."""
    pod, said = by_webhook(row)
    ours, among = sidecar(pod)
    env = {each["name"]: each.get("value") for each in ours["env"]}
    assert (env["DRAINPROXY_LISTEN"], env["DRAINPROXY_UPSTREAM"]) == (row.listen, row.upstream)
    assert env.items() >= row.env.items()
    assert said == list(row.said)
    assert among[-1] is ours
    grace = pod["spec"].get("terminationGracePeriodSeconds")
    assert grace == row.grace
    assert env["DRAINPROXY_GRACE_PERIOD"] == f"{grace or 30}s"
    assert pod["metadata"]["labels"][f"{PREFIX}injected"] == "true"


@rows(INJECTED)
def test_nothing_else_changes(row):
    """Only what the sidecar needs is touched; and a second time nothing is."""
    before, (after, _) = placed(row), by_webhook(row)
    assert by_webhook(Row(id="again", pod=after, namespace=row.namespace)) == (after, [])
    ours, among = sidecar(after)
    among.remove(ours)
    for each in applications(after["spec"]):
        hook = pre_stop(each)
        assert hook.get("httpGet", {}).get("path") == "/drain/wait" or "keeps its preStop" in str(row.said)
        each["lifecycle"] = {**each.get("lifecycle", {})}
    spec = after["spec"]
    volumes = [each for each in spec.pop("volumes", []) if not each["name"].startswith("drainproxy-")]
    assert volumes == before["spec"].pop("volumes", [])
    for key in ("containers", "initContainers", "terminationGracePeriodSeconds"):
        kept, was = spec.pop(key, []), before["spec"].pop(key, [])
        if key.endswith("ontainers"):
            assert [each["name"] for each in kept] == [each["name"] for each in was]
            assert [each["image"] for each in kept] == [each["image"] for each in was]
    assert spec == before["spec"]


@rows(INJECTED)
def test_the_token_is_the_sidecars_alone_and_no_storage_is_local(row):
    """Whoever reaches the socket may drain the pod; whoever reads the token may ask the cluster."""
    pod, _ = by_webhook(row)
    volumes = {each["name"]: each for each in pod["spec"].get("volumes", [])}
    given = row.pod["spec"].get("volumes", [])
    # kubectl drain and the cluster autoscaler leave pods with local storage alone.
    assert [each for each in volumes.values() if "emptyDir" in each] == [e for e in given if "emptyDir" in e]
    for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
        mounted = {each["name"] for each in container.get("volumeMounts", ()) if each["name"] in volumes}
        ours = {name for name in mounted if name.startswith("drainproxy-")}
        assert container["name"] == "drainproxy" or not ours
    tokens = [each for each in volumes.values() if "serviceAccountToken" in str(each)]
    assert len(tokens) == (sidecar(pod)[0]["env"] != [] and "drainproxy-token" in volumes)
    assert pod["spec"].get("automountServiceAccountToken") == row.pod["spec"].get(
        "automountServiceAccountToken"
    )


@rows(INJECTED)
def test_no_annotation_chooses_an_image_or_a_right(row):
    """The operator names images; who may write a pod gets the restricted sidecar whatever it says."""
    ours, _ = sidecar(by_webhook(row)[0])
    assert ours["image"] in HOUSE.images.values()
    rights = dict(ours["securityContext"])
    assert rights.pop("runAsUser", 1) > 0
    assert rights.pop("runAsGroup", 1) > 0
    assert rights == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@rows(INJECTED)
def test_ports_and_probes(row):
    """Every taken name is the sidecar's alone, and probes of the application go to its numbers."""
    pod, _ = by_webhook(row)
    ours, _ = sidecar(pod)
    names = {each.get("name") for each in ours["ports"]} - {None}
    assert "drain-admin" in names
    listens = [each["containerPort"] for each in ours["ports"][:-1]]
    assert row.listen == ",".join(f":{port}" for port in listens)
    theirs = [port for each in applications(pod["spec"]) for port in each.get("ports", [])]
    assert names.isdisjoint(each.get("name") for each in theirs)
    assert {*listens, ours["ports"][-1]["containerPort"]}.isdisjoint(each["containerPort"] for each in theirs)
    for container in applications(pod["spec"]):
        declared = {port.get("name") for port in container.get("ports", [])}
        places = [container.get(name, {}) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
        for handler in (value for place in places for value in place.values()):
            assert isinstance(handler["port"], int) or handler["port"] in declared


@rows(LEFT)
def test_left_alone(row):
    """A pod that cannot have it, or does not want it, is the same afterwards, and the reason is said."""
    pod, said = by_webhook(row)
    assert pod == placed(row)
    assert len(said) == bool(row.said) if row.id != "several at once" else 2
    for text, begin in zip(said, row.said, strict=False):
        assert text.startswith(begin)


def test_nobody_changes_what_it_is_given():
    """The pod that is handed in stays as it is."""
    for row in TABLE:
        pod = placed(row)
        before = copy.deepcopy(pod)
        with contextlib.suppress(InjectionRefused):
            inject(pod, HOUSE, row.namespace)
        assert pod == before


def test_the_table_is_large_enough():
    """The table has the pods that the ways have to agree on."""
    assert len(TABLE) >= 40
    assert all(row.policy for row in PLAIN_TABLE)
