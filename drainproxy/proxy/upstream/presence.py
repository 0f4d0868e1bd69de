"""Is the application there? What connects, answers and lost connections say of it, for one pool.

It has fallen once a connect is refused where one was accepted before. Bare, callers would then be refused
too, and find another pod; so the listener and the client connections of this application follow what is
known here, at once (docs/decisions/0018-fallen.md).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.proxy.upstream.dialer import Dialer

FAILURE_GAP_S: Final = 0.1
"""Between two doubts, where connections fail."""
LOOK_GAP_S: Final = 0.005
"""Between two looks into the kernel where an application merely closes, perhaps after each answer."""
CLOSE_GAP_S: Final = 1.0
MAX_CLOSE_GAP_S: Final = 60.0
"""Between two doubts where an application merely closes: it may have died, and most of the time it has not.
The gap doubles with each."""


class Presence:
    """Of one application. Written by its pool and its connections."""

    def __init__(
        self, dialer: Dialer, listens: Callable[[str, int], bool | None], loop: asyncio.AbstractEventLoop
    ) -> None:
        """`listens`: whether the kernel knows of a socket there (listening.py)."""
        self._dialer = dialer
        self._kernel_listens = listens
        self._loop = loop
        self.came = False
        """It has accepted a connection once."""
        self.fallen = False
        """It had come, and refuses now."""
        self.alive_at = -math.inf
        """Loop time of its last answer, or of the last connect that it took."""
        self.changed_at = loop.time()
        """Loop time since which it has been there, or not."""
        self._seen_by_kernel: bool | None = None
        """The kernel knew of it when it accepted; None: it has not said so far, for want of a descriptor."""
        self._doubt_again = self._doubt_closed = self._look_again = -math.inf
        self._close_gap_s = CLOSE_GAP_S
        self.on_change: list[Callable[[], None]] = []
        self.on_shut: list[Callable[[], None]] = []
        """Told whenever `shut` may have changed, after `on_change`."""
        self.covered: Callable[[], bool] = lambda: False
        """While it is gone callers are answered all the same, and need not be turned away."""
        self.on_doubt: Callable[[], None] = lambda: None

    @property
    def shut(self) -> bool:
        """Callers are turned away."""
        return self.fallen and not self.covered()

    def accepts(self) -> None:
        """A connect has succeeded, a probe's too."""
        self.alive_at = self._loop.time()
        if self._seen_by_kernel is None:
            # Not so where it is on another machine, or where rules lead elsewhere than they say.
            self._seen_by_kernel = self._listens()
        if self.fallen or not self.came:
            self.came, self.fallen = True, False
            self._changed()

    def refuses(self) -> None:
        """A connect was refused: nobody listens."""
        if self.came and not self.fallen:
            self.fallen = True
            self._close_gap_s, self._doubt_closed = CLOSE_GAP_S, -math.inf
            self._changed()
            self.on_doubt()

    def look(self) -> bool | None:
        """Tell whether it listens, without its knowing; None: only a connect would tell."""
        if not self._seen_by_kernel:
            return None
        listens = self._listens()
        if listens is False:
            self.refuses()
        return listens

    def failed(self) -> None:
        """A connection has ended on which an answer was due, or was reset."""
        if self.fallen or self.look() is False:
            return
        now = self._loop.time()
        if now >= self._doubt_again:
            self._doubt_again = now + FAILURE_GAP_S
            self.on_doubt()

    def closed(self) -> None:
        """The application has closed a connection that it might have kept."""
        now = self._loop.time()
        if self.fallen or now < self._look_again:
            return
        self._look_again = now + LOOK_GAP_S
        if self.look() is not False and now >= self._doubt_closed:
            self._doubt_closed = now + self._close_gap_s
            self._close_gap_s = min(2 * self._close_gap_s, MAX_CLOSE_GAP_S)
            self.on_doubt()

    def _listens(self) -> bool | None:
        found = [self._kernel_listens(*place) for place in self._dialer.places]
        if True in found:
            return True
        return None if not found or None in found else False

    def _changed(self) -> None:
        self.changed_at = self._loop.time()
        for listener in list(self.on_change):
            listener()
        self.review()

    def review(self) -> None:
        """Callers may have to be turned away from now on, or not any longer."""
        for listener in list(self.on_shut):
            listener()
