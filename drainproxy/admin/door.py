"""Who is heard at a listening socket that is open to a whole pod network: fair places, and patience.

The port shares its descriptors with the data plane, so a crowd of silent connections must cost little:
nothing is made for one before it speaks, the address with most of them gives its oldest away, and the node,
where the kubelet is, has places of its own. Says nothing to anybody; http_server.py and the webhook's server
do, each with a library's protocol.
"""

import asyncio
from typing import Protocol, cast

from drainproxy.admin.fair_share import FairShare

MAX_CONNECTIONS = 256
"""Waiting hooks included; a few scrapers and some people need a tenth of it."""

NODE_CONNECTIONS = 96
"""Of the node's own addresses: a hook and three probes of each container of a large pod."""

BACKLOG = 1024
"""Connections the kernel completes while the loop is busy; beyond it a probe's SYN would be sent again a
second later."""

ACCEPTED_AT_ONCE = 64
"""The standard loop takes as many in one turn as its server's backlog says, whoever else waits."""

KEEPALIVE_S = 75.0
"""An idle connection, or one whose head does not come, is closed after this: longer than the usual
60 s between two scrapes."""

STOP_S = 0.5
"""What answers under way get when the process exits."""

FIELDS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "drainproxy"}
"""What every answer has. No library names itself and its version."""


class Caller(Protocol):
    """A connection that has a place."""

    address: str
    waiting: bool
    """It is a hook, which waits by design and gives way to nobody."""
    wire: asyncio.Transport | None

    def __hash__(self) -> int:
        """Return what tells it from others."""


class Speaking(Caller, Protocol):
    """The protocol of a connection that has begun to speak."""

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None:
        """See asyncio.Protocol."""

    def data_received(self, data: bytes, /) -> None:
        """See asyncio.Protocol."""


class Door:
    """The places of one listening socket."""

    def __init__(self, node: frozenset[str] = frozenset()) -> None:
        """`node`: the addresses that the kubelet comes from."""
        self._node = node
        self._others: FairShare[Caller] = FairShare(MAX_CONNECTIONS)
        self._kubelets: FairShare[Caller] = FairShare(NODE_CONNECTIONS)

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of one accepted connection."""
        return _Silent(self)

    def speaking(self) -> Speaking:
        """Return the protocol of a connection that has begun to speak, which `leave`s at its end."""
        raise NotImplementedError

    def enter(self, caller: Caller, transport: asyncio.Transport) -> None:
        """Take a connection in, at the cost of another one if there are too many."""
        address = caller.address = address_of(transport)
        places = self._places(address)
        places.enter(caller, address)
        for crowd in places.crowds(address):
            # A hook waits by design, and is the oldest.
            silent = (each for each in places.of(crowd) if not each.waiting)
            if (oldest := next(silent, None)) is not None and oldest.wire is not None:
                places.leave(oldest, crowd)
                oldest.wire.abort()
                break

    def replace(self, silent: "_Silent", caller: Speaking) -> None:
        """A connection has begun to speak."""
        caller.address, caller.wire = silent.address, silent.wire
        self._places(caller.address).replace(silent, caller, caller.address)

    def leave(self, caller: Caller) -> None:
        """Forget a connection."""
        self._places(caller.address).leave(caller, caller.address)

    def send_home(self) -> None:
        """End every connection at once."""
        for caller in (*self._others, *self._kubelets):
            if caller.wire is not None:
                caller.wire.abort()

    def _places(self, address: str) -> FairShare[Caller]:
        return self._kubelets if address in self._node else self._others


class _Silent(asyncio.Protocol):
    """A connection that has not said anything yet. Thousands a second of them cost next to nothing."""

    __slots__ = ("_door", "_patience", "address", "waiting", "wire")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._patience: asyncio.TimerHandle | None = None
        self.address = ""
        self.waiting = False
        self.wire: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.wire = cast("asyncio.Transport", transport)
        self._patience = asyncio.get_running_loop().call_later(KEEPALIVE_S, self.wire.abort)
        self._door.enter(self, self.wire)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. It speaks: from now on it is a connection like any other."""
        wire = self.wire
        self._forget_time()
        if wire is None or wire.is_closing():
            # Turned away at the door; what it says is still in the loop's hands.
            return
        caller = self._door.speaking()
        self._door.replace(self, caller)
        wire.set_protocol(cast("asyncio.Protocol", caller))
        caller.connection_made(wire)
        caller.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._forget_time()
        self._door.leave(self)

    def _forget_time(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def address_of(transport: asyncio.BaseTransport | None, end: str = "peername") -> str:
    """Return the IP address of one end of a connection, or nothing where it has none or is gone."""
    name = None if transport is None else transport.get_extra_info(end)
    # What a dual-stack listener calls an IPv4 peer begins like this.
    return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else ""
