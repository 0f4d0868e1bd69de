"""Is the application up? A connect now and then, often while it is down, seldom while it answers.

Tells the controller. Readiness is lost only after ten seconds of refused connects in a row and never for a
time-out: an application that is slow must not be taken away from its callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from enum import IntEnum
from typing import TYPE_CHECKING

import aiohttp

from drainproxy import errors

if TYPE_CHECKING:
    from drainproxy.lifecycle.controller import Controller
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.upstream import Pool

FIRST_RETRY_S = 0.02
SLOWEST_RETRY_S = 0.5
"""While the application is down: it is noticed within this long of its return."""
CONFIRM_EVERY_S = 5.0
"""While it answers: about as often as a kubelet's readiness probe."""
REFUSED_FOR_S = 10.0
TIMEOUT_S = 2.0


class Answer(IntEnum):
    """How the application takes a connection attempt, the worst last."""

    ACCEPTS = 0
    SILENT = 1
    REFUSES = 2


class Probe:
    """One application, asked by one service."""

    def __init__(self, pools: list[Pool], path: str | None, controller: Controller, metrics: Metrics) -> None:
        self._pools = pools
        self._path = path
        self._controller = controller
        self._metrics = metrics
        self._nudged = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def nudge(self) -> None:
        """Look now: something else has seen the application fail or wants to know."""
        self._nudged.set()

    async def run(self) -> None:
        """Probe for ever (a service)."""
        wait = FIRST_RETRY_S
        refused_since = math.inf
        while True:
            answer = await self.ask()
            now = self._loop.time()
            if answer is Answer.ACCEPTS:
                wait = CONFIRM_EVERY_S
                self._controller.upstream_answers()
            else:
                wait = FIRST_RETRY_S if wait == CONFIRM_EVERY_S else min(wait * 1.5, SLOWEST_RETRY_S)
            if answer is Answer.REFUSES:
                refused_since = min(refused_since, now)
                if now - refused_since >= REFUSED_FOR_S:
                    self._controller.upstream_refuses()
            else:
                refused_since = math.inf
            self._metrics.upstream_up.set(float(answer is Answer.ACCEPTS))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._nudged.wait()
            self._nudged.clear()

    async def ask(self) -> Answer:
        """Return the worst answer of all upstreams."""
        return max([await self._ask(pool) for pool in self._pools])

    async def _ask(self, pool: Pool) -> Answer:
        answer = await ask(pool, self._loop.time() + TIMEOUT_S)
        if answer is not Answer.ACCEPTS or self._path is None or pool.address.tcp:
            # What speaks another protocol has no paths.
            return answer
        return answer if await _get(pool, self._path) else Answer.SILENT


async def ask(pool: Pool, deadline: float) -> Answer:
    """Connect and hang up, before loop time `deadline`."""
    try:
        pool.discard(await pool.connect(deadline))
    except (errors.UpstreamRefused, errors.UpstreamUntrusted, errors.UpstreamHandshakeFailed):
        # A handshake that fails is no overload: it will fail for everybody.
        return Answer.REFUSES
    except (errors.ConnectTimeout, errors.OutOfDescriptors):
        return Answer.SILENT
    return Answer.ACCEPTS


async def _get(pool: Pool, path: str) -> bool:
    address = pool.address
    context = pool.tls.context if pool.tls is not None else True
    connector = aiohttp.UnixConnector(address.path) if address.path else aiohttp.TCPConnector(ssl=context)
    name = pool.tls.server_name if pool.tls is not None else None
    base = "http://localhost" if address.path else str(address)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(base + path, allow_redirects=False, server_hostname=name) as response,
        ):
            return response.status < 500
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
