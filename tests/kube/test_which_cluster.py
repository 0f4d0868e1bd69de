"""Which cluster and namespace a person means: flags, KUBECONFIG and contexts, as kubectl takes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.kube import workload
from tests.kube.test_check import drainproxy
from tests.support.cluster.resources import DEPLOYMENTS, SERVICES

if TYPE_CHECKING:
    from pathlib import Path

VERBS = [("check", "deploy/web"), ("rollout", "deploy/web")]


def contexts(api, tmp_path: Path, current: str = "shop", **namespaces: str | None) -> str:
    """Write a kubeconfig with a context a name; all but `gone` lead to the same cluster."""
    document = json.loads(api.admin.kubeconfig().read_text())
    document["clusters"].append({"name": "gone", "cluster": {"server": "http://127.0.0.1:1"}})
    document["contexts"] = [
        {
            "name": name,
            "context": {
                "cluster": "gone" if name == "gone" else "test",
                "user": "test",
                **({"namespace": namespace} if namespace else {}),
            },
        }
        for name, namespace in namespaces.items()
    ]
    document["current-context"] = current
    file = tmp_path / "contexts"
    file.write_text(yaml.safe_dump(document))
    return str(file)


def asked(api) -> set[str]:
    """Return the namespaces that the API server was asked about."""
    return {each.namespace for each in api.journal.of("get", "deployments")}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
@pytest.mark.parametrize(
    ("words", "namespace"),
    [
        ((), "shop"),
        (("--context", "till"), "till"),
        (("--context=till",), "till"),
        (("--context", "bare"), "default"),
        (("--context", "till", "-n", "shop"), "shop"),
        (("-n", "elsewhere"), "elsewhere"),
        (("--namespace=elsewhere",), "elsewhere"),
    ],
    ids=str,
)
async def test_the_namespace_is_the_contexts_unless_it_is_named(api, tmp_path, verb, words, namespace):
    """Whoever has chosen one with kubectl means the same here."""
    file = contexts(api, tmp_path, shop="shop", till="till", bare=None, gone="shop")
    await drainproxy(*verb, *words, KUBECONFIG=file)
    assert asked(api) == {namespace}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
async def test_the_cluster_is_the_contexts(api, tmp_path, verb):
    """The current one leads nowhere, the one that is named to the cluster; a flag's file counts first."""
    file = contexts(api, tmp_path, current="gone", shop="shop", gone="shop")
    code, _, err = await drainproxy(*verb, KUBECONFIG=file)
    assert code == 69
    assert "refused" in err
    assert asked(api) == set()
    code, _, _ = await drainproxy(*verb, "--context", "shop", "--kubeconfig", file, KUBECONFIG="/nowhere")
    assert code != 69
    assert asked(api) == {"shop"}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
async def test_a_context_that_is_not_there_gets_a_sentence(api, tmp_path, verb):
    """With those that are."""
    file = contexts(api, tmp_path, shop="shop", till="till")
    code, out, err = await drainproxy(*verb, "--context", "shpo", KUBECONFIG=file)
    assert (code, out) == (69, "")
    assert "there is no context shpo (there are: shop, till)" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
async def test_a_context_needs_a_kubeconfig(tmp_path, verb):
    """Inside a pod there is none to choose from."""
    code, _, err = await drainproxy(*verb, "--context", "shop", HOME=str(tmp_path))
    assert code == 64
    assert "--context names a context of a kubeconfig, and there is none" in err


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
async def test_inside_a_pod_the_namespace_is_its_own(api, tmp_path, verb):
    """As the ServiceAccount's files say; where they say nothing, it is default."""
    inside = {
        **api.admin.environment(),
        "HOME": str(tmp_path),
        "DRAINPROXY_KUBERNETES_CREDENTIALS": str(api.admin.directory),
    }
    (api.admin.directory / "namespace").write_text("till\n")
    await drainproxy(*verb, **inside)
    assert asked(api) == {"till"}
    (api.admin.directory / "namespace").unlink()
    await drainproxy(*verb, **inside)
    assert asked(api) == {"till", "default"}


async def test_what_is_found_there_is_checked(api, tmp_path):
    """A whole check through a context, and nothing of it by default."""
    api.store.put(DEPLOYMENTS, workload.deployment())
    api.store.put(SERVICES, workload.service())
    file = contexts(api, tmp_path, current="gone", shop="shop", gone="shop")
    code, out, err = await drainproxy("check", "deploy/web", "--context", "shop", KUBECONFIG=file)
    assert (code, err) == (0, "")
    assert out.startswith("ok")
