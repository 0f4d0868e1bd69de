"""Children: the real processes of the demo, each started, read, and ended by its own process id.

Whatever ends the demo (its last line, an error, Ctrl-C) ends every child: the block that owns them
does not leave before they are gone. Used by `pods.py`.
"""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

_TAIL_LINES = 8
_MAX_LINE_BYTES = 256 * 1024
_MAX_UNHEARD_LINES = 1_000
_START_S = 20.0
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)

Found = TypeVar("Found")


class UnmeasuredError(Exception):
    """Something the demo needs did not work; the sentence says what. No number is made up instead."""


class Child:
    """One process. Written by its own `_follow` task."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.gone = asyncio.Event()
        self.gone_at = 0.0  # loop time, set with `gone`
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.listeners: list[Callable[[str], None]] = []
        self._said: asyncio.Queue[str | None] = asyncio.Queue(_MAX_UNHEARD_LINES)
        """For `says`; None when there will be no more."""
        self._process = process

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # Not through the process object: that looks first whether it has ended, and may take its exit code
        # away from the loop's own watcher.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

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
        code = self._process.returncode
        ended = "" if code is None else f" (exit code {code})"
        said = "".join(f"\n  {line}" for line in self.tail)
        return f"{self.name} {what}{ended}{said}"

    async def follow(self) -> None:
        """Read what it says until it is gone; when cancelled, make it go."""
        try:
            await self._read_lines()
            await self._process.wait()
        finally:
            self.kill()
            await self._process.wait()
            self.gone_at = asyncio.get_running_loop().time()
            self.gone.set()
            self._hear(None)

    async def _read_lines(self) -> None:
        output = self._process.stdout
        assert output is not None
        while True:
            try:
                raw = await output.readline()
            except ValueError:  # beyond the limit: nothing the demo looks for
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            self.tail.append(line)
            self._hear(line)
            for listener in self.listeners:
                listener(line)

    def _hear(self, line: str | None) -> None:
        if self._said.full():
            self._said.get_nowait()
        self._said.put_nowait(line)


class Children:
    """All processes of a demo."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._all: list[Child] = []

    async def start(self, name: str, *words: str) -> Child:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_MAX_LINE_BYTES,
            env=_environment(),
        )
        child = Child(name, process)
        self._all.append(child)
        self._group.create_task(child.follow())
        return child

    def kill(self) -> None:
        for child in self._all:
            child.kill()


@asynccontextmanager
async def children() -> AsyncIterator[Children]:
    """Ctrl-C cancels the demo by asyncio's own doing; to be told to end or to lose the terminal does here."""
    loop = asyncio.get_running_loop()
    demo = asyncio.current_task()
    assert demo is not None
    for number in _ENDINGS:
        loop.add_signal_handler(number, demo.cancel)
    try:
        async with asyncio.TaskGroup() as group:
            owner = Children(group)
            try:
                yield owner
            finally:
                owner.kill()
    finally:
        for number in _ENDINGS:
            loop.remove_signal_handler(number)


def _environment() -> dict[str, str]:
    """The same for everybody: a DRAINPROXY_ or KUBERNETES_ variable of ours would change a column."""
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
    }
