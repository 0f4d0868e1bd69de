"""A small cluster: an API server over TLS, a ServiceAccount, one Service's controller, and a kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.cluster.access import tier
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.endpoints import EndpointsController
from tests.support.cluster.objects import pod
from tests.support.cluster.resources import PODS
from tests.support.cluster.server import ApiServer
from tests.support.kubelet import application
from tests.support.kubelet.kubelet import Image, Kubelet
from tests.support.kubelet.wirings import TRAFFIC_PORT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.support.kubelet.kubelet import Pod
    from tests.support.kubelet.sandbox import Sandbox

CREDENTIALS = "/var/run/secrets/kubernetes.io/serviceaccount"
_START_S = 60.0
"""For a pod to become ready on a machine that has much else to do."""


class Cluster:
    """`async with cluster(...) as it:` makes one; its pods end with the block."""

    def __init__(
        self,
        api: ApiServer,
        account: Account,
        kubelet: Kubelet,
        ledger: Path,
        endpoints: EndpointsController,
        namespace: str,
    ) -> None:
        self.api = api
        self.account = account
        self.kubelet = kubelet
        self.endpoints = endpoints
        self._namespace = namespace
        self.ledger = ledger
        """What the applications write their orders into."""

    def neighbour(self) -> None:
        """Let a pod of another node be ready in the Service: nobody is alone then, and nobody calls it."""
        thing = pod("web-elsewhere", str(uuid.uuid4()), namespace=self._namespace, node="node-2")
        self.api.store.put(PODS, {**thing, "status": {**thing["status"], "podIP": "192.0.2.1"}})

    async def run(self, manifest: dict[str, Any]) -> Pod:
        """Start a pod; return it when it is ready."""
        pod = await self.kubelet.run(manifest)
        try:
            async with asyncio.timeout(_START_S):
                await pod.ready.wait()
        except TimeoutError:
            said = {each.name: each.lines[-5:] for each in pod.containers}
            raise AssertionError(f"the pod does not become ready: {said}") from None
        return pod


@contextlib.asynccontextmanager
async def cluster(
    *,
    rbac: str = "slices",
    namespace: str = "default",
    port: int = TRAFFIC_PORT,
    images: Mapping[str, Image] | None = None,
) -> AsyncIterator[Cluster]:
    """Run a cluster whose ServiceAccount may do what a tier says; `port`: the Service's targetPort."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        directory = Path(name)
        tls, authority = server_tls(directory / "tls")
        async with ApiServer(tls=tls) as api:
            account = Account(
                api, directory / "account", tier(rbac, namespace), namespace=namespace, authority=authority
            )
            ledger = directory / "ledger"
            controller = EndpointsController(api.store, service="web", namespace=namespace, port=port)
            controlling = asyncio.ensure_future(controller.run())
            kubelet = Kubelet(
                api.store,
                {"application": _application(ledger), **(images or {})},
                mounts={CREDENTIALS: account.directory},
                environment=account.environment(),
            )
            api.logs, api.on_delete = kubelet.log, kubelet.evict
            try:
                async with kubelet:
                    yield Cluster(api, account, kubelet, ledger, controller, namespace)
            finally:
                controlling.cancel()


def _application(ledger: Path) -> Image:
    def command(sandbox: Sandbox) -> list[str]:
        return [sys.executable, application.__file__, sandbox.ip, "8080", str(ledger)]

    return command
