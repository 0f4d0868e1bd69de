"""`drainproxy check` against a live API server: what it reads, prints and exits with."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from tests.kube import workload
from tests.support.cluster.access import Rule
from tests.support.cluster.resources import (
    DEPLOYMENTS,
    LIMIT_RANGES,
    PODS,
    REPLICA_SETS,
    ROLLOUTS,
    SERVICES,
    SLICES,
)
from tests.support.command import environment


async def drainproxy(*arguments: str, **env: str) -> tuple[int, str, str]:
    """Run the command beside the server; return its exit code and what it said."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "drainproxy",
        *arguments,
        env=environment(**env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await child.communicate()
    return child.returncode, out.decode(), err.decode()


def owned(api, name: str, spec, *, owner: str = "web", **metadata) -> dict:
    """Put a running pod of a Deployment, with the ReplicaSet between them."""
    deployment = api.store.get(DEPLOYMENTS, "shop", owner)
    replicas = api.store.put(
        REPLICA_SETS,
        {
            "metadata": {
                "name": f"{owner}-5d4f",
                "namespace": "shop",
                "ownerReferences": [reference(deployment, "Deployment")],
            }
        },
    )
    pod = {
        "name": name,
        "namespace": "shop",
        "labels": workload.LABELS,
        "ownerReferences": [reference(replicas, "ReplicaSet")],
        **metadata,
    }
    return api.store.put(PODS, {"metadata": pod, "spec": spec})


def reference(owner: dict, kind: str) -> dict:
    """Return what a controller writes into what it owns."""
    return {
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }


async def check(api, *more: str, target: str = "deploy/web") -> tuple[int, str, str]:
    """Check the workload."""
    return await drainproxy("check", target, "-n", "shop", "--kubeconfig", str(api.admin.kubeconfig()), *more)


async def test_a_workload_that_drains_well(api):
    """One line a subject, exit 0, and nothing is written."""
    code, out, err = await check(api)
    assert (code, err) == (0, "")
    assert [line[:4] for line in out.splitlines()] == ["ok  "] * 16
    assert {asked.verb for asked in api.journal.requests} <= {"get", "list", "create"}
    assert {asked.resource for asked in api.journal.of("create")} == {"subjectaccessreviews"}


async def test_a_failure_says_what_to_change(api):
    """Exit 1, also for machines."""
    api.store.put(SERVICES, workload.service("web"))
    code, out, _ = await check(api)
    assert code == 1
    assert "FAIL  targetPort        Service web sends port 80 to web" in out
    code, out, _ = await check(api, "--json")
    assert code == 1
    (failed,) = [verdict for verdict in json.loads(out) if verdict["passed"] is False]
    assert failed["what"] == "targetPort"


async def test_a_running_pod_counts_more_than_its_template(api):
    """A webhook adds the sidecar to pods, and the Deployment knows nothing of it."""
    bare = workload.deployment()
    bare["spec"]["template"]["spec"] = {"containers": [{"name": "app"}]}
    api.store.put(DEPLOYMENTS, bare)
    assert (await check(api))[0] == 1
    leaving = {"name": "web-0", "namespace": "shop", "labels": workload.LABELS, "deletionTimestamp": "now"}
    api.store.put(PODS, {"metadata": leaving, "spec": {"containers": []}})
    owned(api, "web-1", workload.spec())
    assert (await check(api))[0] == 0


async def test_rights_are_those_of_the_pods_account(api, tmp_path):
    """Not of the person who asks."""
    web = next(each for each in api.access.subjects.values() if each.name.endswith(":web"))
    web.rules = ()
    code, out, _ = await check(api)
    assert code == 1
    assert out.count("the ServiceAccount may not") == 3


async def test_what_may_not_be_read_is_a_question_mark(api):
    """Whoever asks may see little: that is no failure of the workload."""
    api.admin.subject.rules = (Rule("apps", "deployments", ("get",)),)
    code, out, _ = await check(api)
    assert code == 0
    assert "?     targetPort        cannot be told: 403:" in out
    assert "?     RBAC" in out


BARE = {"containers": [{"name": "app", "ports": [{"containerPort": 8080}]}]}


async def test_a_canary_with_the_same_labels_says_nothing_of_a_workload(api):
    """Whose a pod is its ownerReferences say: a bare Deployment beside it loses requests."""
    bare = workload.deployment()
    bare["spec"]["template"]["spec"] = BARE
    api.store.put(DEPLOYMENTS, bare)
    owned(api, "web-1", BARE)
    canary = workload.deployment()
    canary["metadata"]["name"] = "web-canary"
    api.store.put(DEPLOYMENTS, canary)
    owned(api, "web-canary-1", workload.spec(), owner="web-canary")
    by_hand = {"name": "debug", "namespace": "shop", "labels": workload.LABELS}
    api.store.put(PODS, {"metadata": by_hand, "spec": workload.spec()})
    code, out, _ = await check(api)
    assert (code, out.count("\n")) == (1, 1)
    assert "FAIL  sidecar           no container runs drainproxy" in out
    assert (await check(api, target="deploy/web-canary"))[0] == 0


async def test_a_name_that_was_used_before_is_another_workload(api):
    """What the controller of the first one left has its uid."""
    bare = workload.deployment()
    bare["spec"]["template"]["spec"] = BARE
    api.store.put(DEPLOYMENTS, bare)
    replicas = api.store.get(REPLICA_SETS, "shop", owned(api, "web-1", workload.spec()) and "web-5d4f")
    replicas["metadata"]["ownerReferences"][0]["uid"] = "the-one-before"
    api.store.put(REPLICA_SETS, replicas)
    assert (await check(api))[0] == 1


async def test_without_a_right_to_replica_sets_their_names_tell(api):
    """A ReplicaSet is called after its Deployment, and its pods say which one they are of."""
    bare = workload.deployment()
    bare["spec"]["template"]["spec"] = BARE
    api.store.put(DEPLOYMENTS, bare)
    owned(api, "web-1", workload.spec())
    canary = {**bare, "metadata": {"name": "web-canary", "namespace": "shop"}}
    api.store.put(DEPLOYMENTS, canary)
    rules = [Rule("*", name, ("*",)) for name in ("deployments", "pods", "services", "endpointslices")]
    api.admin.subject.rules = tuple(rules)
    assert "ok    sidecar" in (await check(api))[1]
    assert "FAIL  sidecar" in (await check(api, target="deploy/web-canary"))[1]


@pytest.mark.parametrize("selector", [{"matchExpressions": [{"key": "app", "operator": "Exists"}]}, {}])
async def test_pods_are_found_whatever_the_selector(api, selector):
    """A workload that selects by expressions only has pods all the same."""
    bare = workload.deployment()
    bare["spec"] = {"selector": selector, "template": {**bare["spec"]["template"], "spec": BARE}}
    api.store.put(DEPLOYMENTS, bare)
    owned(api, "web-1", workload.spec())
    assert (await check(api))[0] == 0


async def test_a_workload_scaled_to_nothing(api):
    """Its template may get the sidecar from a webhook, which no pod shows."""
    bare = workload.deployment()
    bare["spec"]["replicas"] = 0
    bare["spec"]["template"]["metadata"]["labels"] = {**workload.LABELS, "drainproxy.io/inject": "true"}
    bare["spec"]["template"]["spec"] = BARE
    api.store.put(DEPLOYMENTS, bare)
    code, out, _ = await check(api)
    assert code == 0
    assert out.startswith("?     sidecar")
    assert "no pod runs (replicas: 0)" in out


async def test_endpoints_that_are_written_by_hand_lead_callers_too(api):
    """A Service without a selector, and rows that name the pod."""
    pod = owned(api, "web-1", workload.spec())
    manual = {
        "metadata": {"name": "old", "namespace": "shop"},
        "spec": {"ports": [{"name": "x", "port": 80}]},
    }
    api.store.put(SERVICES, manual)
    row = {"targetRef": {"kind": "Pod", "name": "web-1", "uid": pod["metadata"]["uid"]}}
    api.store.put(
        SLICES,
        {
            "metadata": {
                "name": "old-1",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "old"},
            },
            "ports": [{"name": "x", "port": 8080}],
            "endpoints": [row],
        },
    )
    code, out, _ = await check(api)
    assert code == 1
    assert "Service old sends port 80 to 80, around drainproxy" in out


async def test_a_limit_range_of_the_namespace_is_read(api):
    """It gives the sidecar a CPU limit."""
    given = {"type": "Container", "default": {"cpu": "50m"}}
    api.store.put(
        LIMIT_RANGES, {"metadata": {"name": "usual", "namespace": "shop"}, "spec": {"limits": [given]}}
    )
    code, out, _ = await check(api)
    assert code == 1
    assert "LimitRange usual gives drainproxy a CPU limit of 50m" in out


async def test_an_old_cluster_finds_no_name_in_a_native_sidecar(api):
    """The API server says its version."""
    api.version = "v1.31.4"
    code, out, _ = await check(api)
    assert code == 1
    assert "Kubernetes 1.31 finds in no native sidecar" in out


@pytest.mark.parametrize(
    "word",
    ["deployments", "deployment.apps", "Deployment", "deployments.apps", "deployment.v1.apps", "DEPLOY"],
)
async def test_a_kind_is_written_as_for_kubectl(api, word):
    """In the plural, with its group, in any case."""
    assert (await check(api, target=f"{word}/web"))[0] == 0


async def test_a_rollout_of_argo_is_a_workload(api):
    """With its own template, or with a Deployment's."""
    rollout = {**workload.deployment(), "kind": "Rollout"}
    rollout["metadata"] = {"name": "shop", "namespace": "shop"}
    api.store.put(ROLLOUTS, rollout)
    for word in ("rollout", "rollouts.argoproj.io", "ro"):
        assert (await check(api, target=f"{word}/shop"))[0] == 0
    borrowed = {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}
    api.store.put(ROLLOUTS, {**rollout, "spec": borrowed})
    assert (await check(api, target="rollout/shop"))[0] == 0
    api.store.put(ROLLOUTS, {**rollout, "spec": {}})
    code, _, err = await check(api, target="rollout/shop")
    assert code == 69
    assert "it has no pod template" in err


KUBECONFIGS = {
    "no YAML": ("a: [b\n", "is no kubeconfig: it is not YAML: line 2:"),
    "binary": ("\0\1", "is no kubeconfig: it is not YAML"),
    "empty": ("", "is no kubeconfig: it is empty"),
    "a list": ("- a\n", "is no kubeconfig: it is not made of"),
    "of the wrong shape": ("clusters: x\n", "its clusters are no list of entries"),
    "no context": ("kind: Config\n", "no current-context is set"),
    "another context": ("current-context: a\ncontexts: [{name: b}]\n", "is no context (there are: b)"),
    "no cluster": (
        "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n",
        "names cluster c, which is not there",
    ),
    "no server": (
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c, cluster: {server: example}}]\n"
        ),
        "cluster c has no server such as https://HOST:6443",
    ),
    "a plugin that is not there": (
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
            "users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: none-x}}}]"
        ),
        "No such file or directory: 'none-x'",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), KUBECONFIGS.values(), ids=KUBECONFIGS.keys())
async def test_a_broken_kubeconfig_gets_a_sentence(text, sentence, tmp_path):
    """One line that names the file, exit 69."""
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    code, out, err = await drainproxy("check", "deploy/web", "--kubeconfig", str(file))
    assert (code, out, err.count("\n")) == (69, "", 1)
    assert str(file) in err
    assert sentence in err


async def test_several_kubeconfigs_are_one(api, tmp_path):
    """As for kubectl: joined by colons, and one of them need not be there."""
    files = f"{tmp_path}/none:{api.admin.kubeconfig()}"
    code, _, err = await drainproxy("check", "deploy/web", "-n", "shop", KUBECONFIG=files)
    assert (code, err) == (0, "")


async def test_a_workload_that_is_not_there(api):
    """Exit 69, as for every peer that cannot be asked."""
    code, out, err = await check(api, target="deploy/none")
    assert code == 69
    assert out == ""
    assert "404" in err


async def test_a_target_that_is_no_workload(api):
    """A usage error."""
    code, _, err = await check(api, target="pod/web")
    assert code == 64
    assert "write deploy/NAME" in err


async def test_no_cluster(tmp_path):
    """One line, exit 69."""
    code, out, err = await drainproxy("check", "deploy/web", HOME=str(tmp_path), KUBECONFIG="")
    assert code == 69
    assert out == ""
    assert err.startswith("drainproxy: deploy/web in namespace default: no way to the cluster")
    assert err.count("\n") == 1


async def test_what_the_cluster_says_gives_no_orders_to_the_terminal(api):
    """Names, images and messages are written by whoever may write to the cluster."""
    evil = "\x1b[2J\x9b31m\r\u202e"
    evil_pod = workload.deployment()
    template = evil_pod["spec"]["template"]
    for container in template["spec"]["containers"]:
        container["name"] = container["image"] = evil
    template["metadata"]["annotations"] = {"drainproxy.io/propagation": evil}
    api.store.put(DEPLOYMENTS, evil_pod)
    api.store.put(SERVICES, {**workload.service(evil), "metadata": {"name": evil, "namespace": "shop"}})
    for target in ("deploy/web", f"deploy/{evil}"):
        _, out, err = await check(api, target=target)
        assert out + err
        assert all(each.isprintable() for each in (out + err).splitlines())
