"""Command: the rollout (or whatever else) that runs while the probe measures.

Its output is shown line by line, its exit code reported. It belongs to the user: the probe waits
for it even when the measurement is over, and ends it only when the user interrupts.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from drainproxy.proof.waiting import happens_before

_LEAVE_S = 5.0  # between asking the command to end and making it
_LAST_LINES_S = 1.0  # for the last lines after the command ended
_MAX_LINE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    exit_code: int
    took_s: float


class CommandError(Exception):
    """The command could not be started; the sentence says why."""


async def run_command(words: tuple[str, ...], show: Callable[[str], None]) -> Ended:
    """Run it to its end; when cancelled, it is ended too."""
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    try:
        transport, output = await loop.subprocess_exec(
            lambda: _Output(show),
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise CommandError(f"cannot run {words[0]}: {error.strerror}") from error
    try:
        await output.exited.wait()
        took_s = loop.time() - began_at
        # Something it left in the background may hold the pipe for ever; its own lines come at once.
        await happens_before(output.finished, loop.time() + _LAST_LINES_S)
    finally:
        await _end(transport, output)
    return Ended(exit_code=transport.get_returncode() or 0, took_s=took_s)


class _Output(asyncio.SubprocessProtocol):
    """Cuts what the command writes into lines."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.exited = asyncio.Event()
        self.finished = asyncio.Event()  # nobody writes any more
        self._show = show
        self._line = b""

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _MAX_LINE_BYTES:
            lines, self._line = [*lines, self._line], b""
        for line in lines:
            self._show(line.decode(errors="replace").rstrip())

    def pipe_connection_lost(self, _fd: int, _error: Exception | None) -> None:
        if self._line:
            self._show(self._line.decode(errors="replace").rstrip())
        self.finished.set()

    def process_exited(self) -> None:
        self.exited.set()


async def _end(transport: asyncio.SubprocessTransport, output: _Output) -> None:
    if not output.exited.is_set():
        transport.terminate()
        if not await happens_before(output.exited, asyncio.get_running_loop().time() + _LEAVE_S):
            transport.kill()
            await output.exited.wait()
    transport.close()
