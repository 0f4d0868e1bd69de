"""No local port is left for a connection to the application: that says nothing of the application."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from tests.integration.application import Application
from tests.integration.scene import OK, OK_CLOSE, entered, get
from tests.support.client import Client
from tests.support.network import ADMIN, POD, TRAFFIC
from tests.support.process import Proxy
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from tests.support.network import Namespace

PORTS = 2
BREAKER_FAILURES = 5
IPV6_OFF = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"


def proxy_in(pod: Namespace, upstream: str, loop_kind: str, **settings: str) -> Proxy:
    """A proxy in the pod's namespace."""
    where = {"network": pod.pid, "listen": f":{TRAFFIC}", "admin": f":{ADMIN}"}
    return Proxy(upstreams=[upstream], loop=loop_kind, settle="50ms", **where, **settings)


async def caller(neighbour: Namespace, port: int = TRAFFIC) -> Client:
    """A client that has ports of its own."""
    wire = neighbour.within(socket.socket)
    wire.setblocking(False)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.get_running_loop().sock_connect(wire, (POD, port))
    return Client(wire)


async def give_ports(pod: Namespace, count: int) -> None:
    """Have so many local ports, and no more."""
    await pod.run("sh", "-c", f"echo 40000 {39999 + count} > /proc/sys/net/ipv4/ip_local_port_range")


async def readiness(neighbour: Namespace) -> int:
    async with await caller(neighbour, ADMIN) as client:
        return (await client.ask(get("/readyz"))).status


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_ports_that_are_used_up_make_no_application_fall(
    neighbours: tuple[Namespace, Namespace], loop_kind: str, host: str
) -> None:
    """Who comes meanwhile is told so, and may come again: no breaker opens, and the door stays open. That
    nobody listens at another address of `localhost` does not speak for the one that was not asked."""
    pod, neighbour = neighbours
    async with (
        pod.within(Application) as upstream,
        proxy_in(pod, f"http://{host}:{upstream.port}", loop_kind) as proxy,
    ):
        await proxy.ready()
        await give_ports(pod, PORTS)
        held = []
        for _ in range(PORTS):
            client = await caller(neighbour)
            await client.send(get())
            held.append((client, await entered(upstream)))
        for _ in range(2 * BREAKER_FAILURES):
            async with await caller(neighbour) as client:
                answer = await client.ask(get())
                assert answer.status == 503
                assert answer.body.startswith(b"503 Service Unavailable: out-of-sockets")
        assert await readiness(neighbour) == 200
        assert not [line for line in proxy.lines if line["event"] in {"application", "breaker"}]
        for client, application in held:
            await application.send(OK_CLOSE)
            assert (await client.final()).raw == OK
            client.close()
        await give_ports(pod, 2 * PORTS)
        async with await caller(neighbour) as client:
            await client.send(get())
            await (await entered(upstream)).send(OK)
            assert (await client.final()).raw == OK


async def test_an_address_that_this_machine_has_not_says_nothing_of_ports(
    neighbours: tuple[Namespace, Namespace], loop_kind: str
) -> None:
    """Without IPv6 ::1 cannot be asked, and nobody listens at 127.0.0.1: the application is not there."""
    pod, neighbour = neighbours
    await pod.run("sh", "-c", IPV6_OFF)
    for host in ("localhost", "[::1]"):
        async with (
            proxy_in(pod, f"http://{host}:1", loop_kind, connect_timeout="50ms"),
            await caller(neighbour) as client,
        ):
            assert (await client.ask(get())).body.startswith(b"503 Service Unavailable: upstream-refused")
