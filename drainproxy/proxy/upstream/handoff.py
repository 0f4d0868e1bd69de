"""A connection to a sibling pod, for a request that this pod cannot serve.

Who the siblings are is asked when the first such request comes or the application falls, and kept for as long
as it is needed, a few seconds at a time. Each request tries two of them, half a second each; whoever does not
answer a connect is left out for a while. What goes over the connection is the request's own matter
(http1/claim.py), and nobody gets it a second time.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final, Protocol

from drainproxy.addresses import UpstreamAddress
from drainproxy.lifecycle.machine import NewRequest
from drainproxy.proxy.message import handed_on
from drainproxy.proxy.upstream.connection import UpstreamConnection
from drainproxy.proxy.upstream.dialer import Dialer

if TYPE_CHECKING:
    from drainproxy.lifecycle.port import Lifecycle, Sibling, Siblings
    from drainproxy.log import Log
    from drainproxy.metrics import HandoffEnded, Metrics
    from drainproxy.proxy.message.parser import RequestHead
    from drainproxy.proxy.upstream.pool import Pool
    from drainproxy.proxy.wire import keepalive
    from drainproxy.proxy.wire.buffers import Buffers
    from drainproxy.tasks import Connections

MAX_TRIES: Final = 2
CONNECT_S: Final = 0.5
READ_S: Final = 1.0
"""For so long a request waits to hear who its siblings are."""
FRESH_S: Final = 5.0
"""An answer is asked for again, when it is needed and older."""
STALE_S: Final = 60.0
"""Where the cluster does not answer, the last one serves for so long: then an address may be another's."""
LEFT_OUT_S: Final = 2.0
"""Who has not answered a connect is not tried again before that, unless there is nobody else."""


class HandedOn(Protocol):
    """A request that says it was."""

    head: RequestHead
    handed: bool
    """It goes no further."""


class Handoff:
    """Of one listener, on the loop's thread."""

    def __init__(
        self,
        siblings: Siblings,
        port: int,
        pool: Pool,
        *,
        lifecycle: Lifecycle,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        log: Log,
        tasks: Connections,
        limits: bool,
    ) -> None:
        """`port`: where this listener is asked by the Service. `limits`: what a limit refuses goes on too."""
        self._siblings = siblings
        self._port = port
        self._pool = pool
        self._lifecycle = lifecycle
        self._loop = loop
        self._metrics = metrics
        self._log = log
        self._tasks = tasks
        self.limits = limits
        self._known: list[Sibling] = []
        self._read_at = self._heard_at = -math.inf
        """When the cluster was asked last, and when it has answered."""
        self._reading: asyncio.Task[None] | None = None
        self._left_out: dict[Sibling, float] = {}
        self._turn = 0
        self._house = _House(pool)
        metrics.use(metrics.handoff, metrics.handoff_received)
        pool.presence.on_change.append(self._application_changed)

    @property
    def possible(self) -> bool:
        """Somebody may be there: it is not known that nobody is."""
        return bool(self._known) or self._loop.time() - self._read_at >= FRESH_S or self._reading is not None

    @property
    def first(self) -> bool:
        """Siblings are asked before the application is: it may stop at any moment."""
        last = self._lifecycle.published.policy.new_request is NewRequest.FORWARD_AFTER_DRAINED
        return last and self.possible

    @property
    def known(self) -> int:
        """How many siblings there were at the last look."""
        return len(self._known)

    async def connect(
        self, head: RequestHead, target: bytes, latest: float
    ) -> tuple[UpstreamConnection, str] | None:
        """Connect to a sibling, mark the request as handed on, and return which one it is.

        `target`: as it goes on. Until loop time `latest`. None: nobody has taken it, and nothing was sent.
        """
        await self._look(latest)
        tried = 0
        for sibling in self._in_turn():
            tried += 1
            connection = await self._dial(sibling, min(latest, self._loop.time() + CONNECT_S))
            if connection is not None:
                handed_on.mark(head, target, self._siblings.keys, time.time())
                return connection, sibling.host
        self.ended("unreachable" if tried else "nobody")
        return None

    def came(self, request: HandedOn) -> bool:
        """Take in a request that says it was handed on; return whether a sibling has said so."""
        request.handed = True
        known = handed_on.strip(request.head, self._siblings.keys, time.time())
        self._metrics.handoff_received.inc("sibling" if known else "stranger")
        return known

    def ended(self, outcome: HandoffEnded) -> None:
        """Count what came of one."""
        self._metrics.handoff.inc(outcome)

    # Who there is.

    def _application_changed(self) -> None:
        if self._pool.presence.fallen:
            # So that the first request need not wait for it.
            self._read()
        else:
            self._left_out.clear()

    def _read(self) -> asyncio.Task[None]:
        if self._reading is None:
            self._reading = self._tasks.spawn(self._ask(), "siblings")
        return self._reading

    async def _ask(self) -> None:
        before = self.possible
        try:
            self._read_at = self._loop.time()
            found = await self._siblings.read(self._port)
            now = self._loop.time()
            if found is not None:
                self._known, self._heard_at = found, now
            elif now - self._heard_at > STALE_S:
                self._known = []
            self._log.condition("siblings", "siblings", "info", port=self._port, count=len(self._known))
        finally:
            self._reading = None
        if before and not self._known:
            # Nobody serves in its place: callers are turned away as ever.
            self._pool.presence.review()

    async def _look(self, latest: float) -> None:
        """See that it is known who there is, as far as it can be."""
        if self._loop.time() - self._read_at < FRESH_S and self._reading is None:
            return
        reading = self._read()
        if self._known and self._loop.time() - self._heard_at < STALE_S:
            # Good enough until the answer is here.
            return
        await asyncio.wait((reading,), timeout=max(0.0, min(READ_S, latest - self._loop.time())))

    def _in_turn(self) -> list[Sibling]:
        """Choose whom to try: those of the own zone first, each in its turn."""
        now = self._loop.time()
        self._left_out = {each: until for each, until in self._left_out.items() if until > now}
        self._turn += 1
        chosen: list[Sibling] = []
        for near in (True, False):
            there = [each for each in self._known if each.near is near]
            start = self._turn % len(there) if there else 0
            chosen += there[start:] + there[:start]
        chosen.sort(key=lambda each: each in self._left_out)
        return chosen[:MAX_TRIES]

    async def _dial(self, sibling: Sibling, deadline: float) -> UpstreamConnection | None:
        owner = _Owner(self._house, UpstreamAddress(sibling.host, sibling.port), self._loop)
        connection = UpstreamConnection(owner)
        connection.spent = True
        try:
            async with asyncio.timeout_at(deadline):
                await connection.dial(connection.as_protocol)
        except (TimeoutError, OSError):
            self._left_out[sibling] = self._loop.time() + LEFT_OUT_S
            self._house.closed(connection)
            return None
        except BaseException:
            self._house.closed(connection)
            raise
        return connection


class _House:
    """Every connection to a sibling, for the account of what is held."""

    def __init__(self, pool: Pool) -> None:
        self.open: set[UpstreamConnection] = set()
        self.buffers: Buffers = pool.buffers
        self.keepalive: keepalive.Options = pool.keepalive
        pool.buffers.join(self.open)

    def closed(self, connection: UpstreamConnection) -> None:
        """Forget one that has ended."""
        self.open.discard(connection)


class _Owner:
    """See connection.Owner: of one connection, which is used once."""

    def __init__(self, house: _House, address: UpstreamAddress, loop: asyncio.AbstractEventLoop) -> None:
        self._house = house
        self.address = address
        self.buffers, self.keepalive = house.buffers, house.keepalive
        self.dialer = Dialer(address, loop)
        self.presence = _Elsewhere()

    def opened(self, connection: UpstreamConnection) -> None:
        """See Owner."""
        self._house.open.add(connection)
        self.buffers.weigh()

    def closed(self, connection: UpstreamConnection) -> None:
        """See Owner."""
        self._house.closed(connection)

    def discard(self, connection: UpstreamConnection) -> None:
        """See Owner."""
        connection.borrower = None
        connection.transport.abort()

    def is_young(self, connection: UpstreamConnection) -> bool:
        """See Owner: it never idles."""
        return False

    def distrust(self) -> None:
        """See Owner."""


class _Elsewhere:
    """Its end says nothing of the application of this pod."""

    def closed(self) -> None:
        """See Witness."""

    def failed(self) -> None:
        """See Witness."""
