"""A connection for a request: with patience while the application starts, over the breaker afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from drainproxy.errors import ConnectTimeout, UpstreamRefused
from drainproxy.lifecycle.machine import NewRequest

if TYPE_CHECKING:
    from drainproxy.lifecycle.port import Lifecycle
    from drainproxy.proxy.upstream.borrower import Borrower
    from drainproxy.proxy.upstream.connection import UpstreamConnection
    from drainproxy.proxy.upstream.pool import Pool

START_PATIENCE_S = 3.0
"""For an application that has not come yet, where nothing is set: about what a caller waits for a connect."""


class Connector:
    """Of one listener. Writes nothing but what its pool does."""

    def __init__(
        self,
        pool: Pool,
        lifecycle: Lifecycle,
        loop: asyncio.AbstractEventLoop,
        patience_s: float | None = None,
    ) -> None:
        self._pool = pool
        self._lifecycle = lifecycle
        self._loop = loop
        self._patience_s = START_PATIENCE_S if patience_s is None else patience_s

    async def connect(self, deadline: float, borrower: Borrower | None = None) -> UpstreamConnection:
        """Connect for a request, as the phase says.

        Until loop time `deadline`. While the application starts it is waited for, but not as long as it may
        take to never come; then: UpstreamRefused.
        """
        lifecycle = self._lifecycle
        if lifecycle.published.policy.new_request is not NewRequest.CONNECT_PATIENTLY:
            return await self._pool.connect_if_worthwhile(deadline, borrower)
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
