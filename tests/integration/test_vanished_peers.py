"""Peers that vanish without a word, with their node or behind a cut cable: found out, and let go."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.settings import ProxySettings
from drainproxy.proxy.wire import keepalive
from tests.integration.application import Application
from tests.integration.scene import OK, entered, get, until
from tests.support.client import Client
from tests.support.network import ADMIN, NEIGHBOUR, POD, TRAFFIC
from tests.support.process import Proxy
from tests.support.wire import PATIENCE_S, End
from tests.support.words import switching, upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.network import Namespace
    from tests.support.upstream import Connection

SOON = {"tcp_keepalive_idle": "1s", "tcp_keepalive_interval": "1s", "tcp_keepalive_probes": "2"}


def proxy_in(pod: Namespace, upstream: str, loop_kind: str, **settings: str) -> Proxy:
    """A proxy in the pod's namespace."""
    where = {"network": pod.pid, "listen": f":{TRAFFIC}", "admin": f":{ADMIN}"}
    return Proxy(upstreams=[upstream], loop=loop_kind, **where, **settings)


@contextlib.asynccontextmanager
async def served(
    pod: Namespace, directory: Path, loop_kind: str, **settings: str
) -> AsyncIterator[tuple[Application, Proxy]]:
    """An application on a Unix socket, and a proxy in the pod's namespace that is ready for its callers."""
    async with (
        Application(path=directory / "application.sock") as upstream,
        proxy_in(pod, upstream.address, loop_kind, **SOON, **settings) as proxy,
    ):
        await proxy.ready()
        yield upstream, proxy


async def caller(namespace: Namespace) -> Client:
    """A client from `namespace`, connected to the proxy."""
    wire = namespace.within(socket.socket)
    wire.setblocking(False)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.get_running_loop().sock_connect(wire, (POD, TRAFFIC))
    return Client(wire)


async def cut(neighbour: Namespace) -> None:
    """Pull the cable out."""
    await neighbour.run("ip", "link", "set", "wire", "down")


async def upgraded(client: Client, upstream: Application) -> Connection:
    """Have a WebSocket to the application; return its end of it."""
    await client.send(upgrade("/", "websocket"))
    application = await entered(upstream)
    await application.send(switching("websocket"))
    assert (await client.read_response()).status == 101
    return application


async def half_asked(client: Client, upstream: Application) -> Connection:
    """Have asked, and wait for the answer."""
    await client.send(get())
    return await entered(upstream)


async def downloading(client: Client, upstream: Application) -> Connection:
    """Have a stream that is quiet at the moment."""
    application = await half_asked(client, upstream)
    await application.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
    await client.read_to(b"x")
    return application


@pytest.mark.parametrize("begin", [upgraded, half_asked, downloading])
async def test_a_client_that_vanished_holds_nothing(
    neighbours: tuple[Namespace, Namespace], tmp_path, loop_kind: str, begin: Callable
) -> None:
    """Its tunnel or request, its descriptor and the application's connection are gone soon after."""
    pod, neighbour = neighbours
    async with served(pod, tmp_path, loop_kind) as (upstream, proxy):
        client = await caller(neighbour)
        application = await begin(client, upstream)
        assert established(pod) == 1
        await cut(neighbour)
        await application.read_until_close()
        assert application.end in {End.FIN, End.RESET}
        await until(lambda: not established(pod), "its socket is still there")
        assert not [line for line in proxy.lines if line["event"] in {"defect", "library"}]
        client.close()


async def test_an_application_that_vanished_is_found_out(
    neighbours: tuple[Namespace, Namespace], loop_kind: str
) -> None:
    """Its client hears of it, and does not wait for the answer for ever."""
    pod, neighbour = neighbours
    async with neighbour.within(lambda: Application(host=NEIGHBOUR)) as upstream:
        address = f"http://{NEIGHBOUR}:{upstream.port}"
        async with proxy_in(pod, address, loop_kind, **SOON) as proxy:
            await proxy.ready()
            client = await caller(pod)
            await half_asked(client, upstream)
            await cut(neighbour)
            assert (await client.final()).status == 502
            client.close()


async def test_what_a_vanished_client_does_not_acknowledge_ends_it(
    neighbours: tuple[Namespace, Namespace], tmp_path, loop_kind: str
) -> None:
    """While bytes are on their way the kernel asks nothing: `tcp_user_timeout` is for those."""
    pod, neighbour = neighbours
    async with served(pod, tmp_path, loop_kind, tcp_user_timeout="1s") as (upstream, _):
        client = await caller(neighbour)
        application = await upgraded(client, upstream)
        await cut(neighbour)
        await application.send(b"\x82\x01x")
        await application.read_until_close()
        assert application.end in {End.FIN, End.RESET}
        client.close()


async def test_a_client_that_is_there_and_silent_stays(
    neighbours: tuple[Namespace, Namespace], tmp_path, loop_kind: str
) -> None:
    """Its kernel answers for it, however long it has nothing to say; and the path hears that."""
    pod, neighbour = neighbours
    async with served(pod, tmp_path, loop_kind) as (upstream, _):
        client = await caller(neighbour)
        application = await half_asked(client, upstream)
        await until(lambda: acknowledged(client) >= 4, "it was not asked")
        await application.send(OK)
        assert (await client.final()).raw == OK
        client.close()


def established(pod: Namespace) -> int:
    """Return how many connections of clients the proxy's kernel has (proc(5): net/tcp6)."""
    rows = [row.split() for row in Path(f"/proc/{pod.pid}/net/tcp6").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{TRAFFIC:04X}") and row[3] == "01" for row in rows)


def acknowledged(client: Client) -> int:
    """Return how many segments a client's kernel has got from the proxy (tcp_info, tcpi_segs_in)."""
    info = client.wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int.from_bytes(info[140:144], "little")


def test_off_is_off() -> None:
    """The sockets stay as the kernel makes them."""
    assert keepalive.options(ProxySettings(tcp_keepalive_idle=None)) == ()


def test_the_defaults_are_whole_seconds_that_the_kernel_takes() -> None:
    """15 s, and every 15 s from then on, five times; on a Unix socket none of it."""
    chosen = keepalive.options(ProxySettings())
    with socket.socket() as wire:
        keepalive.apply(wire, chosen)
        assert [wire.getsockopt(level, name) for level, name, _ in chosen] == [1, 15, 15, 5]
    extreme = ProxySettings(tcp_keepalive_idle=0.1, tcp_keepalive_interval=86400.0, tcp_keepalive_probes=1000)
    with socket.socket() as wire:
        keepalive.apply(wire, chosen := keepalive.options(extreme))
        assert [wire.getsockopt(level, name) for level, name, _ in chosen] == [1, 1, 32767, 127]
    with socket.socket(socket.AF_UNIX) as wire:
        keepalive.apply(wire, chosen)
