"""Either side of a stream: how much it reads at a time, and what is held while it takes nothing.

Base of client connections and of connections to the application. Each reads as much as there is room for in
the account that all of them share (buffers.py).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

from drainproxy.proxy.wire import sockets
from drainproxy.proxy.wire.buffers import SMALL_BYTES
from drainproxy.proxy.wire.run_queue import LARGE_READ_BYTES
from drainproxy.proxy.wire.small_reads import SmallReads
from drainproxy.proxy.wire.sockets import UNSENT_BYTES, bound_unsent
from drainproxy.proxy.wire.tls import Tls

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.proxy.wire.buffers import Buffers


class Endpoint:
    """An asyncio.Protocol by what it does, and by no inheritance (decision 0023).

    Written by its transport, on the loop's thread.
    """

    __slots__ = ("_afterwards", "_backlog", "_fin_due", "buffers", "transport", "yielding")
    transport: asyncio.Transport

    def __init__(self, buffers: Buffers) -> None:
        self.buffers = buffers
        self.yielding = False
        """Others have their turn; it is not read from."""
        self._backlog = False
        """Its reader has one to go on with; otherwise its read was large, and that is all."""
        self._fin_due = False
        """It half-closes once what was written has gone."""
        self._afterwards: Callable[[], object] | None = None
        """What has come behind the backlog."""

    def as_protocol(self) -> asyncio.Protocol:
        """Return itself, as what a loop or a transport takes."""
        return cast("asyncio.Protocol", self)

    @property
    def held_back(self) -> bool:
        """It is not read from, because what it says could not be passed on."""
        raise NotImplementedError

    def tell_writer(self, *, writable: bool) -> None:
        """Hold back who writes to this side, or let them go on."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        if self.buffers.tight:
            self.fit()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        raise NotImplementedError

    def eof_received(self) -> bool | None:
        """See asyncio.Protocol."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.buffers.free(self.transport)
        sockets.unwind(self.transport)

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the other end does not take what it gets."""
        self.buffers.hold_stream(self.transport)
        self.tell_writer(writable=False)

    def resume_writing(self) -> None:
        """See asyncio.Protocol: the other end takes more."""
        self.buffers.free_stream(self.transport)
        self.tell_writer(writable=True)
        if self._fin_due:
            # Not from in here: asyncio is in the middle of its own writing.
            self.buffers.run_queue.add(self._end_late)

    def end_writing(self) -> None:
        """Half-close behind what was written. Raises OSError where the other end has gone already.

        Left to asyncio, it is done after the last write, where nobody hears that there is nothing to close
        any more: over loopback a reset comes while that write is being made.
        """
        self._fin_due = self.transport.get_write_buffer_size() > 0
        if self._fin_due:
            self.transport.set_write_buffer_limits(high=0)
        else:
            self.transport.write_eof()

    def _end_late(self) -> None:
        with contextlib.suppress(OSError):
            # It is about to be told that the other end has gone.
            if not self.transport.is_closing():
                self.end_writing()

    # Yielding (run_queue.py).

    def give_way(self, size: int, backlog: int) -> None:
        """After a read of `size` bytes, of which the reader has kept `backlog`: let others have their turn
        before it goes on, if there is a backlog or the read was large."""
        if not backlog and size < LARGE_READ_BYTES:
            return
        if backlog or self._backlog:
            self._backlog = backlog > 0
            self.buffers.hold((self, "backlog"), backlog)
        if not self.yielding:
            self.yielding = True
            if not self.transport.is_closing():
                self.transport.pause_reading()
            self.buffers.run_queue.add(self._go_on)

    def behind_backlog(self, act: Callable[[], object]) -> None:
        """Do what comes behind everything that was read."""
        if self.yielding:
            self._afterwards = act
        else:
            act()

    def drop_backlog(self) -> None:
        """Nobody wants it any more."""
        self._end_backlog()
        self._afterwards = None

    def _end_backlog(self) -> bool:
        """Return whether there was one."""
        had, self._backlog, self.yielding = self._backlog, False, False
        if had:
            self.buffers.free((self, "backlog"))
        return had

    def _go_on(self) -> None:
        if not self.yielding:
            return
        if self._end_backlog():
            self.data_received(b"")
            if self.yielding:
                return
        afterwards, self._afterwards = self._afterwards, None
        if afterwards is not None:
            afterwards()
        elif not self.held_back and not self.transport.is_closing():
            self.transport.resume_reading()

    def fit(self) -> None:
        """Hold as much as there is room for."""
        transport, tight = self.transport, self.buffers.tight
        if transport.is_closing():
            return
        bound_unsent(transport.get_extra_info("socket"), SMALL_BYTES if tight else UNSENT_BYTES)
        reader = self.as_protocol()
        if (tls := session_of(transport)) is not None:
            # What is read is read for it.
            reader, transport = cast("asyncio.Protocol", tls), tls.plain
        now = transport.get_protocol()
        if (now.reader if isinstance(now, SmallReads) else now) is not reader:
            # Thousands are fitted in many turns: the socket has been handed over since.
            return
        transport.set_protocol(SmallReads(reader) if tight else reader)
        transport.set_write_buffer_limits(high=0 if tight else None)
        if transport.is_reading():
            # How it reads is looked up where it begins to.
            transport.pause_reading()
            transport.resume_reading()


def session_of(transport: object) -> Tls | None:
    """Return what a connection is encrypted by, or None."""
    return transport if isinstance(transport, Tls) else None
