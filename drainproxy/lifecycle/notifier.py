"""Who wants to know when the lifecycle changes: listeners that are called, coroutines that wait."""

import asyncio
from collections.abc import Callable

from drainproxy.lifecycle.snapshot import Snapshot


class Notifier:
    """Base of the controller, which tells."""

    published: Snapshot
    """What is true now: replaced whole, before anybody is told."""
    warming = False
    """The application is there, and is warmed up before that is said."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change of phase or policy."""
        self._listeners.append(listener)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Return once `reached()` is true; it is asked after every change."""
        changed = asyncio.Event()
        self._listeners.append(changed.set)
        try:
            while not reached():
                await changed.wait()
                changed.clear()
        finally:
            self._listeners.remove(changed.set)

    def warms(self, *, on: bool) -> None:
        """Take note that it is warmed up, or not any longer."""
        self.warming = on
        self.tell()

    def tell(self) -> None:
        """Something has changed."""
        for listener in list(self._listeners):
            listener()
