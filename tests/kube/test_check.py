"""`drainproxy check` against a live API server: what it reads, prints and exits with."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from tests.kube import workload
from tests.support.cluster.access import EVERYTHING, Rule, tier
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.resources import (
    AUTOSCALERS,
    DEPLOYMENTS,
    NAMESPACES,
    NETWORK_POLICIES,
    PODS,
    SERVICES,
)
from tests.support.cluster.server import ApiServer
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


@pytest.fixture
async def api(tmp_path):
    """A cluster with a workload that drains well; `api.admin` is who asks."""
    tls, authority = server_tls(tmp_path / "tls")
    async with ApiServer(tls=tls) as api:
        api.admin = Account(
            api, tmp_path / "admin", [EVERYTHING], name="admin", token="admin-token", authority=authority
        )
        Account(api, tmp_path / "web", tier("slices", "shop"), authority=authority)
        api.store.put(DEPLOYMENTS, workload.deployment())
        api.store.put(SERVICES, workload.service())
        api.store.put(SERVICES, {**workload.service(8080), "metadata": {"name": "x", "namespace": "else"}})
        api.store.put(AUTOSCALERS, workload.autoscaler())
        api.store.put(NETWORK_POLICIES, workload.policy(28080, 29900))
        api.store.put(NAMESPACES, {"metadata": {"name": "shop"}})
        yield api


async def check(api, *more: str, target: str = "deploy/web") -> tuple[int, str, str]:
    """Check the workload."""
    return await drainproxy("check", target, "-n", "shop", "--kubeconfig", str(api.admin.kubeconfig()), *more)


async def test_a_workload_that_drains_well(api):
    """One line a subject, exit 0, and nothing is written."""
    code, out, err = await check(api)
    assert (code, err) == (0, "")
    assert [line[:4] for line in out.splitlines()] == ["ok  "] * 14
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
    running = {"name": "web-1", "namespace": "shop", "labels": workload.LABELS}
    api.store.put(PODS, {"metadata": running, "spec": workload.spec()})
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
