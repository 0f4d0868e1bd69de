"""SIGTERM, SIGINT and SIGHUP, from the first instruction of the process on.

`catch_early` runs before any third-party import: a container's process is PID 1, where a signal
without a handler is ignored, and the pod would hang for its whole grace period. What comes before the
loop runs is kept and replayed by `deliver`; what comes after all is done is ignored from `ignore` on. The
only import of `signal`.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_MAX_KEPT = 2
"""Of each signal: a storm before the loop runs says nothing more, and a second SIGINT means hurry."""

_kept: list[str] = []


def hold() -> None:
    """Have the kernel keep them for who comes after an execve(2), which takes handlers away: `catch_early`.

    A blocked signal is never ignored, not by PID 1 either, and what waits outlasts it (signal(7)).
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)


def catch_early() -> None:
    """Install handlers that only take a note."""
    for number in _HANDLED:
        signal.signal(number, _keep)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)


def _keep(number: int, _frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    if _kept.count(name) < _MAX_KEPT:
        _kept.append(name)


def deliver(loop: asyncio.AbstractEventLoop, receive: Callable[[str], None]) -> None:
    """Hand every signal, by name, to `receive` on the loop: the early ones first, in order."""
    for number in _HANDLED:
        loop.add_signal_handler(number, receive, signal.Signals(number).name)
    early = _kept.copy()
    _kept.clear()
    for name in early:
        loop.call_soon(receive, name)


def ignore(loop: asyncio.AbstractEventLoop) -> None:
    """Let nothing that comes from now on change the exit code.

    A loop that closes would give signals back to the kernel, for which SIGTERM ends the process with 143.
    """
    # No handler is there for a moment.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    for number in _HANDLED:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
