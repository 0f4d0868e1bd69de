"""How much of what passes through is held here? One account for the process, and what is done about too much.

Whoever cannot be written to makes the other side wait, so a stream holds less than half a MiB by itself; a
thousand of them would still be too much. From `max_buffer_bytes` on, every connection reads in small pieces
and waits until each is gone: streams that are taken go on, slower, and those that are not hold next to
nothing more. Nothing is cut for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.proxy.outbox import LARGE_BYTES
from drainproxy.proxy.run_queue import RunQueue
from drainproxy.proxy.side import RECEIVE_BYTES, SMALL_BYTES, UNSENT_BYTES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Hashable

    from drainproxy.proxy.outbox import Outbox
    from drainproxy.proxy.side import Side

KERNEL_BYTES = 2 * RECEIVE_BYTES + UNSENT_BYTES
"""What a stream that waits costs there, which cgroup version 2 counts too: in its books a received byte is
two (socket(7))."""
MAX_AHEAD_BYTES = 64 * 1024
"""Bytes read beyond the current request. Reading goes on until then: a paused transport reports no close."""
MAX_PARTIAL_BYTES = 4 * 1024
"""A head that has begun and is larger counts as held; while too much is held it is refused."""
RELAX_S = 5.0
"""For so long at least connections stay as they are made when too much is held."""


class Buffers:
    """Written by connections, each for what waits in it."""

    def __init__(self, max_bytes: int, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        self.max_bytes = max_bytes
        self._outbox = outbox
        self._loop = loop
        self._held: dict[Hashable, int] = {}
        self.held_bytes = 0
        self.tight = False
        """Too much is held, or was a moment ago."""
        self.max_ahead_bytes = MAX_AHEAD_BYTES
        self.sides: list[Collection[Side]] = []
        """Every connection, of whatever kind."""
        self.run_queue = RunQueue(loop)
        """Whose reading goes on."""
        self.on_change: Callable[[], None] = lambda: None

    def hold_stream(self, transport: asyncio.Transport) -> None:
        """Note that a transport's other end does not take what it gets."""
        kernel_bytes = 3 * SMALL_BYTES if self.tight else KERNEL_BYTES
        self.hold(transport, transport.get_write_buffer_size() + kernel_bytes)

    def hold(self, who: Hashable, size: int) -> None:
        """Note that `size` bytes wait in `who`; `free` or 0 once nothing does."""
        self.held_bytes += size - self._held.get(who, 0)
        self._held[who] = size
        if self.held_bytes > self.max_bytes and not self.tight:
            self._loop.call_later(RELAX_S, self._relax)
            self._switch(tight=True)

    def free(self, who: Hashable) -> None:
        """Note that nothing waits in `who`."""
        self.held_bytes -= self._held.pop(who, 0)

    def _relax(self) -> None:
        if self.held_bytes > self.max_bytes // 2:
            self._loop.call_later(RELAX_S, self._relax)
        else:
            self._switch(tight=False)

    def _switch(self, *, tight: bool) -> None:
        self.tight = tight
        self.max_ahead_bytes = SMALL_BYTES if tight else MAX_AHEAD_BYTES
        # Put off, the small pieces of one turn would add up before anybody could say that it is too much.
        self._outbox.large_bytes = 0 if tight else LARGE_BYTES
        for sides in self.sides:
            for side in list(sides):
                side.fit()
        self.on_change()
