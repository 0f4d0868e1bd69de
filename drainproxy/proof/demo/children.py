"""Children: the real processes of the demo, each started, read, and ended by its own process id.

Whatever ends the demo (its last line, an error, Ctrl-C) ends every child: the block that owns them
does not leave before they are gone. Used by `pods.py`.
"""

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from drainproxy.proof.process import Process, cancelled_by_signals

_TAIL_LINES = 8
_MAX_UNHEARD_LINES = 1_000
_START_S = 20.0

Found = TypeVar("Found")


class UnmeasuredError(Exception):
    """Something the demo needs did not work; the sentence says what. No number is made up instead."""


class Child(Process):
    """One process, and what it said."""

    def __init__(self, name: str) -> None:
        super().__init__(self._on_line)
        self.name = name
        self.listeners: list[Callable[[str], None]] = []
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._said: asyncio.Queue[str | None] = asyncio.Queue(_MAX_UNHEARD_LINES)
        """For `says`; None when there will be no more."""

    async def says(self, find: Callable[[str], Found | None]) -> Found:
        """What `find` makes of the first line it recognises; raises UnmeasuredError without one."""
        try:
            async with asyncio.timeout(_START_S):
                while not (self.gone.is_set() and self._said.empty()):
                    line = await self._said.get()
                    if line is not None and (found := find(line)) is not None:
                        return found
        except TimeoutError:
            raise UnmeasuredError(self._silence(f"was not ready in {_START_S:g} s")) from None
        raise UnmeasuredError(self._silence("is gone"))

    def _silence(self, what: str) -> str:
        ended = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        said = "".join(f"\n  {line}" for line in self._tail)
        return f"{self.name} {what}{ended}{said}"

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._keep(None)

    def _on_line(self, line: str) -> None:
        self._tail.append(line)
        self._keep(line)
        for listener in self.listeners:
            listener(line)

    def _keep(self, line: str | None) -> None:
        if self._said.full():
            self._said.get_nowait()
        self._said.put_nowait(line)


class Children:
    """All processes of a demo."""

    def __init__(self) -> None:
        self._all: list[Child] = []

    async def start(self, name: str, *words: str) -> Child:
        child = Child(name)
        await child.start(*words, env=_environment())
        self._all.append(child)
        return child

    async def end(self) -> None:
        for child in self._all:
            child.kill()
        for child in self._all:
            await child.exited.wait()
            child.close()


@asynccontextmanager
async def children() -> AsyncIterator[Children]:
    owner = Children()
    with cancelled_by_signals():
        try:
            yield owner
        finally:
            await owner.end()


def _environment() -> dict[str, str]:
    """The same for everybody: a DRAINPROXY_ or KUBERNETES_ variable of ours would change a lane."""
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
    }
