"""A descriptor has one owner: what the loop has closed is not closed again under the same number."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import socket
import ssl
import struct
import threading

import pytest

from drainproxy.errors import KubernetesError
from drainproxy.eventloop import Loop
from drainproxy.kube.client import connect
from drainproxy.kube.settings import KubeSettings
from drainproxy.metrics import Metrics
from tests.support.authority import Authority

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@pytest.fixture(params=[asyncio.new_event_loop, Loop], ids=["asyncio", "uvloop"])
def runner(request):
    """What a coroutine runs in, on each loop."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@pytest.fixture
def wires():
    """Both ends of a TCP connection, ours first."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        ours = socket.create_connection(door.getsockname())
        theirs, _ = door.accept()
    ours.setblocking(False)
    yield ours, theirs
    theirs.close()


def bystanders(number: int) -> list[int]:
    """Open files until one has that number, as a client's connection might."""
    opened: list[int] = []
    while number not in opened:
        assert len(opened) < 100, f"{number} is not free"
        opened.append(os.open(os.devnull, os.O_RDONLY))
    return opened


def close_all(opened: list[int]) -> None:
    """Raises EBADF for what has been closed already."""
    for each in opened:
        os.close(each)


def test_a_handshake_that_fails_closes_nobody_elses_descriptor(runner, wires):
    """The server has reset the connection before the client says hello."""
    ours, theirs = wires
    number = ours.fileno()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    theirs.close()
    poll = select.poll()
    poll.register(ours, 0)
    assert poll.poll(10_000)

    async def shake() -> None:
        with pytest.raises(OSError, match="reset|pipe"):
            await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, sock=ours, ssl=ssl.create_default_context(), server_hostname="api"
            )

    runner.run(shake())
    opened = bystanders(number)
    ours.close()
    close_all(opened)


class Leaves(asyncio.Protocol):
    """Ends its connection as soon as it is made."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        transport.abort()

    def connection_lost(self, exc):
        self.lost.set()


def test_a_transport_that_ends_at_once_closes_nobody_elses_descriptor(runner, wires):
    """Making it succeeds all the same."""
    ours, _ = wires
    number = ours.fileno()

    async def leave() -> None:
        _, protocol = await asyncio.get_running_loop().create_connection(Leaves, sock=ours)
        await protocol.lost.wait()

    runner.run(leave())
    opened = bystanders(number)
    ours.close()
    close_all(opened)


@pytest.fixture
def resetting():
    """A server that resets each connection as soon as it is made; yields its port."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            wire, _ = listener.accept()
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            wire.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join()


def test_an_api_server_that_resets_connections_takes_no_client_along(
    runner, resetting, tmp_path, monkeypatch
):
    """Its client gives the loop sockets that it made, and what failed holds on to them until collected."""
    (tmp_path / "token").write_text("token")
    (tmp_path / "ca.crt").write_bytes(Authority(tmp_path).file.read_bytes())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(resetting))

    async def ask() -> list[int]:
        opened = []
        async with connect(KubeSettings(kubernetes_credentials=str(tmp_path)), Metrics()) as api:
            for _ in range(20):
                with pytest.raises(KubernetesError):
                    await api.get("/api", dict)
                opened.append(os.open(os.devnull, os.O_RDONLY))
                gc.collect()
        return opened

    close_all(runner.run(ask()))
