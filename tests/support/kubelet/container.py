"""One container of a pod: what its manifest says, and the process that runs now."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_MAX_LINE_BYTES = 1024 * 1024


class Container:
    """Started again and again at most; each run has its own `gone`."""

    def __init__(self, manifest: dict[str, Any], words: list[str], env: dict[str, str]) -> None:
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.env = env
        self.lines: list[dict[str, Any]] = []
        """What it said, of all its runs; a line that is not JSON has the event `text`."""
        self.raw: list[bytes] = []
        """The same, byte for byte."""
        self.last: dict[str, Any] | None = None
        """How its run before this one has ended, as a pod's status says it."""
        self.ready = False
        """What its readiness probe says."""
        self.runs = 0
        self.exit_code: int | None = None
        self.gone = asyncio.Event()
        self.gone_at = 0.0
        self._words = words
        self._changed = asyncio.Event()
        self._child: asyncio.subprocess.Process | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process of the newest run."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Tell whether there is a process."""
        return self._child is not None and not self.gone.is_set()

    async def start(self) -> None:
        """Run it; what it says is read until it ends."""
        self.gone.clear()
        self.exit_code = None
        self.runs += 1
        self._child = await asyncio.create_subprocess_exec(
            *self._words,
            env=self.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_MAX_LINE_BYTES,
            start_new_session=True,
        )
        self._following = asyncio.get_running_loop().create_task(self._follow(self._child))

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)

    async def execute(self, words: list[str], *, stalled_s: float = 0.0) -> int:
        """Run a command beside it, in its environment; return the exit code.

        `stalled_s`: keep the command from running at all for so long, as a CPU limit does.
        """
        helper = await asyncio.create_subprocess_exec(
            *words,
            env=self.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            if stalled_s:
                helper.send_signal(signal.SIGSTOP)
                await asyncio.sleep(stalled_s)
                helper.send_signal(signal.SIGCONT)
            return await helper.wait()
        finally:
            if helper.returncode is None:
                helper.kill()
                await helper.wait()

    # What it says.

    async def line(self, event: str, /, **match: Any) -> dict[str, Any]:
        """Return the first line of `event` whose fields are as in `match`; wait for it if need be."""

        def fits(line: dict[str, Any]) -> bool:
            return line["event"] == event and all(line.get(key) == value for key, value in match.items())

        async with self._patience(f"{self.name}: no line {event} {match}"):
            while (found := next(filter(fits, self.lines), None)) is None:
                assert self.running, f"{self.name} is gone: {self.lines[-5:]}"
                await self._changed.wait()
        return found

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of one event so far."""
        return [line for line in self.lines if line["event"] == event]

    async def more(self, after: int) -> bool:
        """Wait for lines after so many; return whether there are any, or this run is over without."""
        while len(self.raw) <= after:
            if not self.running:
                return False
            await self._changed.wait()
        return True

    @contextlib.asynccontextmanager
    async def _patience(self, complaint: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield
        except TimeoutError:
            raise AssertionError(f"{complaint}; the last lines: {self.lines[-5:]}") from None

    async def _follow(self, child: asyncio.subprocess.Process) -> None:
        reading = asyncio.get_running_loop().create_task(self._read(child))
        try:
            await _ended(child.pid)
        finally:
            # A container is its processes: when the first one ends, so do its children.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            self.exit_code = await child.wait()
            await reading
            self.ready = False
            self.gone_at = asyncio.get_running_loop().time()
            self.gone.set()
            self._stir()

    async def _read(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdout is not None
        async for raw in child.stdout:
            self.raw.append(raw)
            self.lines.append(_parsed(raw))
            self._stir()

    def _stir(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def end(self) -> None:
        """Kill it and wait for its end."""
        self.kill()
        if self._following is not None:
            await self._following


async def _ended(pid: int) -> None:
    """Return when a process has ended. asyncio's own `wait` also waits for whoever holds its output open."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _parsed(raw: bytes) -> dict[str, Any]:
    text = raw.decode(errors="replace").rstrip()
    with contextlib.suppress(ValueError):
        line = json.loads(text)
        if isinstance(line, dict) and "event" in line:
            return line
    return {"event": "text", "text": text}
