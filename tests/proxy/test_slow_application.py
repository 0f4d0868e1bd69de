"""An application that is slow to accept is waited for; only one that refuses is refused for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.upstream.breaker import FAILURES
from tests.support.clock import over_sockets
from tests.support.house import House
from tests.support.http2 import GOAWAY, Http2
from tests.support.wire import End
from tests.support.words import GET, OK, post

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Stopped:
    """An application that does not get round to accepting: its backlog is full.

    `resume` accepts whoever waits, and answers each request once.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._wire = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._wire.bind(str(path) if path else ("127.0.0.1", 0))
        self._wire.listen(0)
        self._wire.setblocking(False)
        where = self._wire.getsockname()
        self.address = f"unix:{path}" if path else f"http://127.0.0.1:{where[1]}"
        self._crowd = []
        for _ in range(4):
            crowd = socket.socket(self._wire.family)
            crowd.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                crowd.connect(where)
            self._crowd.append(crowd)
        self._serving: list[asyncio.Task[None]] = []

    async def resume(self) -> None:
        """Go on accepting, until the end."""
        loop = asyncio.get_running_loop()
        # Room for whoever asks again in the same moment.
        self._wire.listen(100)
        while True:
            wire, _ = await loop.sock_accept(self._wire)
            wire.setblocking(False)
            self._serving.append(loop.create_task(self._serve(wire)))

    async def _serve(self, wire: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with wire, contextlib.suppress(ConnectionError):
            while await loop.sock_recv(wire, 65536):
                await loop.sock_sendall(wire, OK)

    def close(self) -> None:
        """Be gone."""
        for wire in (self._wire, *self._crowd):
            wire.close()


@pytest.fixture
def stopped() -> Iterator[Stopped]:
    """One over TCP."""
    with contextlib.closing(Stopped()) as application:
        yield application


@contextlib.asynccontextmanager
async def resumed(application: Stopped):
    """Let it accept for the length of the block."""
    task = asyncio.get_running_loop().create_task(application.resume())
    try:
        yield
    finally:
        for each in (task, *application._serving):
            each.cancel()
        await asyncio.gather(task, *application._serving, return_exceptions=True)


async def waiting(house: House, count: int) -> None:
    """Return once so many requests wait for a connection."""
    await house.until(lambda: len(house.tasks) == count)


async def test_a_full_backlog_is_waited_in_and_opens_no_breaker(stopped) -> None:
    """More callers than the breaker allows failures; each has its answer when the application goes on."""
    async with House(stopped.address) as house:
        clients = [await house.client() for _ in range(2 * FAILURES)]
        for client in clients:
            await client.send(GET)
        await waiting(house, len(clients))
        async with resumed(stopped):
            for client in clients:
                assert (await client.final()).body == b"ok"
        assert not house.pool.breaker.open
        assert not house.refused()
        house.pool.close_idle()


@over_sockets
async def test_a_connect_waits_for_as_long_as_its_caller_does(stopped) -> None:
    """A pause of half a minute (throttled, a slow disk) ends: nobody is told 504 or 503 for it."""
    async with House(stopped.address) as house:
        clients = [await house.client() for _ in range(2 * FAILURES)]
        for client in clients:
            await client.send(GET)
        await asyncio.sleep(30)
        async with resumed(stopped):
            for client in clients:
                assert (await client.final()).body == b"ok"
        house.pool.close_idle()


async def test_a_unix_socket_with_a_full_backlog_is_waited_for_too(tmp_path) -> None:
    """There a connect fails at once, and nobody tells when there is room."""
    with contextlib.closing(Stopped(tmp_path / "app.sock")) as stopped:
        async with House(stopped.address) as house:
            client = await house.client()
            await client.send(GET)
            await waiting(house, 1)
            async with resumed(stopped):
                assert (await client.final()).body == b"ok"
            house.pool.close_idle()


@pytest.mark.parametrize("goes", ["fin", "reset"])
async def test_a_client_that_leaves_ends_its_wait(stopped, goes) -> None:
    """Nothing goes on for it: no connect, no task, no descriptor."""
    async with House(stopped.address) as house:
        client = await house.client()
        await client.send(GET)
        await waiting(house, 1)
        client.close() if goes == "fin" else client.reset()
        await waiting(house, 0)
        assert house.pool.open_count == 0
        assert house.requests() == {("GET", "499", "serving"): 1}


async def test_a_wait_ends_with_the_drain(stopped) -> None:
    """At its deadline with 503, as whatever else was not answered."""
    async with House(stopped.address) as house:
        client = await house.client()
        await client.send(post(b"abc"))
        await waiting(house, 1)
        house.sigterm()
        (work,) = house.inflight
        work.cut("drain-deadline")
        answer = await client.final()
        assert (answer.status, answer.one(b"connection")) == (503, b"close")
        assert b"drain-deadline" in answer.body
        await waiting(house, 0)


async def test_a_tcp_client_that_leaves_ends_its_wait(stopped) -> None:
    """What it wanted nobody knows; it is not connected for."""
    async with House(stopped.address.replace("http://", "tcp://")) as house:
        client = await house.client()
        await client.send(b"hello")
        await waiting(house, 1)
        client.reset()
        await waiting(house, 0)


async def test_an_http2_client_waits_for_a_slow_application_too(stopped) -> None:
    """And when it leaves nothing is left of it."""
    async with House(stopped.address) as house:
        client = await house.client()
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        await waiting(house, 1)
        client.reset()
        await waiting(house, 0)
        assert client.end in {None, End.RESET}


async def test_a_drain_that_ends_an_http2_clients_wait_says_that_nothing_was_taken(stopped) -> None:
    """What was never sent on may be sent again (RFC 9113 section 8.7), whether its own time was up or not."""
    async with House(stopped.address) as house:
        client = Http2(await house.client())
        await client.introduce()
        await client.send(client.request(1), client.request(3))
        await house.until(lambda: len(house.inflight) == 2)
        house.sigterm()
        next(iter(house.inflight)).cut("drain-deadline")
        (side,) = house.registry.clients
        side.close()
        assert (await client.next(GOAWAY)).last == 0
        assert house.metrics.h2_streams.value("refused") == 1


async def test_a_connect_timeout_still_bounds_the_wait(stopped) -> None:
    """Where one is set."""
    async with House(stopped.address, connect_timeout=0.05) as house:
        answer = await house.ask(GET)
        assert (answer.status, b"connect-timeout" in answer.body) == (504, True)
        assert not house.pool.breaker._failures


async def test_a_connect_is_begun_anew_before_the_kernel_would(stopped, monkeypatch) -> None:
    """Its pauses double: an application that was away for 4 s would be found after 7."""
    monkeypatch.setattr("drainproxy.proxy.upstream.dialer.AGAIN_S", 0.02)
    async with House(stopped.address) as house:
        client = await house.client()
        await client.send(GET)
        await waiting(house, 1)
        async with resumed(stopped):
            assert (await client.final()).body == b"ok"
        house.pool.close_idle()
