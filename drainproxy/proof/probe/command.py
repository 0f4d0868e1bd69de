"""Command: the rollout (or whatever else) that runs while the probe measures.

Its output is shown line by line, its exit code reported. It belongs to the user: the probe waits
for it even when the measurement is over, and ends it only when the user interrupts.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from drainproxy.proof.process import Process
from drainproxy.proof.waiting import happens_before

_LEAVE_S = 5.0  # between asking the command to end and making it
_LAST_LINES_S = 1.0  # for the last lines after the command ended


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
    process = Process(show)
    try:
        await process.start(*words)
    except OSError as error:
        raise CommandError(f"cannot run {words[0]}: {error.strerror}") from error
    try:
        await process.exited.wait()
        # What it left in the background may write for ever; its own lines come at once.
        await happens_before(process.gone, loop.time() + _LAST_LINES_S)
    finally:
        if not process.exited.is_set():
            process.terminate()
            if not await happens_before(process.exited, loop.time() + _LEAVE_S):
                process.kill()
                await process.exited.wait()
        process.close()
    return Ended(exit_code=process.exit_code or 0, took_s=process.exited_at - began_at)
