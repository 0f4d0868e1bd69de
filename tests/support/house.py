"""The data plane on the running loop: real sockets, a real lifecycle, and nothing of the process around it.

For tests that need to look inside. At its end it insists that nothing was left behind: no connection on
either side, no task, no work in flight, no exception that nobody saw.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drainproxy.addresses import ListenAddress, UpstreamAddress
from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.propagation import PRESETS, Rules
from drainproxy.lifecycle.report import Cause
from drainproxy.lifecycle.settings import LifecycleSettings
from drainproxy.metrics import Family, Metrics
from drainproxy.proxy.downstream.registry import Registry
from drainproxy.proxy.limits.capacity import derive
from drainproxy.proxy.listener import Listener
from drainproxy.proxy.plane import Plane, Shared
from drainproxy.proxy.server import ProxyServer
from drainproxy.proxy.settings import ProxySettings
from drainproxy.proxy.wire.listening_socket import bind
from drainproxy.tasks import Connections
from tests.support.client import Client
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.lifecycle.port import Siblings
    from drainproxy.proxy.limits.routes import Route
    from drainproxy.proxy.message.filters import RequestFilters
    from drainproxy.proxy.preamble import Preamble
    from drainproxy.proxy.upstream.tls import UpstreamTls
    from tests.support.message import Message
    from tests.support.upstream import Connection, Upstream


class Diary:
    """A Log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def event(self, event: str, /, level: str = "info", **fields: Any) -> None:
        """Write one line."""
        self.lines.append({"event": event, "level": level, **fields})

    def condition(self, event: str, name: str, /, level: str = "warning", **fields: Any) -> None:
        """Write one line; a test has no rate limit."""
        self.event(event, level, **fields)

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        return [line for line in self.lines if line["event"] == event]


class House:
    """`async with House(upstream) as house:` serves until the block's end."""

    def __init__(
        self,
        upstream: Upstream | str,
        *,
        up: bool = True,
        rules: Rules = PRESETS["none"][0],
        access_log: str = "all",
        linger_s: float = 0.5,
        lifecycle: dict[str, Any] | None = None,
        send_buffer: int | None = None,
        routes: tuple[Route, ...] = (),
        descriptors: int = 1 << 20,
        preamble: Preamble | None = None,
        upstream_tls: UpstreamTls | None = None,
        filters: RequestFilters | None = None,
        siblings: Siblings | None = None,
        **proxy: Any,
    ) -> None:
        """`up`: the application is known to answer. `send_buffer`: of client sockets, in bytes.

        `descriptors`: how many are reckoned with.
        """
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.diary = Diary()
        self.metrics = Metrics()
        self.inflight = InFlight()
        self.controller = Controller(
            settings=replace(LifecycleSettings(), **(lifecycle or {})),
            rules=rules,
            inflight=self.inflight,
            metrics=self.metrics,
            log=self.diary,
            loop=loop,
        )
        if up:
            self.controller.upstream_answers()
        self.unseen: list[dict[str, Any]] = []
        """What the loop's exception handler was told."""
        self.task_failures: list[BaseException] = []
        self.tasks = Connections(lambda _, failure: self.task_failures.append(failure))
        self.settings = ProxySettings(**proxy, upstream=(_address(upstream),))
        self.capacity = derive(self.settings, None, descriptors)
        shared = Shared(
            self.settings,
            self.capacity,
            lifecycle=self.controller,
            inflight=self.inflight,
            metrics=self.metrics,
            log=self.diary,  # type: ignore[arg-type]
            tasks=self.tasks,
            routes=routes,
            linger_s=linger_s,
            access_log=access_log,
            kernel_counts=False,
        )
        shared.filters, shared.siblings = filters, siblings
        self.write_batch, self.buffers = shared.write_batch, shared.buffers
        self.connection_limit, self.concurrency_limit = shared.connection_limit, shared.concurrency_limit
        (self.pool,) = shared.pools
        self.pool.tls = upstream_tls
        self.plane = Plane(shared, self.pool, "test")
        self.server = ProxyServer(self.plane, preamble)
        self.registry = self.server.registry
        Registry.export([self.registry], self.metrics)
        self._send_buffer = send_buffer
        self._clients: list[Client] = []
        self._swept = False

    async def __aenter__(self) -> House:
        self.loop.set_exception_handler(lambda _, context: self.unseen.append(context))
        wire = bind(ListenAddress("127.0.0.1", 0))
        if self._send_buffer is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        self.listener = Listener(wire, self.server)
        self.port: int = wire.getsockname()[1]
        await self.listener.start()
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        try:
            for client in self._clients:
                client.close()
            if kind is None:
                await self.until(
                    lambda: not self.registry.clients and not len(self.tasks), "a client lives on"
                )
                await self.until(lambda: not self.pool.active_count, "a connection was never given back")
                # Many that leave at once have their ends in turn.
                await self.until(lambda: not self.buffers.run_queue._waiting, "an end never had its turn")
                self._nothing_left()
        finally:
            await self.sweep()
            self.listener.shut()
            self.listener.close()
            await self.tasks.cancel()
            for connection in list(self.pool._open):
                self.pool.discard(connection)
            for left in list(self.registry.clients):
                left.transport.abort()
            await self._until(lambda: not self.pool._open and not self.registry.clients)
            gc.collect()
            self.loop.set_exception_handler(None)
        if kind is None:
            assert not self.unseen, f"the loop saw: {self.unseen}"

    def _nothing_left(self) -> None:
        assert not self.task_failures, f"a connection's coroutine failed: {self.task_failures}"
        assert not self.diary.of("defect"), f"a defect: {self.diary.of('defect')}"
        assert not len(self.inflight), f"work is still held: {list(self.inflight)}"
        assert self.pool.active_count == 0, "a connection to the application was never given back"
        assert not (unforeseen := self._unforeseen()), f"a series was not there from the start: {unforeseen}"

    def _unforeseen(self) -> set[tuple[str, ...]]:
        return {
            (family.name, *labels)
            for family in self.metrics.families()
            if isinstance(family, Family) and all(family.closed.values())
            for labels in family.values.keys() - itertools.product(*family.closed.values())
        }

    # What is done to it.

    async def client(self, **how: Any) -> Client:
        """Connect."""
        client = await Client.connect(("127.0.0.1", self.port), **how)
        self._clients.append(client)
        return client

    async def unread(self, upstream: Upstream, request: bytes, answer: bytes) -> tuple[Client, Connection]:
        """A client whose answer the application has given whole, and which has not read it.

        It waits in the sockets, so `answer` is larger than they are: with `send_buffer=4096`, 60,000 bytes.
        """
        client = await self.client(receive_buffer=4096)
        await client.send(request)
        application = await upstream.connection()
        await application.read_request()
        await application.send(answer)
        await self.until(lambda: self.pool.idle_count == 1)
        return client, application

    async def ask(self, request: bytes) -> Message:
        """Send one request on a connection of its own and read its final response."""
        async with await Client.connect(("127.0.0.1", self.port)) as client:
            return await client.ask(request)

    async def sweep(self) -> int:
        """Accept nobody new, and take over whom the kernel had accepted; return how many those were."""
        if self._swept:
            return 0
        self._swept = True
        await self.listener.stop()
        return await self.listener.sweep()

    def sigterm(self) -> None:
        """The kubelet's signal."""
        self.controller.terminate(Cause.UNKNOWN, sigterm=True)

    # What is seen of it.

    async def until(self, reached: Callable[[], bool], complaint: str = "it did not come to pass") -> None:
        """Let the loop run until `reached()`: for what rings no bell."""
        try:
            await self._until(reached)
        except TimeoutError:
            raise AssertionError(complaint) from None

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                await asyncio.sleep(0.001)

    @property
    def access(self) -> list[dict[str, Any]]:
        """The access lines so far."""
        return self.diary.of("request")

    def refused(self) -> dict[str, float]:
        """Return what was turned away, by reason."""
        return {reason: count for (reason,), count in self.metrics.refused.values.items() if count}

    def failed(self) -> dict[str, float]:
        """Return what failed and was not turned away, by reason."""
        return {reason: count for (reason,), count in self.metrics.errors.values.items() if count}

    def requests(self) -> dict[tuple[str, ...], float]:
        """Return `requests_total` by method, code and phase, as a scrape sees it."""
        for refresh in self.metrics.before_scrape:
            refresh()
        return {labels[1:]: count for labels, count in self.metrics.requests.values.items()}


def _address(upstream: Upstream | str) -> UpstreamAddress:
    text = upstream if isinstance(upstream, str) else upstream.address
    if text.startswith("unix:"):
        return UpstreamAddress(path=str(Path(text.removeprefix("unix:"))))
    scheme, _, authority = text.partition("://")
    host, _, port = authority.rpartition(":")
    return UpstreamAddress(host, int(port), tls=scheme == "https", tcp=scheme == "tcp")
