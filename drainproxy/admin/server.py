"""The admin listeners: one TCP port for probes, metrics and waiting hooks, one Unix socket for control.

Decides nothing: verdicts come from health.py, numbers from metrics.py, the document from status.py, and
whether to drain is the controller's. Built and stopped by app.py, which binds the TCP sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

from aiohttp import web

from drainproxy import metrics as exposition
from drainproxy.admin import control, guard, health, page, snapshot
from drainproxy.admin.scrapes import Scrapes
from drainproxy.admin.status import status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from drainproxy.admin.settings import AdminSettings
    from drainproxy.lifecycle.controller import Controller
    from drainproxy.lifecycle.inflight import InFlight
    from drainproxy.log import Log
    from drainproxy.metrics import Metrics

MAX_WAITERS = 64
"""Hooks that may wait at once: one for each container of the largest pods, and some for curious people."""

KEEPALIVE_S = 75.0
"""An idle connection, or one whose head does not come, is closed after this: longer than the usual
60 s between two scrapes."""

STOP_S = 1.0
"""What an answer under way gets when the process exits."""

_LIMITS: dict[str, Any] = {
    # No body is ever read here, and a probe's head is a few hundred bytes.
    "max_line_size": 2048,
    "max_field_size": 4096,
    "max_headers": 64,
    "read_bufsize": 4096,
    "lingering_time": 0.0,
}


class AdminServer:
    """The admin room's one object. Used on the event loop's thread only."""

    def __init__(
        self,
        *,
        controller: Controller,
        inflight: InFlight,
        metrics: Metrics,
        log: Log,
        settings: AdminSettings,
        about: Callable[[], dict[str, Any]],
    ) -> None:
        """`about` says what only the composition root knows; /status shows all of it.

        Its `listeners`, a list of addresses, is empty until every one of them is bound.
        """
        self._controller = controller
        self._inflight = inflight
        self._metrics = metrics
        self._log = log
        self._settings = settings
        self._about = about
        self._scrapes = Scrapes(settings.final_scrape_wait)
        self._scraped = asyncio.Event()
        self._waiters = 0
        self._runners: list[web.AppRunner] = []
        self._has_control = False

    async def start(self, sockets: socket.socket | Sequence[socket.socket]) -> None:
        """Serve on `sockets`, already bound, and on the control socket if it can be had."""
        bound = [sockets] if isinstance(sockets, socket.socket) else sockets
        await self._serve(self._open_routes(), bound)
        door = control.bind(self._settings.control_socket, self._log)
        if door is not None:
            self._has_control = True
            await self._serve(self._control_routes(), [door])

    async def stop(self) -> None:
        """Close the listeners, finish answers under way, remove the control socket."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        if self._has_control:
            control.unlink(self._settings.control_socket)
            self._has_control = False

    async def wait_last_scrape(self, *, until: float) -> None:
        """Return when every scraper has the numbers of the whole drain, or at loop time `until`.

        For after `drained` and SIGTERM: no scraper that keeps its interval loses the last numbers.
        """
        loop = asyncio.get_running_loop()
        drained_at = self._controller.phase_since
        until = min(until, loop.time() + self._settings.final_scrape_wait)
        told = False
        while awaited := self._scrapes.awaited(loop.time(), drained_at, until):
            last = max(awaited.values())
            if not told:
                told = True
                within_s = round(last - loop.time(), 3)
                self._log.event("last_scrape", awaited=sorted(awaited), within_s=within_s)
            self._scraped.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(last):
                    await self._scraped.wait()

    # Listening.

    async def _serve(self, routes: list[web.RouteDef], sockets: Sequence[socket.socket]) -> None:
        app = web.Application()
        app.add_routes(routes)
        app.on_response_prepare.append(_dress)
        runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            # A hook that hangs up must not go on occupying a place.
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=STOP_S,
            **_LIMITS,
        )
        await runner.setup()
        self._runners.append(runner)
        for sock in sockets:
            await web.SockSite(runner, sock).start()

    def _open_routes(self) -> list[web.RouteDef]:
        return [
            web.get("/livez", self._probe(health.livez)),
            web.get("/readyz", self._probe(health.readyz)),
            web.get("/startupz", self._probe(health.startupz)),
            web.get("/lb-health", self._probe(health.lb_health)),
            web.get("/metrics", self._show_metrics, allow_head=False),
            web.get("/drain/wait", self._wait, allow_head=False),
            web.get("/status", _on_loopback(self._show_status)),
            web.get("/", _on_loopback(_show_page)),
        ]

    def _control_routes(self) -> list[web.RouteDef]:
        return [
            *control.Control(self._controller).routes(),
            web.get("/drain/wait", self._wait, allow_head=False),
            web.get("/status", self._show_status),
        ]

    # Routes.

    def _probe(
        self, verdict: Callable[[health.Facts], health.Verdict]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            answered = verdict(self._facts())
            return web.Response(
                status=answered.status, text=answered.text(verbose="verbose" in request.query)
            )

        return answer

    def _facts(self) -> health.Facts:
        controller = self._controller
        return health.Facts(
            phase=controller.published.phase,
            draining=controller.published.draining,
            ready=controller.ready,
            upstream_up=controller.upstream_up,
            listening=bool(self._about().get("listeners")),
        )

    async def _show_metrics(self, request: web.Request) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        body, content_type = exposition.scrape(self._metrics, request.headers.get("Accept", ""))
        response = web.Response(body=body, headers={"Content-Type": content_type})
        await response.prepare(request)
        await response.write_eof()
        # Recorded once it was written: the process may exit as soon as the last scraper has come.
        self._scrapes.record(_peer(request), now)
        self._scraped.set()
        return response

    async def _wait(self, _request: web.Request) -> web.Response:
        """Answer when the application may stop. Waits only: anyone on the pod network may ask."""
        if self._waiters >= MAX_WAITERS:
            return web.Response(status=503, text=f"{MAX_WAITERS} wait already\n")
        self._waiters += 1
        try:
            word = await self._controller.released()
        finally:
            self._waiters -= 1
        return web.Response(text=f"{word}\n")

    async def _show_status(self, _request: web.Request) -> web.Response:
        taken = snapshot.take(
            controller=self._controller,
            inflight=self._inflight,
            metrics=self._metrics,
            about={**self._about(), "hooks_waiting": self._waiters},
            now=asyncio.get_running_loop().time(),
        )
        document = json.dumps(status(taken), separators=(",", ":")) + "\n"
        return web.Response(text=document, content_type="application/json")


async def _show_page(_request: web.Request) -> web.Response:
    headers = {"Content-Security-Policy": page.POLICY}
    return web.Response(text=page.PAGE, content_type="text/html", headers=headers)


def _on_loopback(
    show: Callable[[web.Request], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        asker = guard.Asker(
            peer=_peer(request),
            local=_end(request, "sockname"),
            host=request.headers.get("Host", ""),
            origin=request.headers.get("Origin"),
            fetch_site=request.headers.get("Sec-Fetch-Site"),
        )
        refusal = guard.refusal(asker)
        if refusal is not None:
            return web.Response(status=403, text=f"{refusal}\n")
        return await show(request)

    return answer


def _peer(request: web.Request) -> str:
    return _end(request, "peername")


def _end(request: web.Request, which: str) -> str:
    """Return the IP address of one end of the request's connection, or nothing if it is gone."""
    transport = request.transport
    name = None if transport is None else transport.get_extra_info(which)
    return str(name[0]) if isinstance(name, tuple) else ""


async def _dress(_request: web.Request, response: web.StreamResponse) -> None:
    """Give every answer the fields it must have, and no version of anything."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "drainproxy"
