"""The admin listeners: one TCP port for probes, metrics and waiting hooks, one Unix socket for control.

Decides nothing: verdicts come from health.py, numbers from metrics.py, the document from status.py, and
whether to drain is the controller's. Built and stopped by app.py, which binds the TCP socket.
"""

import asyncio
import contextlib
import json
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from drainproxy import exposition
from drainproxy.admin import control, guard, health
from drainproxy.admin.fair_share import FairShare
from drainproxy.admin.http_server import Handler, HttpServer, Request, Response, Routes, line, waiting
from drainproxy.admin.recent import Recent
from drainproxy.admin.scrapes import Scrapes
from drainproxy.admin.settings import AdminSettings
from drainproxy.admin.status import status
from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.report import Report
from drainproxy.log import Log
from drainproxy.metrics import Metrics

MAX_WAITERS = 64
"""Hooks that may wait at once, of the node's addresses and of all others each: one for each container of the
largest pods, and some for curious people."""

START_HOLD_S = 1.5
"""How long a readiness probe waits for an application that is starting, within the probe's own timeoutSeconds
of 2 (docs/kubernetes.md)."""

NOTHING_TO_TELL = 20
"""A drain that served everybody waits for so small a part of `final_scrape_wait`: of the default, 750 ms, and
only for a scrape that is due within that."""

LAST_LOOK_S = 2.0
"""How long a person who polls /status may hold the exit: two rounds of the live page."""

LATE_LOOK_S = 0.5
"""The same after the deadline, out of `reserve`: two rounds of `status --watch`. What was cut is what a
person wants to see."""


@dataclass(kw_only=True, eq=False)
class AdminServer:
    """The admin room's one object. Used on the event loop's thread only."""

    controller: Controller
    inflight: InFlight
    metrics: Metrics
    log: Log
    settings: AdminSettings
    node: frozenset[str] = frozenset()
    """The addresses that the kubelet comes from."""
    about: Callable[[], dict[str, Any]]
    """Says what only the composition root knows; /status shows all of it. Its `listeners`, a list of
    addresses, is empty until every one of them is bound."""
    recent: Recent

    def __post_init__(self) -> None:
        self._scrapes = Scrapes(self.settings.final_scrape_wait)
        self._looks = Scrapes(wait_s=0.0)
        """Who polls /status: a person who watches the drain wants to see its end."""
        self._fetched = asyncio.Event()
        self._told_of = -math.inf
        """The end of the drain for which the log has said who is awaited."""
        self._kubelets: FairShare[asyncio.Timeout] = FairShare(MAX_WAITERS)
        self._waiters: FairShare[asyncio.Timeout] = FairShare(MAX_WAITERS)
        """Hooks that wait, the kubelet's and everybody else's."""
        self._doors: list[HttpServer] = []
        self._has_control = False

    async def start(self, sock: socket.socket) -> None:
        """Serve on `sock`, already bound, and on the control socket if it can be had."""
        self.controller.hooks.last_scrape = self.last_scrape
        await self._open(HttpServer(self._routes(), self.node), sock)
        control_socket = control.bind(self.settings.control_socket, self.log)
        if control_socket is not None:
            self._has_control = True
            await self._open(
                control.door(self.settings.control_socket, self._control_routes()), control_socket
            )

    async def stop(self) -> None:
        """Close the listeners, finish answers under way, remove the control socket."""
        for door in self._doors:
            await door.close()
        self._doors.clear()
        if self._has_control:
            control.unlink(self.settings.control_socket)
            self._has_control = False

    def last_scrape(self, report: Report, given: float) -> float:
        """Return until when a scrape is awaited before the application is let go; loop time `given` at most.

        The more there is to tell, the longer. Whoever watches /status sees the report.
        """
        drained_at = self.controller.journal.phase_since
        wait_s = self.settings.final_scrape_wait
        if not report.incomplete:
            wait_s /= NOTHING_TO_TELL
        until = min(given, drained_at + wait_s)
        look_until = min(given, drained_at + LAST_LOOK_S)
        give_ups = [*self._awaited(until, guess=report.incomplete), *self._watched(look_until)]
        return max(give_ups, default=-math.inf)

    async def wait_last_scrape(self, *, until: float) -> None:
        """Return when every scraper has the numbers of the whole drain, or at loop time `until`.

        For what only the deadline has ended: the application is stopping by then. Whoever watches /status
        sees the report, for which `until` may be overrun by a part of `reserve`.
        """
        loop = asyncio.get_running_loop()
        until = min(until, loop.time() + self.settings.final_scrape_wait)
        reserve_s = self.controller.plan.budget.reserve_s
        look_until = max(loop.time() + min(LATE_LOOK_S, reserve_s / 6), min(until, loop.time() + LAST_LOOK_S))
        while give_ups := [*self._awaited(until, guess=True), *self._watched(look_until)]:
            self._fetched.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(max(give_ups)):
                    await self._fetched.wait()

    def _awaited(self, until: float, *, guess: bool) -> list[float]:
        """Return when to give up on each scraper whose next scrape is due by loop time `until`."""
        now, drained_at = asyncio.get_running_loop().time(), self.controller.journal.phase_since
        scrapers = self._scrapes.awaited(now, drained_at, until, guess=guess)
        if scrapers and self._told_of != drained_at:
            self._told_of = drained_at
            within_s = round(max(scrapers.values()) - now, 3)
            self.log.event("last_scrape", awaited=sorted(scrapers), within_s=within_s)
        return list(scrapers.values())

    def _watched(self, until: float) -> list[float]:
        now, drained_at = asyncio.get_running_loop().time(), self.controller.journal.phase_since
        return list(self._looks.awaited(now, drained_at, until).values())

    async def _open(self, door: HttpServer, sock: socket.socket) -> None:
        self._doors.append(door)
        await door.open(sock)

    def _routes(self) -> Routes:
        return {
            "/livez": _read(self._probe(health.livez)),
            "/readyz": _read(self._probe(health.readyz)),
            "/startupz": _read(self._probe(health.startupz)),
            "/lb-health": _read(self._probe(health.lb_health)),
            "/metrics": {"GET": self._show_metrics},
            "/drain/wait": {"GET": self._wait},
            "/status": _read(_on_loopback(self._show_status)),
            "/": _read(_on_loopback(_show_page)),
        }

    def _control_routes(self) -> Routes:
        return {
            **control.routes(self.controller),
            "/drain/wait": {"GET": self._wait},
            "/status": _read(self._show_status),
        }

    # Handlers.

    def _probe(self, judge: Callable[[health.Facts], health.Verdict]) -> Handler:
        async def answer(request: Request) -> Response:
            if judge is health.readyz and request.fields.get("user-agent", "").startswith("kube-probe/"):
                self.controller.probes.came(asyncio.get_running_loop().time())
                await self._started()
            verdict = judge(self._facts())
            return Response(verdict.status, verdict.text(verbose="verbose" in request.query).encode())

        return answer

    async def _started(self) -> None:
        """Give an application that is starting a moment: the kubelet writes a Warning for each 503, and asks
        again only a period later."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_HOLD_S):
                await self.controller.until(lambda: self.controller.published.phase is not Phase.STARTING)

    def _facts(self) -> health.Facts:
        controller = self.controller
        return health.Facts(
            phase=controller.published.phase,
            draining=controller.published.draining,
            ready=controller.ready,
            upstream_up=controller.upstream_up,
            warming=controller.warming,
            listening=bool(self.about().get("listeners")),
            blocked=str(self.about().get("blocked") or ""),
        )

    async def _show_metrics(self, request: Request) -> Response:
        now = asyncio.get_running_loop().time()
        body, content_type = exposition.scrape(self.metrics, request.fields.get("accept", ""))
        sent = partial(self._handed_over, request.peer, self._scrapes, now)
        return Response(200, body, content_type, sent=sent)

    def _handed_over(self, peer: str, register: Scrapes, now: float) -> None:
        """Take a note of who has what was true at loop time `now`, now that it is written.

        The process may exit as soon as the last one has come.
        """
        register.record(peer, now)
        self._fetched.set()
        if self.controller.drained:
            self.controller.fetched()

    async def _wait(self, request: Request) -> Response:
        """Answer when the application may stop. Waits only: anyone on the pod network may ask."""
        asker = request.peer
        # On the control socket, where nobody has an address, only this container asks.
        places = self._kubelets if not asker or asker in self.node else self._waiters
        try:
            async with asyncio.timeout(None) as place:
                places.enter(place, asker)
                try:
                    if not self._finds_room(asker, places):
                        return line(503, f"{MAX_WAITERS} wait already")
                    with waiting(request):
                        return line(200, await self.controller.released())
                finally:
                    places.leave(place, asker)
        except TimeoutError:
            return line(503, "others wait, too")

    @staticmethod
    def _finds_room(asker: str, places: FairShare[asyncio.Timeout]) -> bool:
        """Tell whether one more hook of address `asker` may wait; where another address has more of them, its
        oldest goes."""
        crowd = next(places.crowds(asker), None)
        if crowd is None:
            return True
        waiting_there = places.of(crowd)
        if len(waiting_there) <= len(places.of(asker)):
            return False
        places.leave(waiting_there[0], crowd)
        waiting_there[0].reschedule(asyncio.get_running_loop().time())
        return True

    async def _show_status(self, request: Request) -> Response:
        now = asyncio.get_running_loop().time()
        document = status(
            controller=self.controller,
            inflight=self.inflight,
            metrics=self.metrics,
            recent=self.recent,
            about={
                **self.about(),
                "hooks_waiting": len(self._kubelets) + len(self._waiters),
                "docs_url": self.settings.docs_url,
            },
            now=now,
        )
        text = json.dumps(document, separators=(",", ":")) + "\n"
        sent = partial(self._handed_over, request.peer, self._looks, now)
        return Response(200, text.encode(), "application/json; charset=utf-8", sent=sent)


async def _show_page(_request: Request) -> Response:
    from drainproxy.admin import page  # noqa: PLC0415 - a person has come; most pods never see one

    fields = {"Content-Security-Policy": page.POLICY}
    return Response(200, page.PAGE.encode(), "text/html; charset=utf-8", fields)


def _read(show: Handler) -> dict[str, Handler]:
    return {"GET": show, "HEAD": show}


def _on_loopback(show: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        refusal = guard.refusal(
            peer=request.peer,
            local=request.local,
            host=request.fields.get("host", ""),
            origin=request.fields.get("origin"),
            fetch_site=request.fields.get("sec-fetch-site"),
        )
        if refusal is not None:
            return line(403, refusal)
        return await show(request)

    return answer
