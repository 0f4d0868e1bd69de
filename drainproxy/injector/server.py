"""The webhook: two routes over TLS, health and metrics beside it, and an end in which nothing is lost.

Decides nothing about pods; review.py does. Whatever goes wrong, the API server's failurePolicy admits the
pod. Called by cli/main.py.
"""

import asyncio
import platform
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from drainproxy import __version__, exposition, flavour
from drainproxy.addresses import ListenAddress
from drainproxy.admin import http_server
from drainproxy.admin.http_server import HttpServer, Request, Response
from drainproxy.certificates import Files, Rotation, for_clients
from drainproxy.injector.door import ReviewDoor, line
from drainproxy.injector.notices import Notices
from drainproxy.injector.patch import InjectorDefaults
from drainproxy.injector.review import Answer, Known, Malformed, answer, check, nothing_known
from drainproxy.kube.settings import KubeSettings
from drainproxy.lifecycle import signals
from drainproxy.lifecycle.propagation import PRESETS, UNKNOWN, Facts, judge
from drainproxy.log import Format, Log, adopt_libraries
from drainproxy.metrics import WebhookMetrics
from drainproxy.proxy.wire.listening_socket import address_of, bind

MAX_BODY_BYTES = 3 * 1024 * 1024
"""What a request to the API server may have; etcd takes half of it. One that is parsed takes up to twelve
times its size, and they are parsed one at a time."""

MAX_HELD_BYTES = 12 * 1024 * 1024
"""Of all reviews that are not whole yet: beyond it the largest is given up, since real ones are small."""

READ_S = 10.0
"""For a whole review: by default an API server waits no longer for its answer (timeoutSeconds)."""


async def run(
    *,
    listen: ListenAddress,
    admin: ListenAddress,
    files: Files,
    defaults: InjectorDefaults,
    log_format: Format,
    credentials: str = "",
) -> int:
    """Serve until SIGTERM and until the cluster has forgotten this pod; return the process's exit code.

    `credentials`: the directory of a token with which Events are written and pods counted.
    Raises CertificateError and ListenError.
    """
    with closing(Log(log_format)) as log:
        adopt_libraries(log)
        await _Webhook(files, defaults, credentials, log).run(bind(listen), bind(admin))
    return 0


class _Webhook:
    """One run."""

    def __init__(self, files: Files, defaults: InjectorDefaults, credentials: str, log: Log) -> None:
        self._defaults = defaults
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._metrics = WebhookMetrics()
        self._metrics.build_info.set(1.0, __version__, platform.python_version(), flavour.current())
        log.on_dropped = self._metrics.log_lines_dropped.inc
        self._rotation = Rotation(self._metrics, log)
        self._certificates = self._rotation.add("webhook", files, for_clients)
        self._notices: Notices | None = None
        if credentials:
            way = KubeSettings(kubernetes_credentials=credentials)
            self._notices = Notices(way, self._metrics, log, socket.gethostname())
        self._ending = asyncio.Event()
        self._patient = True
        self._unread: dict[asyncio.Timeout, bytearray] = {}
        """What has come of reviews that are not whole yet."""
        self._last_review: float | None = None
        """Loop time of the last one that came while ending."""

    async def run(self, wire: socket.socket, admin_wire: socket.socket) -> None:
        doors: list[ReviewDoor | HttpServer] = [
            ReviewDoor({"/mutate": self._mutate, "/check": self._check}, self._certificates),
            HttpServer({path: {"GET": self._show} for path in ("/livez", "/readyz", "/metrics")}),
        ]
        tasks = [self._loop.create_task(self._rotation.watch(), name="certificates")]
        if self._notices is not None:
            tasks.append(self._loop.create_task(self._notices.namespaces.run(), name="namespaces"))
            if self._defaults.kubernetes is None:
                self._defaults = replace(self._defaults, kubernetes=await self._notices.version())
            await self._notices.looked()
        for door, name, bound in zip(doors, ("webhook", "admin"), (wire, admin_wire), strict=True):
            await door.open(bound)
            self._log.event("listening", listener=name, address=address_of(bound))
        signals.deliver(self._loop, self._signalled)
        if self._notices is not None:
            tasks.append(self._loop.create_task(self._notices.run(), name="notices"))
        await self._ending.wait()
        self._log.event("ending", waits_for="the API server to go elsewhere")
        await self._forgotten()
        for task in tasks:
            task.cancel()
        for door in doors:
            await door.close()
        signals.ignore(self._loop)
        self._log.event("exit")

    def _signalled(self, name: str) -> None:
        if name == "SIGHUP":
            self._rotation.reload()
            return
        # A person at a terminal does not wait for the cluster.
        self._patient = name != "SIGINT"
        self._ending.set()

    async def _forgotten(self) -> None:
        """Serve on until the API server has had the time to learn, as a proxy of the preset cluster does."""
        rules, started = PRESETS["cluster"][0], self._loop.time()
        while self._patient:
            facts = Facts(started, UNKNOWN, self._last_review, arrivals_per_s=0.0)
            verdict = judge(rules, facts, self._loop.time())
            if verdict.over is not None:
                return
            await asyncio.sleep(verdict.check_at - self._loop.time())

    async def _mutate(self, request: web.BaseRequest) -> web.Response:
        """Put the sidecar into a pod."""
        began = self._loop.time()
        reply = await self._review(request, answer)
        if isinstance(reply, web.Response):
            self._metrics.webhook_reviews.inc("malformed")
            return reply
        self._metrics.webhook_reviews.inc(reply.result)
        self._metrics.webhook_review_seconds.observe(self._loop.time() - began)
        if self._notices is not None and reply.notice is not None:
            self._notices.tell(reply.notice)
        return self._answered("review", reply)

    async def _check(self, request: web.BaseRequest) -> web.Response:
        """Say what will become of a workload's pods, to whoever applies it."""
        reply = await self._review(request, check)
        if isinstance(reply, web.Response):
            self._metrics.webhook_checks.inc("malformed")
            return reply
        self._metrics.webhook_checks.inc(reply.result)
        return self._answered("check", reply)

    def _answered(self, event: str, reply: Answer) -> web.Response:
        result, pod, said = reply.result, reply.pod, list(reply.said)
        level = "info" if result in {"injected", "unchanged"} else "warning"
        self._log.condition(event, result, level, result=result, pod=pod, said=said)
        response = web.Response(body=reply.body, content_type="application/json")
        if self._ending.is_set():
            response.force_close()
        return response

    async def _review(
        self, request: web.BaseRequest, judge: Callable[[bytes, InjectorDefaults, Known], Answer]
    ) -> Answer | web.Response:
        """Return what is answered, or an error where the review is none."""
        if self._ending.is_set():
            self._last_review = self._loop.time()
        try:
            known = nothing_known if self._notices is None else self._notices.around
            return judge(await self._read(request), self._defaults, known)
        except TimeoutError:
            return self._malformed(503, "the review did not come whole, in time and beside others")
        except Malformed as reason:
            return self._malformed(400, str(reason))
        except (HttpProcessingError, web.RequestPayloadError):
            return self._malformed(400, "it cannot be decompressed, or its framing is broken")
        except web.HTTPRequestEntityTooLarge:
            return self._malformed(413, "the review is too large")

    async def _read(self, request: web.BaseRequest) -> bytes:
        """Return a review. Raises TimeoutError, also where it gives way, and HTTPRequestEntityTooLarge."""
        body = bytearray()
        async with asyncio.timeout(READ_S) as patience:
            self._unread[patience] = body
            try:
                async for piece in request.content.iter_any():
                    body += piece
                    if len(body) > MAX_BODY_BYTES:
                        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(body))
                    if sum(map(len, self._unread.values())) > MAX_HELD_BYTES:
                        largest = max(self._unread, key=lambda each: len(self._unread[each]))
                        del self._unread[largest]
                        largest.reschedule(self._loop.time())
            finally:
                self._unread.pop(patience, None)
        return bytes(body)

    def _malformed(self, status: int, why: str) -> web.Response:
        self._log.condition("review", "malformed", result="malformed", why=why)
        response = line(status, why)
        response.force_close()
        return response

    async def _show(self, request: Request) -> Response:
        if request.path == "/metrics":
            return Response(200, *exposition.scrape(self._metrics, request.fields.get("accept", "")))
        ending = self._ending.is_set() and request.path == "/readyz"
        return http_server.line(503, "ending") if ending else http_server.line(200, "ready")
