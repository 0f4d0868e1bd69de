"""A connection that fails costs nobody else theirs."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import threading
from pathlib import Path

import aiohttp
import pytest
import uvloop

from drainproxy.addresses import connecting
from drainproxy.errors import KubernetesError
from drainproxy.kube.client import connect
from drainproxy.kube.settings import KubeSettings
from drainproxy.metrics import Metrics
from tests.support.authority import Authority

ATTEMPTS = 20
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def resetting():
    """A server that resets each connection as soon as it is made; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            wire, _ = listener.accept()
            if over.is_set():
                wire.close()
                return
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            wire.close()

    over = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    over.set()
    socket.create_connection(listener.getsockname()).close()
    thread.join()
    listener.close()


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def takes_no_descriptor_along(fail) -> None:
    """After each failure somebody else opens a file, which gets the freed number; all of them stay open."""
    before, others = descriptors(), []
    for _ in range(ATTEMPTS):
        await fail()
        others.append(os.open(os.devnull, os.O_RDONLY))
        gc.collect()
    for other in others:
        os.close(other)  # Raises EBADF where it has been closed already.
    await asyncio.sleep(0.05)
    assert descriptors() <= before + 3


@pytest.mark.parametrize("loop", LOOPS)
def test_a_tls_connection_that_is_reset_at_once_is_closed_once(loop, resetting):
    """What aiohttp's client connects for the health probe of an https application."""

    async def ask() -> None:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(), socket_factory=connecting)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def fail() -> None:
                with pytest.raises(aiohttp.ClientError):
                    await session.get(f"https://127.0.0.1:{resetting}/")

            await takes_no_descriptor_along(fail)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(ask())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_api_server_that_resets_connections_takes_no_client_along(loop, resetting, tmp_path, monkeypatch):
    """Before, its number was closed a second time, and a client's connection with it."""
    (tmp_path / "token").write_text("token")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(resetting))
    (tmp_path / "ca.crt").write_bytes(Authority(tmp_path).file.read_bytes())

    async def ask() -> None:
        async with connect(KubeSettings(kubernetes_credentials=str(tmp_path)), Metrics()) as api:

            async def fail() -> None:
                with pytest.raises(KubernetesError):
                    await api.get("/api", dict)

            await takes_no_descriptor_along(fail)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(ask())
