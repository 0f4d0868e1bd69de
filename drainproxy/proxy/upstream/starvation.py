"""Do the connections that we keep hold the workers that others wait for? Then keep none, for a while.

Servers whose threads or processes each serve one connection to its end (Apache prefork, Starman, Puma while
it is busy) leave a new one unread while a kept one idles, or goes on being used. That is seen, not guessed:
the kernel tells that the application has read nothing of a request on a fresh connection (accepting.py), and
the pool that others were answered meanwhile, or that closing idle ones let it in. An event loop that stands
still reads none of them, and is let in by nothing that is closed.

Written by the pool; what was learnt holds for seconds, is tried again, and forgotten when it is not so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

from drainproxy.lifecycle.lazytimer import LazyTimer
from drainproxy.proxy.upstream.accepting import Stage, stage

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.proxy.upstream.connection import UpstreamConnection

WAIT_S: Final = 0.02
"""An unread request has waited for nothing yet."""
WAIT_AGAIN_S: Final = 0.005
"""The same where it was so a while ago."""
LOOK_S: Final = 0.001
HELP_S: Final = 0.02
"""What is read so soon after idle connections were closed, and no other one had its answer meanwhile, was let
in by that."""
BACKLOG_S: Final = 0.25
"""How often the backlog is looked at while connections are kept: a kubelet's probe waits there too."""
HITS: Final = 2
LAPS_UNACCEPTED: Final = 2
LAPS: Final = 4
"""An event loop accepts a new connection in its next round, and reads it some rounds later. A round has
passed when a request is answered that was sent, on a kept connection, after the last one had passed."""
FIRST_S: Final = 30.0
LONGEST_S: Final = 180.0
LONGEST_PAUSE_S: Final = 4.0
MAX_LOOKED_AT: Final = 16


class Kept(Protocol):
    """The connections of one application (pool.py)."""

    @property
    def open_count(self) -> int:
        """How many there are."""

    def close_idle(self, most: int = 0, /) -> int:
        """Close up to so many of those that nobody uses; return how many there were."""

    def backlog(self) -> int:
        """Return how many wait for the application to accept them."""

    def has_queues(self) -> bool:
        """Tell whether several sockets listen there, each with a queue of its own."""


class Starvation:
    """Of one pool, on the loop's thread."""

    def __init__(self, kept: Kept, loop: asyncio.AbstractEventLoop) -> None:
        self._kept = kept
        self._loop = loop
        self.waiting: dict[UpstreamConnection, float] = {}
        """Never used before, and since when a request is on it: the oldest first."""
        self.owed = 0
        """So many connections are not kept, since others wait in the backlog."""
        self.off = False
        """No connection is kept."""
        self.learnt = False
        """That was so lately."""
        self.on_change: Callable[[], None] = lambda: None
        self.asleep = True
        self._timer = LazyTimer(loop, self._look)
        self._term = LazyTimer(loop, self._keep_again)
        self._for_s = 0.0
        self._hits = self._laps = 0
        self._overtaken: UpstreamConnection | None = None
        self._since = 0.0
        """When its last round began."""
        self._let_in: UpstreamConnection | None = None
        """For it idle connections were closed, at `_closed_at`."""
        self._closed_at = 0.0
        self._disturbed = False
        """Another one had its answer since then, so that a worker was free anyway."""
        self._pause_s = 0.0
        self._not_before = -math.inf
        self._crowded = False

    # What the pool tells.

    def sent(self, connection: UpstreamConnection) -> None:
        """A request goes out at once on a connection that nobody has used."""
        if not self.off:
            now = self._loop.time()
            self.waiting[connection] = now
            self._look_by(now + self._wait_s)

    def answered(self, connection: UpstreamConnection) -> None:
        """A connection is given back while requests wait on fresh ones. Call before it becomes idle."""
        if connection is self._let_in:
            self._helped()
            if self.off:
                return
        self.waiting.pop(connection, None)
        first, since = next(iter(self.waiting.items()), (None, 0.0))
        if first is None:
            return
        if first is not self._overtaken:
            self._overtaken, self._laps, self._since = first, 0, since
        self._disturbed = True
        if not connection.reused or connection.lent_at < self._since:
            return
        now = self._loop.time()
        self._laps += 1
        self._since = now
        if self._laps >= (1 if self.learnt else LAPS_UNACCEPTED) and now - since >= self._wait_s:
            reached = stage(first.transport) if _waits(first) else Stage.READ
            if reached is Stage.READ:
                del self.waiting[first]
            elif self._kept.has_queues():
                # Who was answered stood in another one: that a worker stands still is no word of ours.
                self._laps = 0
            elif self.learnt or reached is Stage.UNACCEPTED or self._laps >= LAPS:
                self._learn()

    def wake(self) -> None:
        """A connection is kept: look now and then whether somebody waits for it to end."""
        self.asleep = False
        self._look_by(self._loop.time() + BACKLOG_S)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()
        self._term.cancel()
        self.asleep = True

    # Looking.

    @property
    def _wait_s(self) -> float:
        return WAIT_AGAIN_S if self.learnt else WAIT_S

    def _look_by(self, when: float) -> None:
        if when < self._timer.when:
            self._timer.set(when)

    def _look(self) -> None:
        now = self._loop.time()
        if self.off:
            return
        if self._let_in is not None:
            self._judge(self._let_in, now)
        elif (first := self._unread(now)) is not None:
            if now >= self._not_before and self._kept.close_idle():
                self._let_in, self._closed_at, self._disturbed = first, now, False
            self._look_by(now + (self._wait_s if self._let_in is None else LOOK_S))
        else:
            self._look_at_backlog(now)
        if self.waiting:
            self._look_by(now + self._wait_s)
        elif self._kept.open_count:
            self._look_by(now + BACKLOG_S)
        else:
            self.asleep = True

    def _unread(self, now: float) -> UpstreamConnection | None:
        """Return the first connection of which the application has read nothing for a while."""
        for connection, since in list(self.waiting.items())[:MAX_LOOKED_AT]:
            if _waits(connection):
                if now - since < self._wait_s:
                    break
                if stage(connection.transport) is not Stage.READ:
                    return connection
            del self.waiting[connection]
        return None

    def _judge(self, connection: UpstreamConnection, now: float) -> None:
        """See whether closing idle connections let one in that waited."""
        if not _waits(connection):
            self._let_in = None
        elif stage(connection.transport) is Stage.READ:
            self._helped()
        elif now - self._closed_at > HELP_S:
            self._let_in = None
            self._hits = 0
            self._pause(now)
        else:
            self._look_by(now + LOOK_S)

    def _helped(self) -> None:
        self._let_in = None
        self._pause_s = 0.0
        self._hits += not self._disturbed
        if self._hits >= (1 if self.learnt else HITS):
            self._learn()

    def _look_at_backlog(self, now: float) -> None:
        """Let others in that wait to be accepted: as many as wait, in place of idle connections first."""
        waiting = 0 if now < self._not_before else self._kept.backlog()
        if self.owed or not waiting:
            if self.owed and waiting:
                self._pause(now)
            self.owed, self._crowded = 0, False
        elif not self._crowded:
            self._crowded = True
            self._look_by(now + self._wait_s)
        else:
            self._crowded = False
            self.owed = max(0, waiting - self._kept.close_idle(waiting))

    def _pause(self, now: float) -> None:
        self._pause_s = min(max(2 * self._pause_s, BACKLOG_S), LONGEST_PAUSE_S)
        self._not_before = now + self._pause_s

    # What was learnt.

    def _learn(self) -> None:
        self._for_s = min(6 * self._for_s, LONGEST_S) if self.learnt else FIRST_S
        self.off = True
        self.owed = self._hits = 0
        self._let_in = self._overtaken = None
        self.waiting.clear()
        self._kept.close_idle()
        self._term.set(self._loop.time() + self._for_s)
        self._tell(learnt=True)

    def _keep_again(self) -> None:
        """Try it; who has to be told soon again believes it longer."""
        if self.off:
            self.off = False
            self._term.set(self._loop.time() + self._for_s)
            self._look_by(self._loop.time() + BACKLOG_S)
        else:
            self._tell(learnt=False)

    def _tell(self, *, learnt: bool) -> None:
        if self.learnt is not learnt:
            self.learnt = learnt
            self.on_change()


def _waits(connection: UpstreamConnection) -> bool:
    """Tell whether it may still be without an answer."""
    lost = connection.lost or connection.transport.is_closing()
    return not lost and not connection.reused and connection.borrower is not None
