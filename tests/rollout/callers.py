"""One row's callers: a process of their own, so that nothing but their requests weighs on what is measured.

Run as a script it is that process: row, name of the crowd, file for the result, and the two front doors. It
calls until SIGTERM, and says now and then how much it has sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import random
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy.proof.demo.crowd import Crowd
from tests.rollout import rows
from tests.rollout.lateness import Lateness
from tests.rollout.streams import Audience, StreamTally
from tests.support.kubelet.container import Container

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from drainproxy.proof.outcomes import Outcome

PATIENCE_S = 10.0
SAY_EVERY_S = 0.5
Address = tuple[str, int]


@dataclass(slots=True)
class Called:
    """What the callers have seen."""

    requests: int = 0
    losses: list[Outcome] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    """Orders that were confirmed."""
    streams: StreamTally = field(default_factory=StreamTally)
    late_s: float = 0.0
    """How late the callers' loop ran its timers at worst."""


class Callers:
    """Made by `calling`."""

    def __init__(self, process: Container, file: Path) -> None:
        self._process = process
        self._file = file

    @property
    def sent(self) -> int:
        """Requests so far."""
        said = self._process.of("sent")
        return said[-1]["requests"] if said else 0

    async def stop(self) -> Called:
        """Let each finish what it is at; return what they have seen."""
        self._process.signal(signal.SIGTERM)
        await self._process.gone.wait()
        said = self._process.of("text")
        assert self._process.exit_code == 0, f"the callers failed: {said}"
        assert not said, f"the callers complain: {said}"
        called = pickle.loads(self._file.read_bytes())
        assert isinstance(called, Called)
        return called


@contextlib.asynccontextmanager
async def calling(row: rows.Row, name: str, doors: tuple[Address, Address]) -> AsyncIterator[Callers]:
    """Run a row's callers, who take either front door."""
    with tempfile.TemporaryDirectory(prefix="callers-") as directory:
        file = Path(directory) / "called"
        words = [row.name, name, str(file), *(f"{host}:{port}" for host, port in doors)]
        command = [sys.executable, "-m", "tests.rollout.callers", *words]
        process = Container({"name": "callers"}, command, dict(os.environ))
        await process.start()
        try:
            await process.line("sent")
            yield Callers(process, file)
        finally:
            await process.end()


async def call(row: rows.Row, name: str, doors: list[Address]) -> Called:
    """Call until SIGTERM."""
    stop, lateness = asyncio.Event(), Lateness()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    crowd = Crowd(name, lambda: random.choice(doors), row.cast, patience_s=PATIENCE_S)
    audience = Audience(
        lambda: random.choice(doors), streams=row.streams, sockets=row.sockets, readers=row.readers
    )

    async def say() -> None:
        while not stop.is_set():
            print(json.dumps({"event": "sent", "requests": crowd.total.requests}), flush=True)
            await asyncio.sleep(SAY_EVERY_S)

    async with lateness.measured(), asyncio.TaskGroup() as group:
        for each in (crowd.run(stop), audience.run(stop), say()):
            group.create_task(each)
    return Called(
        crowd.total.requests + audience.tally.requests,
        crowd.total.losses,
        crowd.acknowledged,
        audience.tally,
        lateness.worst_s,
    )


def main(row_name: str, name: str, file: str, *doors: str) -> None:
    """Be the process."""
    (row,) = (row for row in rows.ROWS if row.name == row_name)
    split = [door.rpartition(":") for door in doors]
    called = asyncio.run(call(row, name, [(host, int(port)) for host, _, port in split]))
    Path(file).write_bytes(pickle.dumps(called))


if __name__ == "__main__":
    # What is pickled must be the module's, not this script's.
    from tests.rollout.callers import main as start

    start(*sys.argv[1:])
