"""Replicas of a Service whose applications are killed and started again, and callers who never ask twice.

Each replica is a process at the same port of an address of its own; an API server tells them of one another.
The data plane learns of a container's end and of its return a second later, and then leaves kept connections
alone. Without a routable replica it turns callers away itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.application import Doomed
from tests.integration.scene import get, post
from tests.support.cluster.access import tier
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.objects import Endpoint, endpoint_slice
from tests.support.cluster.resources import SLICES
from tests.support.cluster.server import ApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.chaos.ground import Ground

Address = tuple[str, int]
FLIP_S = 1.0
PATIENCE_S = 20.0
_ADDRESSES = itertools.count(20)
"""The last byte of a replica's address: each in use once, and none where other tests listen."""


@dataclass
class Tally:
    """What became of one kind of request."""

    sent: int = 0
    lost: int = 0
    turned_away: int = 0
    """By the data plane, which had nobody to send them to."""


@dataclass(eq=False)
class Replica:
    """A pod."""

    application: Doomed
    address: Address
    row: Endpoint
    ready: bool = True


@dataclass(eq=False)
class Fleet:
    """Made by `fleet`."""

    replicas: list[Replica]
    port: int
    api: ApiServer | None
    ledger: Path
    gets: Tally = field(default_factory=Tally)
    posts: Tally = field(default_factory=Tally)
    _turns: itertools.count[int] = field(default_factory=itertools.count)
    _orders: itertools.count[int] = field(default_factory=itertools.count)

    def choose(self) -> Address | None:
        """Return where the next connection goes."""
        routable = [each.address for each in self.replicas if each.ready]
        return routable[next(self._turns) % len(routable)] if routable else None

    def twice(self) -> int:
        """Return how many orders an application has got more than once."""
        lines = self.ledger.read_text().split() if self.ledger.exists() else []
        return len(lines) - len(set(lines))

    def write(self) -> None:
        """Write the Service's slice."""
        if self.api is not None:
            rows = [each.row for each in self.replicas]
            self.api.store.put(SLICES, endpoint_slice("web-abcde", rows, port=self.port))

    async def outage(self, replica: Replica, away_s: float) -> None:
        """Kill a replica's application; start it again after `away_s`, which its start is a part of."""
        loop = asyncio.get_running_loop()
        os.kill(replica.application._child.pid, signal.SIGKILL)
        flips = loop.create_task(self._flip(replica, ready=False))
        await replica.application.again(away_s)
        await flips
        await self._flip(replica, ready=True)

    async def _flip(self, replica: Replica, *, ready: bool) -> None:
        await asyncio.sleep(FLIP_S)
        replica.ready = replica.row.ready = replica.row.serving = ready
        self.write()

    async def call(self, kind: int, every_s: float, stop: asyncio.Event) -> None:
        """Ask until `stop`: kept connections, and one caller of three makes a new one for each request."""
        caller = _Caller(self)
        while not stop.is_set():
            if kind % 4 == 3:
                await caller.ask(self.posts, post(b"", path=f"/order/{next(self._orders)}"))
            else:
                await caller.ask(self.gets, get())
            if kind % 3 == 2:
                caller.hang_up()
            await asyncio.sleep(every_s)
        caller.hang_up()

    @contextlib.asynccontextmanager
    async def called(self, callers: int, every_s: float) -> AsyncIterator[None]:
        """Call for the length of the block."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for kind in range(callers):
                group.create_task(self.call(kind, every_s, stop))
            yield
            stop.set()


class _Caller:
    """One connection at a time, and each request once."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, tally: Tally, request: bytes) -> None:
        """Send a request and count what became of it."""
        if self._streams is not None and self._streams[0].at_eof():
            # It ended while nothing was asked.
            self.hang_up()
        where = None if self._streams is not None else self._fleet.choose()
        tally.sent += 1
        if self._streams is None and where is None:
            tally.turned_away += 1
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                answered = await self._answered(where, request)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            answered = False
        if not answered:
            tally.lost += 1
            self.hang_up()

    async def _answered(self, where: Address | None, request: bytes) -> bool:
        if self._streams is None:
            assert where is not None
            self._streams = await asyncio.open_connection(*where)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(length)
        if b"\r\nConnection: close\r\n" in head:
            self.hang_up()
        return b" 200 " in head.split(b"\r\n")[0]

    def hang_up(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@contextlib.asynccontextmanager
async def fleet(
    ground: Ground, replicas: int, *, bare: bool = False, **settings: str
) -> AsyncIterator[Fleet]:
    """Run so many replicas, behind drainproxy with these settings or bare."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        ledger = directory / "ledger"
        tls, authority = server_tls(directory / "tls")
        api = None if bare else await stack.enter_async_context(ApiServer(tls=tls))
        it = Fleet([], port, api, ledger)
        for number in range(replicas):
            application = await stack.enter_async_context(Doomed(ledger))
            host = f"127.0.0.{next(_ADDRESSES) % 200 + 20}"
            row = Endpoint(f"web-{number}", f"uid-{number}", host)
            it.replicas.append(Replica(application, ("127.0.0.1", application._port), row))
        it.write()
        for replica in it.replicas if api is not None else ():
            assert api is not None
            account = Account(
                api, directory / replica.row.pod, tier("slices", "shop"), token=replica.row.uid,
                authority=authority,
            )  # fmt: skip
            env = {
                **account.environment(),
                "DRAINPROXY_POD_NAME": replica.row.pod,
                "DRAINPROXY_POD_NAMESPACE": "shop",
                "DRAINPROXY_POD_UID": replica.row.uid,
                "DRAINPROXY_KUBERNETES_CREDENTIALS": str(account.directory),
            }
            listen = f"{replica.row.address}:{port}"
            proxy = await ground.start(replica.application.address, env=env, listen=listen, **settings)
            replica.address = proxy.addresses[0]
        yield it
