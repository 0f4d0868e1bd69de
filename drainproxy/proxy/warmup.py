"""A new pod's application is asked for something before its callers come: so often, or until it is quick.

Begun once, when the application has accepted a connection for the first time; the lifecycle hears that it is
up when this is over. It ends after its time whatever came of it, with a drain, and never begins again: a
pod that serves has callers to keep it warm. Built by app.py, begun by upstream/probe.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from drainproxy import __version__, errors
from drainproxy.proxy.http2.unary import UnaryCalls
from drainproxy.proxy.message import framing
from drainproxy.proxy.message.parser import ResponseReader
from drainproxy.tasks import flat
from drainproxy.values import is_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from drainproxy.lifecycle.port import Lifecycle
    from drainproxy.log import Log
    from drainproxy.metrics import Metrics
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import ResponseHead
    from drainproxy.proxy.settings import ProxySettings
    from drainproxy.proxy.upstream.pool import Pool
    from drainproxy.tasks import Connections

IN_A_ROW = 10
"""Answers that have to be as `warmup_until` says: one may be luck."""
AGAIN_S = 0.05
"""After a request that failed: an application that hangs up says nothing of when to come again."""
AGENT = f"drainproxy/{__version__} (warm-up)"


class Caller(Protocol):
    """Asks an application, one request at a time."""

    async def ask(self, path: str) -> int:
        """Return the status of the answer, once all of it is here; 0 where it has none."""


class Warmup:
    """Of a process. Loop times in seconds."""

    def __init__(
        self,
        pools: Sequence[Pool],
        settings: ProxySettings,
        *,
        lifecycle: Lifecycle,
        metrics: Metrics,
        log: Log,
        tasks: Connections,
    ) -> None:
        self._courses = [_Course(pool) for pool in pools if not pool.address.tcp]
        self._settings = settings
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._log = log
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._running: asyncio.Task[None] | None = None
        self._began = 0.0
        self.over = False
        self.on_over: Callable[[], None] = lambda: None
        metrics.use(metrics.warmup_seconds, metrics.warmup_requests)
        metrics.before_scrape.append(self._refresh)

    def begin(self) -> None:
        """Begin, unless it has begun: the application is there."""
        if self._running is None:
            self._began = self._loop.time()
            self._lifecycle.warms(on=True)
            self._running = self._tasks.spawn(self._run(), "warm-up")
            self._lifecycle.on_change(self._look)

    def status(self) -> dict[str, Any]:
        """Return what /status says of it."""
        self._refresh()
        seconds = round(self._metrics.warmup_seconds.value(), 3)
        return {"over": self.over, "sent": sum(each.sent for each in self._courses), "seconds": seconds}

    def _look(self) -> None:
        """A drain ends it: nobody is warmed for."""
        if self._lifecycle.published.draining and self._running is not None and not self.over:
            self._running.cancel()

    async def _run(self) -> None:
        ended_by = "drain"
        try:
            async with asyncio.timeout(self._settings.warmup_timeout), asyncio.TaskGroup() as group:
                for course in self._courses:
                    for _ in range(self._settings.warmup_concurrency):
                        group.create_task(self._work(course))
            ended_by = "count" if self._settings.warmup_until is None else "until"
        except TimeoutError:
            ended_by = "timeout"
        except ExceptionGroup as failures:
            ended_by = repr(flat(failures)[0])
        finally:
            self._refresh()
            self.over = True
            self._lifecycle.warms(on=False)
            counts = self._metrics.warmup_requests
            self._log.event(
                "warmup",
                "info" if ended_by in {"count", "until"} else "warning",
                answered=int(counts.value("answered")),
                failed=int(counts.value("failed")),
                seconds=round(self._loop.time() - self._began, 3),
                ended_by=ended_by,
            )
            self.on_over()

    async def _work(self, course: _Course) -> None:
        paths = self._settings.warmup
        async with self._caller(course.pool) as caller:
            while not self._enough(course):
                number = course.sent
                course.sent += 1
                began = self._loop.time()
                try:
                    status = await caller.ask(paths[number % len(paths)])
                except errors.RequestError:
                    course.in_a_row = 0
                    self._metrics.warmup_requests.inc("failed")
                    await asyncio.sleep(AGAIN_S)
                else:
                    self._metrics.warmup_requests.inc("answered")
                    self._judge(course, status, self._loop.time() - began)

    def _judge(self, course: _Course, status: int, took_s: float) -> None:
        until = self._settings.warmup_until
        fits = status == until if is_status(until) else until is not None and took_s <= until
        course.in_a_row = course.in_a_row + 1 if fits else 0

    def _enough(self, course: _Course) -> bool:
        if self._settings.warmup_until is not None:
            return course.in_a_row >= IN_A_ROW
        return course.sent >= self._settings.warmup_count

    @contextlib.asynccontextmanager
    async def _caller(self, pool: Pool) -> AsyncIterator[Caller]:
        if self._settings.warmup_method == "grpc":
            calls = UnaryCalls(pool, AGENT)
            try:
                yield calls
            finally:
                calls.close()
            return
        yield _Requests(pool, self._settings.warmup_method)

    def _refresh(self) -> None:
        if self._running is not None and not self.over:
            self._metrics.warmup_seconds.set(self._loop.time() - self._began)


class _Course:
    """How far it is with one application."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.sent = self.in_a_row = 0


class _Requests:
    """See Caller. Each on a connection of its own."""

    def __init__(self, pool: Pool, method: str) -> None:
        self._pool = pool
        self._method = method

    async def ask(self, path: str) -> int:
        """See Caller. Raises RequestError."""
        answer = _Answer(self._method)
        connection = await self._pool.connect(math.inf, answer)
        # What is written is percent-encoded for the most part; the rest is here.
        target = quote(path, safe="!$%&'()*+,/:;=?@[]~")
        length = "Content-Length: 0\r\n" if self._method == "POST" else ""
        request = f"{self._method} {target} HTTP/1.1\r\nHost: {self._pool.address.authority}\r\n{length}"
        try:
            said = f"{request}User-Agent: {AGENT}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            connection.transport.write(said.encode())
            return await answer.status
        finally:
            self._pool.discard(connection)


class _Answer:
    """Borrows a connection for one answer, and throws its body away."""

    def __init__(self, method: str) -> None:
        self._method = method.encode()
        self._reader = ResponseReader()
        self._head: ResponseHead | None = None
        self._body: Body | None = None
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Of the answer, once all of it has come. An UpstreamError where it does not."""

    def upstream_data(self, data: bytes) -> None:
        """See Borrower."""
        try:
            while self._head is None and (read := self._reader.feed(data)) is not None:
                head, data = read
                if head.status >= 200:
                    self._head, self._body = head, framing.response_body(head, self._method)
            self._take(data)
        except errors.UpstreamError as error:
            self._end(error)
        except ValueError as fault:
            self._end(errors.UpstreamMalformed(str(fault)))

    def _take(self, data: bytes) -> None:
        if self._head is None:
            return
        body = self._body
        rest: bytes | None = b""
        if body is not None:
            _, rest = body.feed(data)
            while rest is None and body.backlog:
                _, rest = body.feed(b"")
        if rest is not None:
            self._end(None)

    def upstream_eof(self) -> None:
        """See Borrower."""

    def upstream_lost(self, *, reset: bool) -> None:
        """See Borrower. Some answers end so."""
        body = self._body
        ends = body is not None and body.framing is framing.Framing.UNTIL_CLOSE and not reset
        self._end(None if ends else errors.UpstreamGone())

    def upstream_writable(self, *, writable: bool) -> None:
        """See Borrower. One request goes at once."""

    def _end(self, error: errors.UpstreamError | None) -> None:
        self._reader.forget()
        if self.status.done():
            return
        if error is not None:
            self.status.set_exception(error)
        elif self._head is not None:
            self.status.set_result(self._head.status)
