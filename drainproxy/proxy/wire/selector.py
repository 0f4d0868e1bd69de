"""asyncio's selector, with one thing of it mended: those who hang up together are told of few at a time.

asyncio handles all that one look at the kernel tells of before it looks again, and an end is the dearest that
can be told of: five thousand callers that reset at once are a turn of 100 ms and more, behind which everybody
else waits. What is not told of now, the kernel tells of again at the next look, in its order; whoever says
something is told of at once. uvloop needs none of it: an end is cheap there. Called by cli/main.py.
"""

import asyncio
import select
import selectors
from typing import Final

ENDS_A_TURN: Final = 128
"""So many ends are told of at a time: three milliseconds or so, as much as the look at thousands costs."""
_ENDED: Final = select.EPOLLERR | select.EPOLLHUP
"""Told of without having been asked for: a reset, or both halves closed. Nothing comes behind it."""


class _Epoll:
    """What selectors.EpollSelector does with an epoll object, and no more."""

    def __init__(self) -> None:
        epoll = self._epoll = select.epoll()
        self.register, self.modify, self.unregister = epoll.register, epoll.modify, epoll.unregister
        self.fileno, self.close = epoll.fileno, epoll.close

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """Return what there is, but not every end of a crowd."""
        ready = self._epoll.poll(timeout, maxevents)
        if len(ready) <= ENDS_A_TURN:
            return ready
        ends = [one for one in ready if one[1] & _ENDED]
        if len(ends) <= ENDS_A_TURN:
            return ready
        return [one for one in ready if not one[1] & _ENDED] + ends[:ENDS_A_TURN]


class Selector(selectors.EpollSelector):
    """Level-triggered, as asyncio needs it, and as what is put off needs it. The name is a private one of the
    library's (decision 0030)."""

    _selector_cls = _Epoll


def new_event_loop() -> asyncio.SelectorEventLoop:
    """Return asyncio's loop, with this selector."""
    return asyncio.SelectorEventLoop(Selector())
