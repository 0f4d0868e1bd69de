"""What became of whatever came: `record` takes each piece of work that has ended, once.

Nobody else counts it: counters, the tally of a drain, the access line and the span are all made from one
Outcome (outcome.py). Numbers stay plain integers until a scrape; a line is made only where one is written.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any, Final

from drainproxy.errors import Blame
from drainproxy.metrics import METHODS, OUTCOMES, TOLD_TO_LEAVE
from drainproxy.proxy.accounting.outcome import SWITCHED, ClientWork, TurnedAway
from drainproxy.proxy.accounting.shown import of_head, trace_of

if TYPE_CHECKING:
    from drainproxy.errors import RequestError
    from drainproxy.lifecycle.port import Lifecycle
    from drainproxy.log import Log
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.accounting.arrivals import Arrivals
    from drainproxy.proxy.accounting.outcome import Outcome
    from drainproxy.proxy.accounting.tracing import Tracing
    from drainproxy.proxy.message.filters import RequestFilters
    from drainproxy.proxy.message.parser import RequestHead

FAILED_FROM: Final = 500
"""Statuses from here on say that a request has failed, unless that was its client's doing."""
_TALLIED: Final = frozenset((*OUTCOMES, TOLD_TO_LEAVE))
_USUAL: Final = frozenset(("finished", "reset", TOLD_TO_LEAVE, SWITCHED))
"""What `access_log: errors` is silent about, if there is no error either."""
_FINISHED: Final[tuple[str, ...]] = ("finished",)


class Accounting:
    """Of one listener. `name` is its label and its name in access lines."""

    def __init__(
        self,
        *,
        name: str,
        lifecycle: Lifecycle,
        metrics: Metrics,
        log: Log,
        access_log: str,
        arrivals: Arrivals,
        filters: RequestFilters | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """`filters`: know who a request's client is, behind its peer."""
        self.name = name
        self.arrivals = arrivals
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._log = log
        self._access_log = access_log
        self._filters = filters
        self._tracing = tracing
        self._all_are_told = access_log == "all" or tracing is not None
        self._loop = asyncio.get_running_loop()
        self._counts: dict[tuple[bytes, int, bool], int] = {}
        """Answers by method, status and whether a drain ran."""
        self._bytes_to_client = self._bytes_to_upstream = 0
        self.untold = 0
        """Failures that no status tells, less statuses that are not the failure they look like."""
        self.durations = metrics.request_duration_seconds
        """Where they are counted; a young pod's have a place of their own (first_minute.py)."""
        metrics.before_scrape.append(self.export_counts)

    def record(self, work: Outcome) -> None:
        """Account for what has ended."""
        metrics, draining = self._metrics, self._lifecycle.published.draining
        head: RequestHead | None
        outcome: str
        if isinstance(work, ClientWork):
            # The same twice: compiled, what a class has is read where it lies, and of a Protocol by name.
            head, error, status, outcome = work.head, work.error, work.status, work.outcome
            started, head_at = work.started, work.head_at
            received, sent = work.bytes_received, work.bytes_sent
        else:
            head, error, status, outcome = work.head, work.error, work.status, work.outcome
            started, head_at = work.started, work.head_at
            received, sent = work.bytes_received, work.bytes_sent
        took = 0.0
        if status:
            key = (b"" if head is None else head.method, status, draining)
            self._counts[key] = self._counts.get(key, 0) + 1
            if started:
                took = self._loop.time() - started
                self.durations.observe(took)
                if head_at:
                    metrics.response_head_seconds.observe(head_at - started)
        elif work.kind == "http2":
            metrics.h2_streams.inc(outcome)
        self._bytes_to_upstream += received
        self._bytes_to_client += sent
        if error is not None:
            self._fail(work, error)
        if draining:
            self._tally(work)
        unusual = error is not None or outcome not in _USUAL
        if self._access_log == "all" or (unusual and self._access_log == "errors"):
            self._write(work, unusual=unusual)
        if self._tracing is not None:
            self._tracing.end(head, status, "" if error is None else error.reason, took)

    def finished(self, stream: Outcome) -> None:
        """Account for a stream of HTTP/2 that has ended as it should: `record`, for those of which there is
        nothing to say outside of a drain. Most are no more than a number."""
        if self._all_are_told or self._lifecycle.published.draining:
            self.record(stream)
        else:
            self._metrics.h2_streams.count(_FINISHED)

    def upgrade_ignored(self, peer: bytes, reason: str) -> None:
        """Account for a request that goes on without its Upgrade."""
        self._metrics.upgrades_ignored.inc(reason)
        if self._access_log != "off":
            line = {"listener": self.name, "client": peer.decode(), "reason": reason}
            self._log.condition("upgrade_ignored", f"upgrade_ignored_{reason}", "info", **line)

    def defect(self, failure: BaseException) -> None:
        """Account for an exception that should not have been."""
        where = traceback.extract_tb(failure.__traceback__)[-4:]
        self._log.condition(
            "defect",
            "defect",
            "error",
            failure=repr(failure),
            where=[f"{frame.filename}:{frame.lineno}" for frame in where],
        )

    def _fail(self, work: Outcome, error: RequestError) -> None:
        (self._metrics.refused if error.refused else self._metrics.errors).inc(error.reason)
        failed = error.blame is not Blame.CLIENT
        if failed is not (work.status >= FAILED_FROM):
            self.untold += 1 if failed else -1
        if isinstance(work, TurnedAway) and work.unheard:
            self.arrivals.came(work.accepted_at, self._loop.time(), first=work.first)

    def _tally(self, work: Outcome) -> None:
        """Put it into a drain's numbers, of which the report is made."""
        outcome, tunnel = work.outcome, work.tunnel
        if outcome not in _TALLIED:
            return
        # A request that asked for an Upgrade and was answered has not become one.
        if tunnel and (work.kind != "http" or outcome == "refused"):
            self._metrics.drain_tunnels.inc(tunnel, outcome)
            return
        self._metrics.drain_requests.inc(outcome)
        if started := work.started:
            longest = self._metrics.drain_longest_request_seconds
            longest.set(max(longest.value(), self._loop.time() - started))

    def _write(self, work: Outcome, *, unusual: bool) -> None:
        head, error, client = work.head, work.error, work.peer
        if head is not None and self._filters is not None:
            client = self._filters.client_of(head, client)
        line: dict[str, Any] = {"listener": self.name, "client": client.decode()}
        if work.status:
            line["status"] = work.status
        if head is not None:
            line |= of_head(head)
            line |= trace_of(head) if self._tracing is None else self._tracing.ids(head)
        line |= work.said()
        if started := work.started:
            line["duration_s"] = round(self._loop.time() - started, 4)
            if work.head_at:
                line["head_s"] = round(work.head_at - started, 4)
        if error is not None:
            line |= {"reason": error.reason, "detail": error.detail or None}
            if work.status:
                line["sent"] = error.sent
        if unusual:
            self._log.condition(work.event, line.get("reason", work.outcome), **line)
        else:
            self._log.event(work.event, **line)

    def export_counts(self) -> None:
        """Bring the counters of answers and bytes up to the present."""
        counts, self._counts = self._counts, {}
        for (method_bytes, status, draining), count in counts.items():
            method = method_bytes.decode("ascii", "replace")
            self._metrics.requests.inc(
                self.name,
                method if method in METHODS else "other",
                str(status),
                "ending" if draining else "serving",
                by=count,
            )
        self._metrics.bytes.inc("to_client", by=self._bytes_to_client)
        self._metrics.bytes.inc("to_upstream", by=self._bytes_to_upstream)
        self._bytes_to_client = self._bytes_to_upstream = 0
