"""A cluster in one file each: certificates are made once, credentials for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy.eventloop import Loop
from drainproxy.proxy.wire.selector import new_event_loop
from tests.kube import workload
from tests.kube.server import TOKEN
from tests.support.authority import Authority
from tests.support.cluster.access import EVERYTHING, tier
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.resources import AUTOSCALERS, DEPLOYMENTS, NAMESPACES, NETWORK_POLICIES, SERVICES
from tests.support.cluster.server import ApiServer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the loops; the standard one, where a test names none."""
    loops = {"asyncio": new_event_loop, "uvloop": Loop}
    marked = item.get_closest_marker("asyncio")
    return loops if marked and "loop_factories" in marked.kwargs else {"asyncio": loops["asyncio"]}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the API server's certificate."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def credentials(tmp_path, authority: Authority):
    """The directory that a ServiceAccount's projected volume would be mounted on."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "ca.crt").write_bytes(authority.file.read_bytes())
    return tmp_path


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
