"""A connection for a request: with patience while the application starts, over the breaker afterwards, and
behind a hold while it restarts."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from drainproxy.errors import BreakerOpen, ConnectTimeout, HoldTimeout, UpstreamRefused
from drainproxy.lifecycle.machine import NewRequest
from drainproxy.proxy.upstream.hold import Hold

if TYPE_CHECKING:
    from drainproxy.lifecycle.port import Lifecycle
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.upstream.borrower import Borrower
    from drainproxy.proxy.upstream.connection import UpstreamConnection
    from drainproxy.proxy.upstream.hold import Held
    from drainproxy.proxy.upstream.pool import Pool

START_PATIENCE_S: Final = 3.0
"""For an application that has not come yet, where nothing is set: about what a caller waits for a connect."""


class Connector:
    """Of one listener. Writes nothing but what its pool does."""

    def __init__(
        self,
        pool: Pool,
        lifecycle: Lifecycle,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        patience_s: float | None = None,
        *,
        holds: bool = False,
    ) -> None:
        """`holds`: some requests wait for an application that restarts."""
        self._pool = pool
        self._lifecycle = lifecycle
        self._loop = loop
        self._patience_s = START_PATIENCE_S if patience_s is None else patience_s
        self._hold: Hold | None = None
        if holds:
            self._hold = Hold(pool.presence, loop, metrics)

    async def connect(
        self,
        timeout_s: float,
        borrower: Borrower | None = None,
        *,
        latest: float = math.inf,
        hold_s: float = 0.0,
        waits: Held | None = None,
    ) -> UpstreamConnection:
        """Connect for a request, as the phase says.

        In `timeout_s`, and until loop time `latest`. While the application starts it is waited for, but not
        as long as it may take to never come; then: UpstreamRefused. While it restarts it is waited for up to
        `hold_s`; then: HoldTimeout.
        """
        deadline = min(self._loop.time() + timeout_s, latest)
        new_request = self._lifecycle.published.policy.new_request
        if new_request is NewRequest.CONNECT_PATIENTLY:
            return await self._patiently(deadline, borrower)
        try:
            return await self._pool.connect_if_worthwhile(deadline, borrower)
        except (UpstreamRefused, BreakerOpen):
            # In a drain it does not come back: no kubelet starts a container of a pod that ends.
            if self._hold is None or not hold_s or new_request is not NewRequest.FORWARD:
                raise
            if not self._pool.presence.fallen:
                raise
        with self._hold.one(waits):
            connection = await self._once_back(self._hold, hold_s, timeout_s, latest, borrower)
        if waits is not None:
            waits.held(on=False)
        return connection

    async def _once_back(
        self, hold: Hold, hold_s: float, timeout_s: float, latest: float, borrower: Borrower | None
    ) -> UpstreamConnection:
        until = min(latest, self._loop.time() + hold_s)
        while await hold.back(until):
            try:
                deadline = min(self._loop.time() + timeout_s, latest)
                return await self._pool.connect_if_worthwhile(deadline, borrower)
            except (UpstreamRefused, BreakerOpen):
                # It has fallen again.
                if not self._pool.presence.fallen:
                    raise
        raise HoldTimeout

    async def _patiently(self, deadline: float, borrower: Borrower | None) -> UpstreamConnection:
        lifecycle = self._lifecycle
        patient = min(deadline, self._loop.time() + self._patience_s)
        try:
            return await self._pool.connect(patient, borrower)
        except UpstreamRefused as refused:
            try:
                async with asyncio.timeout_at(patient):
                    await lifecycle.until(lambda: lifecycle.upstream_up)
            except TimeoutError:
                raise refused from None
            return await self._pool.connect(deadline, borrower)
        except ConnectTimeout:
            raise UpstreamRefused from None
