"""How the data plane goes, in the order in which nothing is lost: the listener is the last door to close.

Begins when a drain is over and everybody who wanted to know of it knows. Called by app.py.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.port import Lifecycle
from drainproxy.proxy.listener import Listener
from drainproxy.tasks import let_the_loop_turn

LAST_S = 1.0
"""For the last who came, and for the door itself."""
EXIT_S = 0.25
"""For the end of the process itself, before SIGKILL."""


@dataclass
class Shutdown:
    """Of every listener of the process, together."""

    listeners: Sequence[Listener]
    lifecycle: Lifecycle
    inflight: InFlight
    settle_s: float
    callers_until: Callable[[], float] = lambda: -math.inf
    """Until when callers may still come whom siblings can serve, as far as is known now."""
    _stayed: bool = False

    @property
    def exit_by(self) -> float:
        """Loop time at which whatever is still waited for is left, so that nobody has to kill the process."""
        return self.lifecycle.published.killed_at - EXIT_S

    async def depart(self) -> None:
        """Go, and leave nobody unserved who came before the door was shut, until the drain's deadline."""
        await self._serve_late_callers()
        await self._finish_work()
        await self._close_the_door()
        await self._serve_the_last()

    async def end(self) -> None:
        """Cut what is left; return when every client has gone or had its time to."""
        for work in self.inflight:
            work.cut("drain-deadline")
        for listener in self.listeners:
            await listener.server.registry.emptied(self.exit_by)
        for listener in self.listeners:
            listener.close()

    async def _serve_late_callers(self) -> None:
        """Stay while callers come for whom a sibling can be asked, past the drain's deadline if need be."""
        while (until := min(self.callers_until(), self.exit_by - LAST_S)) > self._now():
            self._stayed = True
            await asyncio.sleep(until - self._now())

    async def _close_the_door(self) -> None:
        """Stop listening. Callers are ignored for a moment, then refused; never while work is waited for."""
        for listener in self.listeners:
            await listener.stop()
        # Where callers still come, some are in mid handshake.
        await self._settle_newest()
        for listener in self.listeners:
            await listener.sweep()
            listener.shut()

    async def _serve_the_last(self) -> None:
        """Serve who came through the closing door; then close what is idle."""
        while True:
            await let_the_loop_turn()
            await self._settle_newest()
            await self._finish_work()
            if self._now() >= self._serve_until:
                return
            if self._youth() > 0:
                # A handshake has only just ended: the request comes now.
                continue
            speaking = [listener.server.registry.retire_idle() for listener in self.listeners]
            if not any(speaking):
                return

    async def _settle_newest(self) -> None:
        """Wait until the newest connection is older than `settle`: its request may still be on the wire."""
        await asyncio.sleep(max(0.0, min(self._youth(), self.exit_by - self._now())))

    def _youth(self) -> float:
        """Return for how many more seconds the newest connection is younger than `settle`."""
        clients = [client for each in self.listeners for client in each.server.registry.clients]
        newest = max((client.arrived_at for client in clients), default=0.0)
        return newest + self.settle_s - self._now()

    async def _finish_work(self) -> None:
        """Wait for what was admitted after the drain, as long as there is time."""
        emptied = asyncio.Event()
        self.inflight.on_empty = emptied.set
        if len(self.inflight):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._serve_until):
                    await emptied.wait()
        self.inflight.on_empty = None

    @property
    def _serve_until(self) -> float:
        return self.exit_by if self._stayed else min(self.lifecycle.deadline, self.exit_by)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
