"""Is the application up? A connect says so, made while there is doubt: at first, after a failure, in silence.

What answers is known to be there, and a connection that stands would end with its application; only one that
nobody has talked to for a while is asked. Tells the controller. Readiness is lost only after ten seconds of
refused connects in a row and never for a time-out: an application that is slow must not be taken away from
its callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from drainproxy import errors
from drainproxy.proxy.message.parser import ResponseReader
from drainproxy.tasks import next_tick

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.lifecycle.port import Lifecycle
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.upstream.pool import Pool

MIN_RETRY_S: Final = 0.01
MAX_RETRY_S: Final = 0.5
PROLONGED_BY: Final = 0.02
"""While it does not accept it is asked again after this part of the time that it has been away: so much
longer does an outage last through us, half a second at most."""
SILENCE_S: Final = 30.0
"""Without a connection to it and without an answer of it: then it is asked whether it is still there."""
SECOND_LOOKS_S = (0.05, 0.5)
"""After a doubt that the first look did not bear out: some close their connections before their door."""
LOOK_S: Final = 0.2
"""Between two looks into the kernel while somebody is served."""
QUIET_S: Final = 5.0
"""After so long without an answer a look at each tick is enough: who comes then finds out by the connect."""
UNREACHABLE_S: Final = 3.0
REFUSED_FOR_S: Final = 10.0
TIMEOUT_S: Final = 2.0


class Answer(IntEnum):
    """How the application takes a connection attempt, the worst last."""

    ACCEPTS = 0
    SILENT = 1
    REFUSES = 2


class Warming(Protocol):
    """See warmup.py."""

    over: bool

    def begin(self) -> None:
        """The application is there."""


class Probe:
    """Every application of the process, asked by one service."""

    def __init__(self, pools: list[Pool], path: str | None, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self._pools = pools
        self._path = path
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._doubts = [asyncio.Event() for _ in pools]
        for pool, doubt in zip(pools, self._doubts, strict=True):
            pool.presence.on_doubt = doubt.set
        self._answers: list[Answer | None] = [None] * len(pools)
        self._refused_since = math.inf
        self.callers_let_in: Callable[[], bool] = lambda: True
        """Where its callers cannot be let in, an application does not answer them."""
        self.warmup: Warming | None = None
        """What comes before anybody hears that the application is up."""
        self.on_unreachable: Callable[[Pool], None] = lambda _: None
        """Called once for an application that has not come in its time: it may be elsewhere."""

    async def run(self) -> None:
        """Probe for ever (a service)."""
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._pools)):
                group.create_task(self._watch(number))

    async def ask(self) -> Answer:
        """Return the worst answer of all upstreams."""
        return max([await self._ask(pool) for pool in self._pools])

    async def _watch(self, number: int) -> None:
        pool, doubt = self._pools[number], self._doubts[number]
        presence = pool.presence
        looks_s: list[float] = []
        told = False
        while True:
            doubt.clear()
            self._answers[number] = answer = await self._found(pool)
            self.judge()
            if answer is Answer.ACCEPTS and looks_s:
                await asyncio.sleep(looks_s.pop(0))
            elif answer is Answer.ACCEPTS:
                await self._silence(pool, doubt)
                looks_s += SECOND_LOOKS_S if doubt.is_set() and not presence.fallen else ()
            else:
                away_s = self._loop.time() - presence.changed_at
                if answer is Answer.REFUSES and not told and not presence.came and away_s >= UNREACHABLE_S:
                    told = True
                    self.on_unreachable(pool)
                await asyncio.sleep(min(max(PROLONGED_BY * away_s, MIN_RETRY_S), MAX_RETRY_S))

    def judge(self) -> None:
        """Tell the controller what all of them together are."""
        now = self._loop.time()
        worst = max(Answer.SILENT if answer is None else answer for answer in self._answers)
        if worst is Answer.ACCEPTS and self.callers_let_in():
            if self.warmup is None or self.warmup.over:
                self._lifecycle.upstream_answers()
            else:
                self.warmup.begin()
        if worst is not Answer.REFUSES:
            self._refused_since = math.inf
        else:
            self._refused_since = min(self._refused_since, now)
            if now - self._refused_since >= REFUSED_FOR_S:
                self._lifecycle.upstream_refuses()
        self._metrics.upstream_up.set(float(worst is Answer.ACCEPTS))

    async def _silence(self, pool: Pool, doubt: asyncio.Event) -> None:
        """Return when an application that was there may be gone."""
        while (listens := pool.presence.look()) is not None:
            # It need not be asked, and learns nothing of this.
            if not listens or pool.presence.fallen:
                # What is back is known to be so once it accepts.
                return
            now = self._loop.time()
            quiet = now - pool.presence.alive_at > QUIET_S
            if await _waited(doubt, (next_tick() if quiet else now + LOOK_S) - now):
                doubt.clear()
                await asyncio.sleep(SECOND_LOOKS_S[0])
        quiet_at = self._loop.time() + SILENCE_S
        while not await _waited(doubt, quiet_at - self._loop.time()):
            now = self._loop.time()
            quiet_at = pool.presence.alive_at + SILENCE_S
            if pool.open_count:
                # It would have ended with the application.
                quiet_at = now + SILENCE_S
            if quiet_at <= now:
                return

    async def _found(self, pool: Pool) -> Answer:
        """Ask, unless the kernel says that nobody would answer."""
        return Answer.REFUSES if pool.presence.look() is False else await self._ask(pool)

    async def _ask(self, pool: Pool) -> Answer:
        answer = await ask(pool, self._loop.time() + TIMEOUT_S)
        if answer is not Answer.ACCEPTS or self._path is None or pool.address.tcp:
            # What speaks another protocol has no paths.
            return answer
        up = await _get(pool, self._path, self._loop.time() + TIMEOUT_S)
        return answer if up else Answer.SILENT


async def _waited(doubt: asyncio.Event, within_s: float) -> bool:
    """Wait for a doubt, or not so long; return whether there is one."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await doubt.wait()
    return doubt.is_set()


async def ask(pool: Pool, deadline: float) -> Answer:
    """Connect and hang up, before loop time `deadline`."""
    try:
        pool.discard(await pool.connect(deadline))
    except (errors.UpstreamRefused, errors.UpstreamUntrusted, errors.UpstreamHandshakeFailed):
        # A handshake that fails is no overload: it will fail for everybody.
        return Answer.REFUSES
    except (errors.ConnectTimeout, errors.OutOfDescriptors, errors.OutOfSockets):
        return Answer.SILENT
    return Answer.ACCEPTS


async def _get(pool: Pool, path: str, deadline: float) -> bool:
    """Tell whether the application answers a GET with less than 500, before loop time `deadline`."""
    question = _Question()
    try:
        connection = await pool.connect(deadline, question)
    except errors.RequestError:
        return False
    # What is written is percent-encoded for the most part; the rest is here.
    path = quote(path, safe="!$%&'()*+,/:;=?@[]~")
    request = f"GET {path} HTTP/1.1\r\nHost: {pool.address.authority}\r\nUser-Agent: drainproxy\r\n"
    try:
        connection.transport.write(f"{request}Accept: */*\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout_at(deadline):
            return 0 < await question.status < 500
    except TimeoutError:
        return False
    finally:
        pool.discard(connection)


class _Question:
    """Borrows a connection for one answer's status; 0 where none comes."""

    def __init__(self) -> None:
        self._reader = ResponseReader()
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def upstream_data(self, data: bytes) -> None:
        """See Borrower."""
        try:
            while (read := self._reader.feed(data)) is not None:
                head, data = read
                if head.status >= 200:
                    self._found(head.status)
                    break
        except errors.UpstreamMalformed:
            self._found(0)

    def upstream_eof(self) -> None:
        """See Borrower."""
        self._found(0)

    def upstream_lost(self, *, reset: bool) -> None:
        """See Borrower."""
        self._found(0)

    def upstream_writable(self, *, writable: bool) -> None:
        """See Borrower. One request goes at once."""

    def _found(self, status: int) -> None:
        self._reader.forget()
        if not self.status.done():
            self.status.set_result(status)
