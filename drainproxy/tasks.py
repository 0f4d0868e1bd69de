"""Named tasks: the only place that starts one outside a TaskGroup. And when those wake that only look
now and then.

A *connection* may fail alone: its failure is told to `on_failure` and nothing else notices.
Services live in the root TaskGroup of app.py, where any end before the exit is a failure.
"""

import asyncio
import contextlib
import math
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

TURNS = 3
"""Of the loop: accepted, made, read. What has come to the process is with its connection after these."""


TICK_S = 0.6
"""How often an idle process wakes: less than twice a second, with everything that looks now and then."""

RESOLUTION_S = 0.002
"""Of the timers of both loops, and something."""

_began: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, float] = weakref.WeakKeyDictionary()


def next_tick(after_s: float = 0.0) -> float:
    """Return the loop time of the next tick, `after_s` from now at least.

    Whoever only looks whether something has changed looks at a tick, so that an idle process wakes once for
    all of them. Processes of one node tick apart, each from when it first asked.
    """
    loop = asyncio.get_running_loop()
    began = _began.setdefault(loop, loop.time())
    # A timer may fire within its clock's resolution of its time: that tick is over.
    past_s = loop.time() - began + max(after_s, RESOLUTION_S)
    return began + (math.floor(past_s / TICK_S) + 1) * TICK_S


async def sleep_until(when: float) -> None:
    """Sleep until a loop time."""
    await asyncio.sleep(when - asyncio.get_running_loop().time())


async def let_the_loop_turn() -> None:
    """Let the loop read what has come."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def aside(work: Callable[[], None], name: str, within_s: float) -> bool:
    """Run what blocks in a thread of its own; return whether it was through within `within_s`.

    For libraries that wait as long as they like: the thread ends with the process.
    """
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        work()
        # Nobody waits any more, and the loop may be closed.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(over.set)

    threading.Thread(target=run, name=name, daemon=True).start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await over.wait()
    return over.is_set()


class Connections:
    """A group of tasks that fail alone. Single writer: the event loop's thread."""

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_failure = on_failure

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` until it ends; an exception that leaves it is reported, never raised."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        # The loop keeps only a weak reference to a task.
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.on_failure(task.get_name(), failure)

    async def cancel(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def flat(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    """Return the errors of a group and of the groups in it."""
    nested = [flat(each) if isinstance(each, BaseExceptionGroup) else [each] for each in group.exceptions]
    return [error for errors in nested for error in errors]
