"""One drainproxy process in a pod of a cluster whose API server may misbehave."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.integration.application import Application
from tests.support.cluster.access import tier
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.objects import Endpoint, Membership
from tests.support.cluster.resources import EVENTS
from tests.support.cluster.server import ApiServer
from tests.support.process import Proxy
from tests.support.upstream import OK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.upstream import Connection

SHORT = {
    "propagation": "cluster",
    "propagation_min": "400ms",
    "propagation_margin": "200ms",
    "propagation_quiet": "200ms",
    "propagation_max": "3s",
    "sparse_min": "400ms",
    "leave_spread": "100ms",
    "settle": "50ms",
    "linger": "100ms",
    "grace_period": "20s",
    "log_format": "json",
}
"""As the defaults, and over soon."""

BY_WORD = {"propagation_min": "10s", "propagation_max": "10s"}
"""Only the cluster's word ends propagation before a test is out of patience."""


@dataclass
class Pod:
    """The process, its application, its cluster."""

    api: ApiServer
    account: Account
    member: Membership
    application: Application
    proxy: Proxy

    async def looked(self) -> None:
        """Wait until the look at start is over."""
        await self.proxy.line("cluster")

    def asked(self) -> list[str]:
        """Return what the process has asked of the API, in its order."""
        return [f"{each.verb} {each.resource}" for each in self.api.journal.requests]

    def events(self) -> list[dict[str, Any]]:
        """Return the Events that were written."""
        return self.api.store.list(EVENTS, "shop", cached=False)[1]

    async def end(self) -> dict[str, Any]:
        """Send SIGTERM; return the report of a process that exits well."""
        self.proxy.signal()
        assert await self.proxy.exit_code() == 0
        return await self.proxy.line("drain_report")

    def conditions(self) -> list[tuple[str, str]]:
        """Return each complaint about the API, by what was asked and why not."""
        lines = [line for line in self.proxy.lines if line["event"] == "kubernetes_api"]
        return [(line["asked"], line["reason"]) for line in lines]


async def _answers(connection: Connection) -> None:
    while (await connection.read_request()).start:
        await connection.send(OK)


@contextlib.asynccontextmanager
async def pod(
    directory: Path,
    *,
    rbac: str = "slices",
    granted: str | None = None,
    serves: bool = True,
    up: bool = True,
    alone: bool = False,
    row: dict[str, bool] | None = None,
    spec: dict[str, Any] | None = None,
    bare: bool = False,
    variables: dict[str, str] | None = None,
    **settings: str,
) -> AsyncIterator[Pod]:
    """Run a pod. `granted`: the tier its account has, if not the one that is asked for.

    `serves`: its application answers by itself. `up`: there is one to be ready for. `alone`: nobody else is.
    `bare`, `variables`: as a container is started, and what else is in its environment.
    `row`: conditions of the own row at first, if it is not ready and serving.
    """
    tls, authority = server_tls(directory / "tls")
    async with ApiServer(tls=tls) as api, Application(_answers if serves else None) as application:
        account = Account(
            api, directory / "account", tier(granted or rbac, "shop"), namespace="shop", authority=authority
        )
        member = Membership(api.store, others=[] if alone else [Endpoint("web-2", "other")])
        member.appear(grace_s=20, spec=spec)
        if row is not None:
            member.write(**row)
        env = {
            **account.environment(),
            "DRAINPROXY_POD_NAME": member.name,
            "DRAINPROXY_POD_NAMESPACE": member.namespace,
            "DRAINPROXY_POD_UID": member.uid,
            "DRAINPROXY_NODE_NAME": "node-1",
            "DRAINPROXY_KUBERNETES_CREDENTIALS": str(account.directory),
            "DRAINPROXY_RBAC": rbac,
            **(variables or {}),
        }
        if not up:
            await application.stop_listening()
        async with Proxy(
            upstreams=[application.address], env=env, bare=bare, **{**SHORT, **settings}
        ) as proxy:
            if up:
                await proxy.ready()
            yield Pod(api, account, member, application, proxy)
