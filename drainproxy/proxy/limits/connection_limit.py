"""Who may stay connected? The places for client connections, shared by every listener of the process.

Over the limit the connection that has idled longest gives way; where none idles, the newcomer is told so.
Nobody keeps an order below half of the limit: there it costs a request one look at `idle`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

from drainproxy.errors import TooManyConnections, TooManyPerClient
from drainproxy.proxy.wire import sockets

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from drainproxy.errors import LimitReached
    from drainproxy.lifecycle.lazytimer import LazyTimer
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.limits.capacity import Capacity
    from drainproxy.proxy.upstream.pool import Pool

SILENT_S: Final = 1.0
"""A newcomer gets this long to say something before another newcomer may take its place."""
MAX_SPARE: Final = 128
"""Newcomers beyond the limit that are waited for until they ask something; also, connections that were told
to go and have not gone."""
LOOKS: Final = 4
"""For each newcomer too many so many are looked at, whether what they ask is here."""
MAX_SPEAKING: Final = 4
"""Times so many are not waited for, whatever they have said."""
MAX_CHECKS: Final = 16
"""Health checks beyond the limit that are served at a time: a pod that is full is not dead."""
CROWDED_SHARE, QUIET_SHARE = 0.8, 0.7
"""From this share of the places on somebody should know, and below that one it is over."""


class Evictable(Protocol):
    """A client's connection: who may have to give way."""

    peer: bytes
    over: bool
    accepted_at: float
    loop: asyncio.AbstractEventLoop
    timer: LazyTimer
    transport: asyncio.Transport

    @property
    def idle(self) -> bool:
        """Nothing is under way."""

    @property
    def silent(self) -> bool:
        """Nothing has been asked on it yet."""

    def fail_head(self, error: LimitReached) -> None:
        """Turn the client away before it has asked anything."""

    def close(self) -> None:
        """End the connection so that the last answer can be read."""

    def abort(self) -> None:
        """End the connection at once."""


class ConnectionLimit:
    """Written by the connections as they come, idle and go."""

    def __init__(
        self, capacity: Capacity, pools: Sequence[Pool], metrics: Metrics, max_per_ip: int | None = None
    ) -> None:
        self._max = capacity.max_connections
        self._descriptors = capacity.traffic_descriptors
        self._spare = min(MAX_SPARE, max(4, self._max // 8))
        self._pools = pools
        self._metrics = metrics
        self._max_per_ip = max_per_ip
        self.no_room: Callable[[], bool] = lambda: False
        """Whether there is no memory for anything new."""
        self._by_ip: Counter[bytes] = Counter()
        self._taken: dict[Evictable, None] = {}
        self._over: dict[Evictable, None] = {}
        self._leaving: dict[Evictable, None] = {}
        self._checks: dict[Evictable, None] = {}
        self.crowded = False
        """Most places are taken."""
        self.on_crowd: Callable[[int, int], None] = lambda _taken, _most: None
        """Told when that changes."""
        self.idle: dict[Evictable, None] | None = None
        """Longest idle first; a connection goes to the end when it becomes idle. It is left in when it
        is used again: who looks for an idle one looks whether it is. None: nobody has to give way."""
        self._silent: dict[Evictable, None] = {}
        """The same for those that have not asked anything yet."""
        metrics.client_connections_limit.set(self._max)

    def enter(self, client: Evictable) -> None:
        """Take a newcomer in, at the cost of the longest idle connection if there are too many."""
        if self._max_per_ip is not None:
            self._by_ip[client.peer] += 1
            if self._one_too_many(client):
                return
        self._taken[client] = None
        if len(self._taken) > self._max * CROWDED_SHARE and not self.crowded:
            self._crowd(crowded=True)
        if self._full() and not self._make_way(SILENT_S):
            del self._taken[client]
            client.over = True
            self._over[client] = None
            if len(self._over) > self._spare and (speechless := self._speechless()) is not None:
                self._refuse(speechless, TooManyConnections())
        elif self.idle is not None:
            self._silent[client] = None
        elif len(self._taken) > self._max // 2:
            self._look()

    def _speechless(self) -> Evictable | None:
        """Return who has waited longest beyond the limit and said nothing. Whose question is here is about to
        be read: a loop that is late takes in hundreds at once, and one may be a health check."""
        over = self._over
        if len(over) > MAX_SPEAKING * self._spare:
            return next(iter(over))
        for _ in range(LOOKS):
            oldest = next(iter(over))
            if not sockets.has_bytes(oldest.transport):
                return oldest
            del over[oldest]
            over[oldest] = None
        return None

    def introduce(self, client: Evictable, peer: bytes) -> None:
        """A newcomer's address has become known."""
        if self._max_per_ip is not None:
            self._uncount(client)
            self._by_ip[peer] += 1
        client.peer = peer
        self._one_too_many(client)

    def _one_too_many(self, client: Evictable) -> bool:
        """Refuse a newcomer of whose address there are enough."""
        if self._max_per_ip is None or not client.peer or self._by_ip[client.peer] <= self._max_per_ip:
            return False
        self._refuse(client, TooManyPerClient())
        return True

    def _uncount(self, client: Evictable) -> None:
        self._by_ip[client.peer] -= 1
        if not self._by_ip[client.peer]:
            del self._by_ip[client.peer]

    def check(self, client: Evictable) -> bool:
        """Serve a newcomer beyond the limit that asks for health, once; tell whether there is room for it."""
        if len(self._checks) >= MAX_CHECKS:
            return False
        self._over.pop(client, None)
        self._checks[client] = None
        return True

    def _crowd(self, *, crowded: bool) -> None:
        self.crowded = crowded
        self._metrics.client_connections_crowded.set(float(crowded))
        self.on_crowd(len(self._taken), self._max)

    def claim(self, client: Evictable) -> None:
        """Let a newcomer beyond the limit ask, at the cost of who is silent. Raises TooManyConnections."""
        del self._over[client]
        self._taken[client] = None
        if self._full() and not self._make_way(0.0):
            self._part_with(client)
            raise TooManyConnections
        client.over = False

    def hand_over(self, old: Evictable, new: Evictable) -> None:
        """Give the place of a connection to what goes on with its socket. Raises TooManyConnections."""
        if old.over:
            self.claim(old)
        if self._max_per_ip is not None:
            self._by_ip[new.peer] += 1
        self._taken[new] = None
        if self.idle is not None:
            self._silent[new] = None

    def falls_silent(self, client: Evictable) -> None:
        """What it had begun was nothing that asks."""
        if self.idle is not None:
            self._silent[client] = None

    def leave(self, client: Evictable) -> None:
        """A connection has ended."""
        self._taken.pop(client, None)
        self._over.pop(client, None)
        self._leaving.pop(client, None)
        self._checks.pop(client, None)
        if self.crowded and len(self._taken) < self._max * QUIET_SHARE:
            self._crowd(crowded=False)
        if self._max_per_ip is not None:
            self._uncount(client)
        if self.idle is not None:
            self.idle.pop(client, None)
            self._silent.pop(client, None)
            if len(self._taken) <= self._max // 4 and self._used() <= self._descriptors // 2:
                self.idle = None
                self._silent.clear()

    def overrun_by(self, backlog: int) -> bool:
        """Tell whether a turn's callers could take the last descriptors: so many of each listener, beside all
        who have a place and a connection to the application for each."""
        return 2 * self._max + len(self._pools) * backlog > self._descriptors

    def spare_descriptor(self) -> None:
        """Have an idle client give way to a connection to the application, if descriptors are scarce."""
        if self._used() >= self._descriptors:
            self._make_way(SILENT_S)

    def _used(self) -> int:
        clients = len(self._taken) + len(self._over) + len(self._leaving) + len(self._checks)
        return clients + sum(pool.open_count for pool in self._pools)

    def _full(self) -> bool:
        return len(self._taken) > self._max or self._used() > self._descriptors or self.no_room()

    def _make_way(self, silent_s: float) -> bool:
        """Close the connection that idles longest; one that never spoke counts from `silent_s` on."""
        idle = self._look() if self.idle is None else self.idle
        while True:
            longest, mute = _first(idle, silent=False), _first(self._silent, silent=True)
            if mute is not None and mute.loop.time() >= mute.accepted_at + silent_s:
                longest = mute if longest is None else min(longest, mute, key=_idle_until)
            if longest is None:
                return False
            del (self._silent if longest is mute else idle)[longest]
            if not sockets.has_bytes(longest.transport):
                self._metrics.client_connections_evicted.inc()
                self._part_with(longest)
                longest.close()
                return True

    def _look(self) -> dict[Evictable, None]:
        """Put who idles in order, once; from then on each keeps its place in it."""
        by_age = sorted((one for one in self._taken if one.idle), key=_idle_until)
        self._silent = {one: None for one in by_age if one.silent}
        self.idle = {one: None for one in by_age if not one.silent and not one.over}
        return self.idle

    def _refuse(self, client: Evictable, error: LimitReached) -> None:
        """Answer before it has asked: it will not be listened to."""
        self._part_with(client)
        client.fail_head(error)

    def _part_with(self, client: Evictable) -> None:
        """Give its place away; it may take its time to go as long as there are not too many like it."""
        self._taken.pop(client, None)
        self._over.pop(client, None)
        self._leaving[client] = None
        if len(self._leaving) > self._spare:
            oldest = next(iter(self._leaving))
            del self._leaving[oldest]
            oldest.abort()


def _first(order: dict[Evictable, None], *, silent: bool) -> Evictable | None:
    """Return the first that still idles, and forget those before it that do not."""
    while (one := next(iter(order), None)) is not None and not (one.idle and one.silent is silent):
        del order[one]
    return one


def _idle_until(client: Evictable) -> float:
    """Return when its idle timer would end it: the longest idle first."""
    return client.timer.when
