"""One listener's data plane: the protocol factory that aiohttp's runner hosts.

Owns the set of client connections, and keeps the books of what became of each request: metrics, drain
outcomes and access lines are written here, once a request, and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from typing import TYPE_CHECKING, Any

from aiohttp import web

from drainproxy.errors import (
    Blame,
    ConnectTimeout,
    DrainDeadline,
    UpstreamRefused,
)
from drainproxy.metrics import METHODS
from drainproxy.proxy import kernel
from drainproxy.proxy.connection import ClientConnection

if TYPE_CHECKING:
    from drainproxy.errors import RequestError
    from drainproxy.lifecycle.controller import Controller
    from drainproxy.lifecycle.inflight import InFlight
    from drainproxy.log import Log
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.admission import Admission
    from drainproxy.proxy.exchange import Exchange
    from drainproxy.proxy.heads import RequestHead
    from drainproxy.proxy.outbox import Outbox
    from drainproxy.proxy.settings import ProxySettings
    from drainproxy.proxy.upstream import Pool, UpstreamConnection
    from drainproxy.tasks import Connections


async def _unused(_request: web.BaseRequest) -> web.StreamResponse:
    raise web.HTTPNotImplemented


class ProxyServer(web.Server):
    """A low-level aiohttp server whose protocol is ours. Runners and sites take it as it is."""

    def __init__(
        self,
        *,
        name: str,
        settings: ProxySettings,
        pool: Pool,
        controller: Controller,
        inflight: InFlight,
        admission: Admission,
        outbox: Outbox,
        metrics: Metrics,
        log: Log,
        tasks: Connections,
        access_log: str,
        linger_s: float,
    ) -> None:
        super().__init__(_unused)
        self.loop = asyncio.get_running_loop()
        self.name = name
        self.settings = settings
        self.pool = pool
        self.controller = controller
        self.inflight = inflight
        self.admission = admission
        self.outbox = outbox
        self.metrics = metrics
        self.linger_s = linger_s
        self.upstream_host = _host_of(pool)
        self._log = log
        self.tasks = tasks
        self._access_log = access_log
        self._clients: set[ClientConnection] = set()
        self._emptied: asyncio.Event = asyncio.Event()
        self._counts: dict[tuple[bytes, int, bool], int] = {}
        """Answers by method, status and whether a drain ran: labels are made at the scrape."""
        self._bytes_to_client = 0
        metrics.before_scrape.append(self._export_counts)

    # What aiohttp's runner asks of a server.

    def __call__(self) -> ClientConnection:  # type: ignore[override]
        """Make the protocol of a new connection."""
        return ClientConnection(self)

    def pre_shutdown(self) -> None:
        """Do nothing: the drain has been, and `retire` is called in its time."""

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's
        """Close what is left at the very end."""
        self.pool.close_idle()

    # Client connections.

    @property
    def clients(self) -> set[ClientConnection]:
        """Every open client connection."""
        return self._clients

    def opened(self, client: ClientConnection) -> None:
        """A client has connected."""
        self._clients.add(client)
        self._emptied.clear()
        self.metrics.client_connections_accepted.inc()

    def closed(self, client: ClientConnection) -> None:
        """A client connection has ended."""
        self._clients.discard(client)
        if not self._clients:
            self._emptied.set()

    def retire_idle(self) -> bool:
        """Close idle connections, half-close first; return whether some were left since they have spoken."""
        idle = [client for client in self._clients if client.idle]
        speaking = [client for client in idle if kernel.has_bytes(client.transport)]
        for client in idle:
            if client not in speaking:
                client.close()
        return bool(speaking)

    async def emptied(self) -> None:
        """Wait up to twice `linger` until no client connection is left."""
        if self._clients:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * self.linger_s):
                    await self._emptied.wait()

    # The application.

    async def connect_patiently(self, deadline: float) -> UpstreamConnection:
        """Connect to an application that is still starting: wait until loop time `deadline` for it to answer.

        Raises UpstreamRefused when it does not.
        """
        try:
            return await self.pool.connect(deadline)
        except UpstreamRefused:
            try:
                async with asyncio.timeout_at(deadline):
                    await self.controller.until(lambda: self.controller.upstream_up)
            except TimeoutError:
                raise UpstreamRefused from None
            return await self.pool.connect(deadline)
        except ConnectTimeout:
            raise UpstreamRefused from None

    # The books.

    def answered(self, head: RequestHead, exchange: Exchange) -> None:
        """Account for a request whose answer was relayed in full."""
        self._count(head, exchange.status, exchange)
        if self.controller.published.draining:
            self.metrics.drain_requests.inc("finished")
        if self._access_log == "all":
            self._access(head, exchange.status, exchange, None)

    def failed(
        self, error: RequestError, head: RequestHead | None, exchange: Exchange | None, *, begun: bool
    ) -> None:
        """Account for a request that ended in `error`; `begun`: a part of its answer had been sent."""
        status = exchange.status if begun and exchange is not None else error.status
        self._count(head, status, exchange)
        refused = error.blame in {Blame.CLIENT, Blame.POLICY} and not error.sent
        (self.metrics.refused if refused else self.metrics.errors).inc(error.reason)
        if self.controller.published.draining and exchange is not None:
            outcome = _drain_outcome(error, begun=begun)
            if outcome is not None:
                self.metrics.drain_requests.inc(outcome)
        if self._access_log != "off":
            self._access(head, status, exchange, error)

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

    def _count(self, head: RequestHead | None, status: int, exchange: Exchange | None) -> None:
        method = b"" if head is None else head.method
        key = (method, status, self.controller.published.draining)
        self._counts[key] = self._counts.get(key, 0) + 1
        if exchange is not None:
            metrics, started = self.metrics, exchange.started
            metrics.request_duration.observe(self.loop.time() - started)
            if exchange.head_at:
                metrics.response_head.observe(exchange.head_at - started)
                self._bytes_to_client += exchange.bytes_sent

    def _export_counts(self) -> None:
        counts, self._counts = self._counts, {}
        for (method_bytes, status, draining), count in counts.items():
            method = method_bytes.decode("ascii", "replace")
            self.metrics.requests.inc(
                self.name,
                method if method in METHODS else "other",
                str(status),
                "ending" if draining else "serving",
                by=count,
            )
        self.metrics.bytes.inc("to_client", by=self._bytes_to_client)
        self._bytes_to_client = 0

    def _access(
        self, head: RequestHead | None, status: int, exchange: Exchange | None, error: RequestError | None
    ) -> None:
        line: dict[str, Any] = {"listener": self.name, "status": status}
        if head is not None:
            line["method"] = head.method[:32].decode("ascii", "backslashreplace")
            line["path"] = _path(head.target)
        if exchange is not None:
            line["duration_s"] = round(self.loop.time() - exchange.started, 4)
            line["bytes"] = exchange.bytes_sent
        if error is None:
            self._log.event("request", **line)
        else:
            line |= {"reason": error.reason, "detail": error.detail or None, "sent": error.sent}
            self._log.condition("request", error.reason, **line)


def _path(target: bytes) -> str:
    """Return the path without its query, and nothing of an authority: both may hold secrets."""
    if target[:1] != b"/":
        return ""
    return target.split(b"?", 1)[0][:200].decode("ascii", "backslashreplace")


def _drain_outcome(error: RequestError, *, begun: bool) -> str | None:
    """Return the `outcome` of a request that failed while draining; None where the client left."""
    if isinstance(error, DrainDeadline):
        return "cut" if begun else "timed_out"
    if error.blame is Blame.CLIENT:
        return None
    return "lost"


def _host_of(pool: Pool) -> bytes:
    """Return the Host for a client that sent none (HTTP/1.0)."""
    address = pool.address
    if address.path:
        return b"localhost"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}".encode("ascii", "replace")
