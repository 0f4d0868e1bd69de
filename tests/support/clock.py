"""An event loop whose clock is a number: it moves to the next timer as soon as nothing else is left to do.

For tests in which no other process takes part. Nothing waits for real, so an hour costs as much as a
second, and the same test takes the same course every time. Where both ends of a socket are in the test, the
kernel gets a moment to bring what is on its way before the clock moves (`SOCKETS_S`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_Result = TypeVar("_Result")

SOCKETS_S = 0.01
"""How long loopback may take to hand over what was written."""

START_S = 1000.0
"""What the clock shows first: not 0, so that "nothing yet" and "at the beginning" differ."""


class ClockLoop(asyncio.SelectorEventLoop):
    """A standard event loop on a clock of its own."""

    def __init__(self, patience_s: float = 0.0) -> None:
        self.now = START_S
        super().__init__(_Leap(self, patience_s))

    def time(self) -> float:
        """Return the clock's seconds."""
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Do it now: the clock would not wait for a thread."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def pending_timers(self) -> list[asyncio.TimerHandle]:
        """Return the timers that would still fire, nearest first."""
        return sorted((timer for timer in self._scheduled if not timer.cancelled()), key=_due)

    def leap(self) -> None:
        """Move to the next timer."""
        timers = self.pending_timers()
        if not timers:
            raise AssertionError("everybody waits, and no timer would ever wake them")
        # Never back: a timer that is overdue runs now.
        self.now = max(self.now, timers[0].when())


class _Leap(selectors.DefaultSelector):
    """Instead of sleeping until the next timer, moves the clock to it."""

    def __init__(self, loop: ClockLoop, patience_s: float) -> None:
        super().__init__()
        self._loop = loop
        self._patience_s = patience_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is readable at this moment; leap if the loop wanted to sleep."""
        ready = super().select(0 if timeout == 0 else self._patience_s)
        if not ready and timeout != 0:
            self._loop.leap()
        return ready


def _due(timer: asyncio.TimerHandle) -> float:
    return timer.when()


def run(main: Coroutine[Any, Any, _Result], patience_s: float = 0.0) -> _Result:
    """Run `main` on a clock of its own."""
    with asyncio.Runner(loop_factory=functools.partial(ClockLoop, patience_s)) as runner:
        return runner.run(main)


def over_sockets(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Turn an async test into one that runs on a clock of its own, with sockets to itself."""
    return in_fake_time(test, SOCKETS_S)


def in_fake_time(
    test: Callable[..., Coroutine[Any, Any, None]], patience_s: float = 0.0
) -> Callable[..., None]:
    """Turn an async test into one that runs on a clock of its own. Fixtures and parameters go through."""

    @functools.wraps(test)
    def run_test(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs), patience_s)

    # What pytest reads for fixtures stays; what makes it take the test for a coroutine goes.
    run_test.__signature__ = inspect.signature(test)
    del run_test.__wrapped__
    return run_test


def now() -> float:
    """Return the seconds since the clock started."""
    return asyncio.get_running_loop().time() - START_S
