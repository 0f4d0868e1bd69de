"""One server: its capacity, then callers at 60 % of it and in bursts, bare and behind drainproxy in turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.field import load
from tests.field.load import Felt
from tests.field.servers import WORKERS
from tests.support.process import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.field.load import Address
    from tests.field.servers import Server

SHARE = 0.6
MOST_RATE = 250.0
"""A second; what an event loop takes is more than this machine's callers should offer beside it."""
START_S = 20.0
BURST = 12
"""At once: more than twice the workers."""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    rounds: int = 4
    round_s: float = 6.0
    bursts: int = 6
    capacity_s: float = 2.0


LEAST_REQUESTS = 40
"""In a round: where a server was slow just before, beside whatever else there was, it takes longer."""
SHORT = Size(rounds=1, round_s=2.0, bursts=1, capacity_s=0.4)


@dataclass
class Endpoint:
    """Bare, or behind drainproxy."""

    steady: Felt = field(default_factory=Felt)
    bursts: Felt = field(default_factory=Felt)
    probes: Felt = field(default_factory=Felt)
    """The application's own, which go past the proxy in both."""


@dataclass
class Result:
    """What came of a server."""

    server: Server
    rate: float
    bare: Endpoint
    behind: Endpoint
    connects: float = 0.0
    """To the application, for 100 requests."""

    @property
    def ratio(self) -> float:
        """How much longer the slowest hundredth takes behind drainproxy."""
        return self.behind.steady.quantile_ms(0.99) / max(self.bare.steady.quantile_ms(0.99), 0.001)


@contextlib.asynccontextmanager
async def running(server: Server) -> AsyncIterator[Address]:
    """Start it on a free port; return its address once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="field-") as name:
        command = server.prepare(Path(name), port)
        quiet = asyncio.subprocess.DEVNULL
        child = await asyncio.create_subprocess_exec(
            *command,
            cwd=name,
            env={**os.environ, **server.env},
            stdout=quiet,
            stderr=quiet,
            start_new_session=True,
        )
        try:
            address = ("127.0.0.1", port)
            await _answers(address, child)
            yield address
        finally:
            # Its workers too: the group is its own.
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        await child.wait()
                        await asyncio.sleep(0.2)


async def _answers(address: Address, child: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_S):
        while True:
            felt = Felt()
            await load.ask(address, felt, 1.0)
            if not felt.failed:
                return
            if child.returncode is not None:
                raise RuntimeError(f"it has ended with {child.returncode}")
            await asyncio.sleep(0.1)


async def tried(server: Server, size: Size, **settings: str) -> Result:
    """Try one server."""
    async with running(server) as address:
        most = await load.capacity(address, 2 * WORKERS, size.capacity_s)
        result = Result(server, min(SHARE * most, MOST_RATE), Endpoint(), Endpoint())
        async with Proxy(upstreams=[f"http://127.0.0.1:{address[1]}"], **settings) as proxy:
            await proxy.ready()
            ways = ((result.bare, address), (result.behind, proxy.addresses[0]))
            seconds = max(size.round_s, LEAST_REQUESTS / result.rate)
            for number in range(size.rounds):
                for side, where in ways:
                    await _round(side, where, address, load.offered(where, result.rate, seconds, number))
            for side, where in ways:
                await _round(side, where, address, None, size.bursts)
            connects = (await proxy.metrics())['upstream_connects_total{result="ok"}']
            asked = result.behind.steady.count + result.behind.bursts.count
            result.connects = 100 * connects / max(asked, 1)
        return result


async def _round(side: Endpoint, where: Address, application: Address, offered, bursts: int = 0) -> None:
    """Let callers ask at `where`, while the application is probed."""
    probing = asyncio.ensure_future(load.probing(application, side.probes, 0.5))
    try:
        if offered is not None:
            side.steady += await offered
        for _ in range(bursts):
            side.bursts += await load.burst(where, BURST)
            # What was kept idles for a while: that is when it is in the way.
            await asyncio.sleep(1)
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
