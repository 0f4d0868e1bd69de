"""How much is held here for clients and for the application? One account for the process, and what is done
about too much.

Three things are in it: what waits in somebody (`hold`), what the kernel keeps of a stream that stands still,
and what the objects themselves take, which is worked out from how many there are (`costs`). From
`max_buffer_bytes` on, every connection reads in small pieces and waits until each is gone: streams that are
taken go on, slower, and those that are not hold next to nothing more. What has been begun and is no request
yet gives way, the largest first. Beyond `room_bytes` nothing new is begun. Nothing that is under way is cut.
"""

from __future__ import annotations

import asyncio
import gc
import math
import sys
from collections.abc import Hashable, Sized
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from drainproxy.proxy.wire.allocator import give_back
from drainproxy.proxy.wire.run_queue import RunQueue
from drainproxy.proxy.wire.sockets import RECEIVE_BYTES, UNSENT_BYTES
from drainproxy.proxy.wire.weights import SOCKET_BYTES, UPSTREAM_BYTES, transport_bytes
from drainproxy.proxy.wire.write_batch import LARGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from drainproxy.metrics import Metrics
    from drainproxy.proxy.wire.write_batch import WriteBatch

SMALL_BYTES: Final = 8 * 1024
"""One read, and each of the kernel's shares, while too much is held."""
KERNEL_BYTES: Final = 2 * RECEIVE_BYTES + UNSENT_BYTES
"""What a stream that waits costs there, which cgroup version 2 counts too: in its books a received byte is
two (socket(7))."""
MAX_AHEAD_BYTES: Final = 64 * 1024
"""Bytes read beyond the current request. Reading goes on until then: a paused transport reports no close."""
MAX_PARTIAL_BYTES: Final = 4 * 1024
"""Of what has begun and is no request yet: who holds more gives way while too much is held."""
MAX_TIGHT_HEAD_BYTES: Final = 16 * 1024
"""A request with a larger head gets 503 while too much is held: what is left is for many small ones."""
RELAX_S: Final = 5.0
"""For so long at least connections stay as they are made when too much is held."""
SOFT_SHARE: Final = 0.6
"""From this share of the room on it is tight, whatever the bytes are for."""
LOOK_S: Final = 0.25
"""How often the unsent bytes of connections are looked at whose transports have not said that they have many:
up to 64 KiB each."""
WORTH_LOOKING_BYTES: Final = 2 * 1024 * 1024
"""From so much on."""
FITTED_A_TURN: Final = 512
"""Connections that hear in one turn of the loop that there is more room, or less: some 25 ms. Those who have
not heard yet read on as before, and would fill what is left if they were many turns away."""
SHED_A_TURN: Final = 16
"""So many give way in one turn of the loop."""
SHED_EVERY_S: Final = 0.1
"""Who has begun is not looked through again sooner: who begins meanwhile is refused by itself (`refuses`)."""
GIVE_BACK_BYTES: Final = 4 * 1024 * 1024
"""So much has to be free again before the C library is asked to give it back."""


class Cost(NamedTuple):
    """So many objects of a kind, and what each takes: here, and in the kernel."""

    those: Sized
    bytes: int
    kernel_bytes: int = 0


class Fitting(Protocol):
    """Either side of a stream (endpoint.py)."""

    transport: asyncio.Transport

    def fit(self) -> None:
        """Hold as much as there is room for."""


class Begun(Hashable, Protocol):
    """What a client has begun and is no request yet: unfinished.py's, and others."""

    def size(self, held: Buffers) -> int:
        """Return how much is held for it."""

    def shed(self) -> None:
        """Refuse it."""


class Buffers:
    """Written by connections, each for what waits in it."""

    def __init__(
        self,
        max_bytes: int,
        write_batch: WriteBatch,
        loop: asyncio.AbstractEventLoop,
        *,
        room_bytes: float = math.inf,
        kernel_counts: bool = False,
    ) -> None:
        """`room_bytes`: what the process has beyond what it needs before the first client. `kernel_counts`:
        what waits in sockets is in the same limit."""
        self._kernel_counts = kernel_counts
        self.max_bytes = max_bytes
        self.room_bytes = room_bytes
        self._write_batch = write_batch
        self._loop = loop
        asyncios = isinstance(loop, asyncio.SelectorEventLoop)
        self.keeps_pieces = not asyncios or sys.version_info >= (3, 12)
        """Transports keep a piece that was written until all of it has gone, and say how much has not."""
        self._pieces: dict[Hashable, int] = {}
        """The last one of each transport."""
        if self.keeps_pieces:
            write_batch.written, write_batch.followed = self.hold_piece, self._pieces
        self._held: dict[Hashable, int] = {}
        self._kernel: dict[Hashable, int] = {}
        self.held_bytes = 0
        """What waits, here and in the kernel."""
        self.kernel_bytes = 0
        """Of these, the kernel's."""
        self.own_bytes = 0
        """What is neither waiting nor counted by `costs`: sessions of TLS, books of HTTP/2."""
        self.costs: list[Cost] = []
        self.tight = False
        """Too much is held, or was a moment ago."""
        self.full = False
        """There was no room for anything new when it was looked at last: ask `is_full`."""
        self.max_ahead_bytes = MAX_AHEAD_BYTES
        self.sides: list[Collection[Fitting]] = []
        """Every connection, of whatever kind."""
        self.run_queue = RunQueue(loop)
        """Whose reading goes on."""
        self.begun: dict[Begun, None] = {}
        """The oldest first."""
        self._to_fit: list[Fitting] = []
        """Who has not heard yet that there is more room, or less."""
        self._to_shed: list[tuple[int, Begun]] = []
        """Who gives way next is the last."""
        self._shedding = self._looking = False
        self._peak_bytes = 0
        self._worth_it = False
        """Much was free, and was given back; the rest will be."""
        self.on_change: Callable[[], None] = lambda: None

    def count(self, those: Sized, size: int, kernel_size: int = 0) -> None:
        """Reckon with so many bytes for each of `those`, here and in the kernel."""
        if not any(cost.those is those for cost in self.costs):
            self.costs.append(Cost(those, size, kernel_size))

    def export(self, metrics: Metrics) -> None:
        """Have a scrape read the account."""

        def refresh() -> None:
            metrics.buffered_bytes.set(self.resident_bytes)

        metrics.buffered_bytes_limit.set(self.max_bytes)
        metrics.before_scrape.append(refresh)

    def join(self, upstreams: Collection[Fitting]) -> None:
        """Take in connections to an application."""
        self.sides.append(upstreams)
        self.count(upstreams, UPSTREAM_BYTES + transport_bytes(self._loop), SOCKET_BYTES)

    # What waits.

    def hold_stream(self, transport: asyncio.Transport) -> None:
        """Note that a transport's other end does not take what it gets."""
        unsent = self._unsent(transport)
        self.hold_kernel(transport, 3 * SMALL_BYTES if self.tight else KERNEL_BYTES)
        self.hold(transport, unsent + self._kernel[transport])

    def hold_piece(self, transport: asyncio.Transport, size: int) -> None:
        """Note that a transport was given a piece of `size` bytes: all of it is kept while a part waits, and
        so is the one before. There are no more, as a transport with two says that it has too much."""
        if waiting := transport.get_write_buffer_size():
            kept = size + self._pieces.get(transport, 0) if waiting > size else size
            self._pieces[transport] = size
            self.hold(transport, max(waiting, kept) + self._kernel.get(transport, 0))

    def free_stream(self, transport: asyncio.Transport) -> None:
        """Note that a transport's other end takes more; `_look` sees when what is kept has gone."""
        if not self.keeps_pieces or not transport.get_write_buffer_size():
            self.free(transport)
        elif kernel := self._kernel.pop(transport, 0):
            self.kernel_bytes -= kernel
            self.hold(transport, self.held_by(transport) - kernel)
            self._look_soon()

    def _unsent(self, transport: asyncio.Transport) -> int:
        """Return how much a transport holds: what has not gone, and what has of the pieces that it keeps."""
        size = transport.get_write_buffer_size()
        if size and transport in self._pieces:
            last = self._pieces[transport]
            known = self.held_by(transport) - self._kernel.get(transport, 0)
            # Once less waits than the last one has, the one before has gone.
            return last if size <= last else max(size, known)
        if self.keeps_pieces:
            # Pieces that were put off are less than LARGE_BYTES each, and half of one has gone on average.
            # Not more of that than waits, or many short waits would look like much.
            kept = min(LARGE_BYTES // 2, max(LARGE_BYTES - size, 0))
            return size + min(size, SMALL_BYTES if self.tight else kept)
        # asyncio's bytearray has made as much room as was needed, where it came in large pieces.
        return size

    def hold_kernel(self, who: Hashable, size: int) -> None:
        """Note how many of the bytes that `who` holds are the kernel's."""
        self.kernel_bytes += size - self._kernel.get(who, 0)
        self._kernel[who] = size

    def hold(self, who: Hashable, size: int) -> None:
        """Note that `size` bytes wait in `who`; `free` or 0 once nothing does."""
        before = self._held.get(who, 0)
        self.held_bytes += size - before
        self._held[who] = size
        if size > before:
            self.weigh()

    def free(self, who: Hashable) -> None:
        """Note that nothing waits in `who`."""
        self.held_bytes -= self._held.pop(who, 0)
        self._pieces.pop(who, None)
        if who in self._kernel:
            self.kernel_bytes -= self._kernel.pop(who)

    def held_by(self, who: Hashable) -> int:
        """Return how many bytes wait in `who`."""
        return self._held.get(who, 0)

    # All of it.

    @property
    def resident_bytes(self) -> int:
        """What all of it takes of this process's own memory."""
        objects = sum(len(cost.those) * cost.bytes for cost in self.costs)
        return self.held_bytes - self.kernel_bytes + self.own_bytes + objects

    def weigh(self) -> None:
        """See how much there is in all, and whether that is too much. Called by whoever adds to it."""
        total = self.held_bytes + self.own_bytes - (0 if self._kernel_counts else self.kernel_bytes)
        for those, size, kernel_size in self.costs:
            total += len(those) * (size + kernel_size)
        self.full = total > self.room_bytes
        if total > WORTH_LOOKING_BYTES:
            self._look_soon()
        over = self.held_bytes > self.max_bytes or total > self.room_bytes * SOFT_SHARE
        if over and not self.tight:
            self._loop.call_later(RELAX_S, self._relax)
            self._switch(tight=True)
        if over and self.begun and not self._shedding:
            self._shedding = True
            self.run_queue.add(self._shed)

    def is_full(self) -> bool:
        """Tell whether there is no room for anything new."""
        if self.full:
            self.weigh()
        return self.full

    def refuses(self, size: int) -> bool:
        """Tell whether what has begun, is no request yet and holds `size` bytes has to give way."""
        return self.tight and (size > MAX_PARTIAL_BYTES or self.is_full())

    def refuses_head(self, size: int) -> bool:
        """Tell whether there is no room for a request with a head of `size` bytes."""
        return size > MAX_TIGHT_HEAD_BYTES or self.is_full()

    def refuses_behind(self, size: int) -> bool:
        """Tell whether so many bytes behind a request that is under way are too many."""
        return self.tight and (size > 2 * SMALL_BYTES or (size > MAX_PARTIAL_BYTES and self.is_full()))

    def _relax(self) -> None:
        self.weigh()
        soft = self.room_bytes * SOFT_SHARE
        if self.held_bytes > self.max_bytes // 2 or self.resident_bytes > soft * 3 // 4:
            self._loop.call_later(RELAX_S, self._relax)
        else:
            self._switch(tight=False)

    def _switch(self, *, tight: bool) -> None:
        self.tight = tight
        self.max_ahead_bytes = SMALL_BYTES if tight else MAX_AHEAD_BYTES
        # Put off, the small pieces of one turn would add up before anybody could say that it is too much.
        self._write_batch.large_bytes = 0 if tight else LARGE_BYTES
        if not self._to_fit:
            self.run_queue.add(self._fit_some)
        self._to_fit = list(self._every_side())
        self.on_change()

    def _fit_some(self) -> None:
        """Have the next sides hold as much as there is room for. There may be ten thousand."""
        fitting = self._to_fit[-FITTED_A_TURN:]
        del self._to_fit[-FITTED_A_TURN:]
        for side in fitting:
            side.fit()
        if self._to_fit:
            self.run_queue.add(self._fit_some)

    def _every_side(self) -> Iterator[Fitting]:
        # One that is being made has no transport yet, and looks for itself whether it is tight.
        for sides in self.sides:
            yield from [side for side in sides if hasattr(side, "transport")]

    # What is done about it.

    def _shed(self) -> None:
        """Have what is no request yet give way, the largest first, until there is room again."""
        self.weigh()
        # Where even small ones are too much, the room has been filled by many of them.
        least = 0 if self.full else MAX_PARTIAL_BYTES
        self._to_shed = [(size, one) for one in self.begun if (size := one.size(self)) > least]
        self._to_shed.sort(key=lambda each: each[0])
        self._shed_some()

    def _shed_some(self) -> None:
        """Have the next ones give way: each is told why, and thousands may have begun."""
        over = True
        try:
            for _ in range(SHED_A_TURN):
                self.weigh()
                crowded = self.tight and (self.full or self.held_bytes > self.max_bytes * 3 // 4)
                if not (crowded and self._to_shed):
                    return
                _, one = self._to_shed.pop()
                if one in self.begun:
                    one.shed()
            over = False
            self.run_queue.add(self._shed_some)
        finally:
            # Also where one could not: the next crowd has to give way all the same.
            if over:
                self._to_shed = []
                self._loop.call_later(SHED_EVERY_S, self._shed_again)

    def _shed_again(self) -> None:
        self._shedding = False

    def _look_soon(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Take in what waits in transports that have not said so, and give back what is free."""
        moving = False
        for side in self._every_side():
            transport = side.transport
            size, kernel = self._unsent(transport), self._kernel.get(transport, 0)
            if size + kernel > self.held_by(transport) or (size and transport in self._pieces):
                self.hold(transport, size + kernel)
            elif not size and not kernel and transport in self._held:
                self.free(transport)
            moving = moving or (size > 0 and not kernel)
        now = self.resident_bytes
        self._peak_bytes = max(self._peak_bytes, now)
        if self._peak_bytes - now > GIVE_BACK_BYTES:
            self._peak_bytes = now
            self._worth_it = True
            give_back()
        # A transport says that it takes more before all of it has gone, and no word when it has.
        self._looking = moving or now > WORTH_LOOKING_BYTES
        if self._looking:
            self._loop.call_later(LOOK_S, self._look)
        elif self._worth_it:
            self._peak_bytes, self._worth_it = 0, False
            # Who has left the account goes in its turn, and is gone some turns later.
            self.run_queue.add(self._tidy_soon)

    def _tidy_soon(self) -> None:
        self._loop.call_later(LOOK_S, self._tidy)

    @staticmethod
    def _tidy() -> None:
        """Give back the rest, when little is left to look through."""
        # It empties the interpreter's free lists.
        gc.collect()
        give_back()
