"""Accepts where descriptors are few: some callers in a turn of the loop, so that each is told why not.

The loops accept a whole backlog in one turn, before anything can be said to anybody; uvloop then hangs up on
those for whom no descriptor is left, which a caller that has asked sees as a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from drainproxy.tasks import Connections

FEW_DESCRIPTORS = 4096
"""Below it a backlog (listener.py) may hold more callers than there are descriptors left."""
ACCEPTED_A_TURN = 4


def few_descriptors() -> bool:
    """Tell whether a turn's callers could take the last ones."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and soft < FEW_DESCRIPTORS


class Acceptor:
    """Stands in for the server that a loop makes of a listening socket."""

    def __init__(self, wire: socket.socket, make: Callable[[], asyncio.Protocol], tasks: Connections) -> None:
        self.sockets = (wire,)
        self._wire = wire
        self._make = make
        self._tasks = tasks
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
        for _ in range(ACCEPTED_A_TURN):
            try:
                wire, _ = self._wire.accept()
            except OSError:
                # Nobody is there any more, or somebody was turned away.
                return
            self._tasks.spawn(self._take_in(wire), "accept")

    async def _take_in(self, wire: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(self._make, wire)
