"""What an API server, or something on the way to it, does wrong.

A fault is called with a request. It answers in the server's place, or returns None and lets the server
answer, for a watch perhaps in the `Manner` that it has left in the request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from tests.support.cluster.status import status

if TYPE_CHECKING:
    from collections.abc import Iterator

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass(slots=True)
class Manner:
    """How one watch goes wrong: after so many events it is cut, torn in mid line, or says it is too late."""

    cut_after: int | None = None
    torn: bool = False
    expired_after: int | None = None
    empty: bool = False
    """Ends at once."""
    echo: bool = False
    """After each state of an object comes the one before it."""


MANNER = web.RequestKey("manner", Manner)


@dataclass(slots=True)
class _Entry:
    fault: Fault
    verb: str | None
    resource: str | None
    times: int | None


@dataclass(slots=True)
class Faults:
    """Those that are switched on; the first that fits counts."""

    entries: list[_Entry] = field(default_factory=list)

    @contextlib.contextmanager
    def on(
        self, fault: Fault, *, verb: str | None = None, resource: str | None = None, times: int | None = None
    ) -> Iterator[None]:
        """Switch a fault on for the length of the block: for a verb, for a resource, for so many requests."""
        entry = _Entry(fault, verb, resource, times)
        self.entries.append(entry)
        try:
            yield
        finally:
            self.entries.remove(entry)

    async def strike(self, verb: str, resource: str, request: web.Request) -> web.StreamResponse | None:
        """Let the first fault that fits have its way."""
        for entry in self.entries:
            if entry.verb in (None, verb) and entry.resource in (None, resource) and entry.times != 0:
                if entry.times is not None:
                    entry.times -= 1
                return await entry.fault(request)
        return None


def unauthorized() -> Fault:
    """401, as for a token that was rotated."""
    return _answers(lambda: status(401, "Unauthorized", "Unauthorized"))


def forbidden() -> Fault:
    """403."""
    return _answers(lambda: status(403, "Forbidden", "forbidden: not in these times"))


def gone() -> Fault:
    """410 in place of an answer."""
    return _answers(lambda: status(410, "Expired", "too old resource version"))


def throttled(retry_after_s: int = 1) -> Fault:
    """429 with Retry-After."""

    def answer() -> web.Response:
        refused = status(429, "TooManyRequests", "Too many requests, please try again later.")
        refused.headers["Retry-After"] = str(retry_after_s)
        return refused

    return _answers(answer)


def broken(code: int = 500, message: str = "etcdserver: leader changed") -> Fault:
    """A 5xx of the API server's own."""
    return _answers(lambda: status(code, "InternalError", message))


def html(code: int = 200) -> Fault:
    """A page, as from a captive portal or a load balancer."""
    return _answers(
        lambda: web.Response(
            status=code, text="<!doctype html><title>Sign in</title>", content_type="text/html"
        )
    )


def not_json() -> Fault:
    """JSON by its name, and torn."""
    return _answers(lambda: web.Response(text='{"kind":"EndpointSliceLi', content_type="application/json"))


def _answers(make: Callable[[], web.StreamResponse]) -> Fault:
    async def fault(_request: web.Request) -> web.StreamResponse:
        return make()

    return fault


def hang() -> Fault:
    """No answer, for as long as the client waits."""

    async def fault(_request: web.Request) -> None:
        await asyncio.Event().wait()

    return fault


def slow(seconds: float) -> Fault:
    """The right answer, late."""

    async def fault(_request: web.Request) -> None:
        await asyncio.sleep(seconds)

    return fault


def hang_after_head() -> Fault:
    """A good head, and then nothing."""

    async def fault(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b"{")
        await asyncio.Event().wait()
        return response

    return fault


def disconnect() -> Fault:
    """The connection is reset where an answer was due."""

    async def fault(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return fault


def watch(**manner: int | bool) -> Fault:
    """A watch in a bad manner; the fields are those of Manner."""

    async def fault(request: web.Request) -> None:
        request[MANNER] = Manner(**manner)

    return fault
