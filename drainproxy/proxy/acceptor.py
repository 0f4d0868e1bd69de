"""Accepts where descriptors are few: some callers in a turn of the loop, so that each is told why not.

The loops accept a whole backlog in one turn, before anything can be said to anybody; uvloop then hangs up on
those for whom no descriptor is left, which a caller that has asked sees as a reset.

Whoever is accepted is known to connection_limit.py some turns later, and who gives way to it gives back
its descriptor later still. While few are left the next ones wait in the backlog for that: a descriptor that
will be back is not one that is missing, to them or to a connect to the application.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from typing import TYPE_CHECKING

from drainproxy.proxy.wire import sockets
from drainproxy.tasks import TURNS, let_the_loop_turn

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from drainproxy.proxy.wire.listening_socket import ListeningSocket
    from drainproxy.tasks import Connections

ACCEPTED_A_TURN = 4
LAST_DESCRIPTORS = 32
"""So many may be under way at once where each turn brings some, from the accept to the close of who gives
way."""
OUT_FOR_TURNS = 2 * TURNS
"""What other listeners have under way is over by then; who finds none yet is turned away."""


class Acceptor:
    """Stands in for the server that a loop makes of a listening socket."""

    def __init__(
        self, wire: ListeningSocket, make: Callable[[], asyncio.Protocol], tasks: Connections
    ) -> None:
        self.sockets = (wire,)
        self._wire = wire
        self._make = make
        self._tasks = tasks
        self._last_from = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - LAST_DESCRIPTORS
        self._under_way = 0
        """Accepted, and perhaps at the cost of somebody who has not gone yet."""
        self._scarce = False
        """The last one took one of the last descriptors."""
        self._out_for = 0
        """Turns in a row that found none."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(wire.fileno(), self._accept)

    def pause(self) -> None:
        """Accept nobody any more; who was accepted comes in."""
        self._loop.remove_reader(self._wire.fileno())

    def close(self) -> None:
        """Let go of the socket."""
        self.pause()
        self._wire.close()

    def _accept(self) -> None:
        if self._scarce and self._under_way:
            return
        for _ in range(ACCEPTED_A_TURN):
            try:
                wire, _ = self._wire.take()
            except OSError as error:
                if error.errno in sockets.OUT_OF_DESCRIPTORS:
                    self._out()
                # Otherwise nobody is there any more.
                return
            self._out_for = 0
            # A new descriptor is the lowest that is free (POSIX): all below it are taken.
            self._scarce = wire.fileno() >= self._last_from
            self._under_way += 1
            self._tasks.spawn(self._take_in(wire), "accept").add_done_callback(self._settled)

    def _out(self) -> None:
        """Turn somebody away, unless it may be a matter of a moment."""
        self._scarce = True
        self._out_for += 1
        if not self._under_way and self._out_for > OUT_FOR_TURNS:
            with contextlib.suppress(OSError):
                self._wire.turn_away()

    async def _take_in(self, wire: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(self._make, wire)
        await let_the_loop_turn()

    def _settled(self, _: asyncio.Task[None]) -> None:
        self._under_way -= 1
