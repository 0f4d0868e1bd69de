"""Which parts of OpenTelemetry does this process have, and what do they send at its very end?

Called by app.py. Without `trace_endpoint` and `metrics_push` none of it is loaded.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from drainproxy.log import Log
from drainproxy.metrics import Metrics
from drainproxy.settings import ProcessSettings

if TYPE_CHECKING:
    from drainproxy.proxy.accounting.tracing import Tracing
    from drainproxy.telemetry.push import Push


class Telemetry:
    """Of one process."""

    def __init__(
        self,
        settings: ProcessSettings,
        place: Mapping[str, str],
        reserve_s: float,
        *,
        metrics: Metrics,
        log: Log,
    ) -> None:
        """`place`: of the pod, as reports tell it."""
        self._log = log
        self._reserve_s = reserve_s
        self.tracing: Tracing | None = None
        self._push: Push | None = None
        if settings.trace_endpoint is not None:
            from drainproxy.proxy.accounting import tracing  # noqa: PLC0415 - an extra, and some 10 MB

            self.tracing = tracing.Tracing(settings.trace_endpoint, settings.trace_ratio, metrics)
        if settings.metrics_push is not None:
            from drainproxy.telemetry import push  # noqa: PLC0415 - as above

            self._push = push.Push(settings.metrics_push, place, metrics, within_s=reserve_s / 2)

    async def close(self, left_s: float) -> None:
        """Send what is left, in half of the reserve and of what the deadline has left of it."""
        within_s = min(self._reserve_s, max(0.0, left_s)) / 2
        await asyncio.gather(self._send_spans(within_s), self._send_metrics(within_s))

    async def _send_spans(self, within_s: float) -> None:
        if self.tracing is not None and (unsent := await self.tracing.close(within_s)):
            self._log.event("trace_spans", "warning", unsent=unsent)

    async def _send_metrics(self, within_s: float) -> None:
        if self._push is not None and (failure := await self._push.send(within_s)):
            self._log.event("metrics_push", "warning", failure=failure)
