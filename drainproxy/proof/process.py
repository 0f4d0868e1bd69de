"""Process: a program that the proof runs, the lines it writes, and its end.

Both its outputs are one. It has ended when it has exited, and is gone when nobody writes any more: what it
left in the background may hold the pipe for ever. The demo's children and the probe's command are processes.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

_ENDINGS = (signal.SIGTERM, signal.SIGHUP)
_MAX_LINE_BYTES = 64 * 1024  # what is longer comes in pieces


class Process(asyncio.SubprocessProtocol):
    """Written by the loop, which calls it; `hear` gets each line."""

    _transport: asyncio.SubprocessTransport

    def __init__(self, hear: Callable[[str], None]) -> None:
        self.exited = asyncio.Event()
        self.exited_at = 0.0  # loop time, set with `exited`
        self.gone = asyncio.Event()
        self._hear = hear
        self._line = b""

    async def start(self, *words: str, env: Mapping[str, str] | None = None) -> None:
        """Raises OSError when there is no such program."""
        self._transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: self,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=env,
        )

    @property
    def exit_code(self) -> int | None:
        return self._transport.get_returncode()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Hear no more of it."""
        self._transport.close()

    def _signal(self, number: signal.Signals) -> None:
        # Not through the transport: that looks first whether it has ended, and may take its exit code away
        # from the loop's own watcher.
        if not self.exited.is_set():
            with suppress(ProcessLookupError):
                os.kill(self._transport.get_pid(), number)

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _MAX_LINE_BYTES:
            lines, self._line = [*lines, self._line], b""
        for line in lines:
            self._hear(line.decode(errors="replace").rstrip())

    def process_exited(self) -> None:
        self.exited_at = asyncio.get_running_loop().time()
        self.exited.set()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._line:
            self._hear(self._line.decode(errors="replace").rstrip())
        self.gone.set()


@contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Ctrl-C cancels a verb by asyncio's own doing; to be told to end or to lose the terminal does here.

    Without it the verb would leave its processes behind.
    """
    loop = asyncio.get_running_loop()
    verb = asyncio.current_task()
    assert verb is not None
    for number in _ENDINGS:
        loop.add_signal_handler(number, verb.cancel)
    try:
        yield
    finally:
        for number in _ENDINGS:
            loop.remove_signal_handler(number)
