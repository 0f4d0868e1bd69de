"""Rows about applications that die or stand still, beside the same without drainproxy: never worse than bare.

Three replicas of each kind, and a data plane that learns of a container's end and of its return a second
later. A caller that keeps its connection asks again, once, where that ended without an answer, as Go's client
and browsers do with a GET; nobody tries a second time to connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from tests.chaos.application import Doomed
from tests.chaos.row import Evidence, Measured, row
from tests.integration.scene import get

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.chaos.ground import Ground

REPLICAS = 3
FLIP_S = 1.0
AWAY_S = 1.5
"""At least; longer than the flip takes, so that both Services lose for the same time, however long a process
takes to start."""
KEPT, NEW = 12, 6
EVERY_S = 0.05
PATIENCE_S = 20.0
FALLEN = Evidence(line="application")
Address = tuple[str, int]


class Service:
    """Addresses to choose from, each in its turn."""

    def __init__(self) -> None:
        self.routable: list[Address] = []
        self.sent = self.lost = 0
        self._turn = 0

    def choose(self) -> Address:
        """Return where the next connection goes."""
        self._turn += 1
        return self.routable[self._turn % len(self.routable)]


class Caller:
    """Asks again and again, and counts what had no answer."""

    def __init__(self, service: Service, *, keeps: bool) -> None:
        self._service = service
        self._keeps = keeps
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, stop: asyncio.Event) -> None:
        """Call until `stop`."""
        while not stop.is_set():
            self._service.sent += 1
            try:
                async with asyncio.timeout(PATIENCE_S):
                    answered = await self._ask()
            except TimeoutError:
                answered = False
            self._service.lost += not answered
            if not self._keeps or not answered:
                self._hang_up()
            await asyncio.sleep(EVERY_S)
        self._hang_up()

    async def _ask(self) -> bool:
        used = self._streams is not None
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._service.choose())
            reader, writer = self._streams
            writer.write(get())
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
        except (OSError, asyncio.IncompleteReadError):
            self._hang_up()
            return used and await self._ask()
        if b"\r\nConnection: close\r\n" in head:
            self._hang_up()
        return b" 200 " in head.split(b"\r\n")[0]

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def outage(service: Service, address: Address, application: Doomed, away_s: float) -> None:
    """Kill a replica's application; start it again after `away_s`."""
    os.kill(application._child.pid, signal.SIGKILL)
    flips = asyncio.get_running_loop().create_task(_flip(service.routable.remove, address))
    await asyncio.sleep(away_s)
    await application.again()
    await flips
    await _flip(service.routable.append, address)


async def _flip(change: Callable[[Address], None], address: Address) -> None:
    await asyncio.sleep(FLIP_S)
    change(address)


async def beside_bare(
    ground: Ground, play: Callable[[Service, Address, Doomed], Awaitable[None]]
) -> tuple[Service, Service]:
    """Play with the first replica of a bare Service, and of one behind drainproxy, under the same load."""
    loop = asyncio.get_running_loop()
    bare, behind = Service(), Service()
    async with contextlib.AsyncExitStack() as stack:
        firsts: list[tuple[Service, Address, Doomed]] = []
        for service in (bare, behind):
            for number in range(REPLICAS):
                application = await stack.enter_async_context(Doomed())
                address = ("127.0.0.1", application._port)
                if service is behind:
                    address = (await ground.start(application.address)).addresses[0]
                service.routable.append(address)
                if not number:
                    firsts.append((service, address, application))
        stop = asyncio.Event()
        callers = [
            loop.create_task(Caller(service, keeps=number < KEPT).call(stop))
            for service in (bare, behind)
            for number in range(KEPT + NEW)
        ]
        await asyncio.sleep(0.5)
        await asyncio.gather(*(play(*first) for first in firsts))
        await asyncio.sleep(0.5)
        stop.set()
        await asyncio.gather(*callers)
        await ground.end(())
    return bare, behind


def compared(bare: Service, behind: Service) -> Measured:
    """Return how many more were lost than without us."""
    more = max(0, behind.lost - bare.lost)
    return Measured(more, f"({behind.lost} of {behind.sent:,}; bare {bare.lost} of {bare.sent:,})")


UNIT = "more lost than bare"


@row("application killed once", FALLEN, most=6, unit=UNIT)
async def killed_once(ground: Ground) -> Measured:
    """One of three applications is killed, by hand or for its memory, and started again."""

    async def play(service: Service, address: Address, application: Doomed) -> None:
        await outage(service, address, application, AWAY_S)

    return compared(*await beside_bare(ground, play))


@row("application in a crash loop", FALLEN, most=12, unit=UNIT)
async def crash_loop(ground: Ground) -> Measured:
    """One of three is killed again and again, and is away for longer each time."""

    async def play(service: Service, address: Address, application: Doomed) -> None:
        for away_s in ground.pick((AWAY_S, AWAY_S, 3.0, 6.0), (AWAY_S, AWAY_S)):
            await outage(service, address, application, away_s)
            await asyncio.sleep(1.0)

    return compared(*await beside_bare(ground, play))


@row("application's image changed", FALLEN, most=6, unit=UNIT)
async def image_changed(ground: Ground) -> Measured:
    """One of three is replaced in its pod, and its image is pulled first."""

    async def play(service: Service, address: Address, application: Doomed) -> None:
        await outage(service, address, application, ground.pick(15.0, 2.0))

    return compared(*await beside_bare(ground, play))


async def stopped(ground: Ground, stop_s: float) -> Measured:
    """Let one application stand still for so long."""

    async def play(_service: Service, _address: Address, application: Doomed) -> None:
        os.kill(application._child.pid, signal.SIGSTOP)
        await asyncio.sleep(stop_s)
        os.kill(application._child.pid, signal.SIGCONT)

    return compared(*await beside_bare(ground, play))


@row("application stopped for 4 s", most=0, unit=UNIT)
async def stopped_shortly(ground: Ground) -> Measured:
    """One of three stands still, as in a garbage collection or under a CPU limit, and goes on."""
    return await stopped(ground, ground.pick(4.0, 1.0))


@row("application stopped for 8 s", most=0, unit=UNIT)
async def stopped_long(ground: Ground) -> Measured:
    """The same for so long that connects would have been given up on."""
    return await stopped(ground, ground.pick(8.0, 3.5))
