"""What became of each request: metrics, drain outcomes and access lines, once a request and nowhere else.

Counted in plain integers; labels are made at the scrape, and a line only where one is written.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any

from drainproxy.errors import LIMITS, Blame, DrainDeadline, LeaveOverdue, OutOfBuffers
from drainproxy.metrics import METHODS, TOLD_TO_LEAVE
from drainproxy.proxy.message.upgrade import kind_of

if TYPE_CHECKING:
    from drainproxy.errors import RequestError
    from drainproxy.lifecycle.port import Lifecycle
    from drainproxy.log import Log
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.accounting.tracing import Tracing
    from drainproxy.proxy.downstream.client import ClientSocket
    from drainproxy.proxy.http1.connection import ClientConnection
    from drainproxy.proxy.http1.exchange import Exchange
    from drainproxy.proxy.http2.stream import Stream
    from drainproxy.proxy.message.parser import RequestHead
    from drainproxy.proxy.relay.tunnel import Tunnel

MAX_SHOWN_CHARS = 200
"""Of a path, a User-Agent, a request's name, in an access line."""


class Accounting:
    """Of one listener. `name` is its label and its name in access lines."""

    def __init__(
        self, *, name: str, controller: Lifecycle, metrics: Metrics, log: Log, access_log: str
    ) -> None:
        self.name = name
        self._controller = controller
        self._metrics = metrics
        self._log = log
        self._access_log = access_log
        self._loop = asyncio.get_running_loop()
        self._counts: dict[tuple[bytes, int, bool], int] = {}
        """Answers by method, status and whether a drain ran."""
        self._bytes_to_client = self._bytes_to_upstream = 0
        self.tracing: Tracing | None = None
        metrics.before_scrape.append(self._export_counts)

    def answered(self, client: ClientConnection, exchange: Exchange) -> None:
        """Account for a request whose answer was relayed in full."""
        self._note(client, exchange.head, exchange.status, exchange)
        if self._controller.published.draining and exchange.status != 101:
            self._drained(exchange, _end_of(exchange))

    def replied(self, client: ClientConnection, head: RequestHead, status: int) -> None:
        """Account for a request that was answered here, and was nobody's fault."""
        self._note(client, head, status)

    def failed(
        self,
        client: ClientConnection,
        error: RequestError,
        head: RequestHead | None,
        exchange: Exchange | None,
        *,
        begun: bool,
    ) -> None:
        """Account for a request that ended in `error`; `begun`: a part of its answer had been sent."""
        status = exchange.status if begun and exchange is not None else error.status
        self._note(client, head, status, exchange, error)
        (self._metrics.refused if error.refused else self._metrics.errors).inc(error.reason)
        if self._controller.published.draining and exchange is not None:
            outcome = _drain_outcome(error, begun=begun)
            if outcome is not None:
                self._drained(exchange, outcome)

    def turned_away(self, peer: bytes, reason: str, detail: str) -> None:
        """Account for a connection that ended before it could ask anything."""
        if self._access_log != "off":
            line = {"listener": self.name, "client": peer.decode(), "reason": reason}
            self._log.condition("turned_away", reason, **line, detail=detail)

    def upgrade_ignored(self, peer: bytes, reason: str) -> None:
        """Account for a request that goes on without its Upgrade."""
        self._metrics.upgrades_ignored.inc(reason)
        if self._access_log != "off":
            line = {"listener": self.name, "client": peer.decode(), "reason": reason}
            self._log.condition("upgrade_ignored", f"upgrade_ignored_{reason}", "info", **line)

    def turned_away_behind(self, client: ClientSocket) -> None:
        """Account for requests that were sent ahead of their turn and will not be answered."""
        self._metrics.refused.inc(OutOfBuffers.reason)
        self.turned_away(client.peer, OutOfBuffers.reason, "sent behind a request that is being answered")

    def stream_ended(self, client: ClientSocket, stream: Stream, outcome: str) -> None:
        """Account for an HTTP/2 stream: `finished`, `reset` or what a drain or a failure made of it."""
        self._metrics.h2_streams.inc(outcome)
        if outcome != "reset" and self._controller.published.draining:
            self._metrics.drain_requests.inc(outcome)
        usual = outcome in {"finished", "reset"}
        if self._access_log == "all" or (self._access_log == "errors" and not usual):
            line: dict[str, Any] = {
                "listener": self.name,
                "client": client.peer.decode(),
                "protocol": "HTTP/2",
            }
            line |= {"stream": stream.id, "method": shown(stream.method), "path": shown_path(stream.path)}
            line |= {"outcome": outcome, "duration_s": round(self._loop.time() - stream.started, 4)}
            if usual:
                self._log.event("request", **line)
            else:
                self._log.condition("request", outcome, **line)

    def tunnel_ended(self, tunnel: Tunnel, outcome: str) -> None:
        """Account for a tunnel, however it has ended."""
        if self._controller.published.draining:
            self._metrics.drain_tunnels.inc(kind_of(tunnel.protocol), outcome)
        self._bytes_to_client += tunnel.bytes_sent
        self._bytes_to_upstream += tunnel.bytes_received
        if self._access_log == "all":
            self._log.event(
                "tunnel",
                listener=self.name,
                **tunnel.describe(),
                duration_s=round(self._loop.time() - tunnel.started, 4),
                bytes=tunnel.bytes_sent,
                bytes_received=tunnel.bytes_received,
                outcome=outcome,
            )

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

    def _drained(self, exchange: Exchange, outcome: str) -> None:
        if exchange.kind == "stream":
            self._metrics.drain_tunnels.inc("stream", outcome)
        else:
            self._metrics.drain_requests.inc(outcome)

    def _note(
        self,
        client: ClientConnection,
        head: RequestHead | None,
        status: int,
        exchange: Exchange | None = None,
        error: RequestError | None = None,
    ) -> None:
        """Count a request, write its line and end its span, where there are any."""
        method = b"" if head is None else head.method
        key = (method, status, self._controller.published.draining)
        self._counts[key] = self._counts.get(key, 0) + 1
        if exchange is not None:
            metrics, started = self._metrics, exchange.started
            metrics.request_duration_seconds.observe(self._loop.time() - started)
            self._bytes_to_upstream += exchange.bytes_received
            if exchange.head_at:
                metrics.response_head_seconds.observe(exchange.head_at - started)
                self._bytes_to_client += exchange.bytes_sent
        if self._access_log == "all" or (error is not None and self._access_log == "errors"):
            self._access(client, head, status, exchange, error)
        if self.tracing is not None:
            self.tracing.end(head, status, "" if error is None else error.reason)

    def _export_counts(self) -> None:
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

    def _access(
        self,
        client: ClientConnection,
        head: RequestHead | None,
        status: int,
        exchange: Exchange | None,
        error: RequestError | None,
    ) -> None:
        line: dict[str, Any] = {"listener": self.name, "client": client.peer.decode(), "status": status}
        if head is not None:
            if client.plane.filters is not None:
                line["client"] = client.plane.filters.client_of(head, client.peer).decode()
            line["method"] = shown(head.method)
            line["path"] = shown_path(head.target)
            line["protocol"] = "HTTP/1.1" if head.http_1_1 else "HTTP/1.0"
            for field, key in _FIELDS.items():
                if field in head.noted:
                    line[key] = shown(head.noted[field])
        if exchange is not None:
            started = exchange.started
            line["duration_s"] = round(self._loop.time() - started, 4)
            if exchange.head_at:
                line["head_s"] = round(exchange.head_at - started, 4)
            line["bytes"] = exchange.bytes_sent
            line["bytes_received"] = exchange.bytes_received
            if exchange.stream is not None and error is None:
                line["outcome"] = _end_of(exchange)
        if error is None:
            self._log.event("request", **line)
        else:
            line |= {"reason": error.reason, "detail": error.detail or None, "sent": error.sent}
            self._log.condition("request", error.reason, **line)


_FIELDS = {b"host": "host", b"user-agent": "user_agent", b"x-request-id": "request_id"}


def shown(value: bytes) -> str:
    """Return what a line shows of something that a client wrote."""
    return value[:MAX_SHOWN_CHARS].decode("ascii", "backslashreplace")


def shown_path(target: bytes) -> str:
    """Return the path without its query, and nothing of an authority: both may hold secrets."""
    return shown(target.split(b"?", 1)[0]) if target[:1] == b"/" else ""


def _end_of(exchange: Exchange) -> str:
    """Return the `outcome` of what was answered in full."""
    return TOLD_TO_LEAVE if exchange.stream is not None and exchange.stream.told else "finished"


def _drain_outcome(error: RequestError, *, begun: bool) -> str | None:
    """Return the `outcome` of a request that failed while draining; None where the client left."""
    if isinstance(error, (DrainDeadline, LeaveOverdue)):
        return "cut" if begun else "timed_out"
    if isinstance(error, LIMITS) and not begun:
        return "refused"
    return None if error.blame is Blame.CLIENT else "lost"
