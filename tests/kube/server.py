"""An API server that does what a test's script says: TLS, a token, and one answer after another.

Answers are given in their order for each kind of question, the last one for ever. Runs on the test's loop,
so that its clock may be a number.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.support.authority import Authority

    Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

TOKEN = "token-1"


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    at: float
    kind: str
    path: str
    query: Mapping[str, str]
    fields: Mapping[str, str]
    body: Any


class ApiServer:
    """`async with ApiServer(authority) as api:`; `api.script["list"] = [page([...]), fail(500)]`."""

    def __init__(self, authority: Authority) -> None:
        certificate, key = authority.issue("127.0.0.1")
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate, key)
        self.script: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []
        self.tokens = {TOKEN}
        self._came = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)

    async def __aenter__(self) -> ApiServer:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def of(self, kind: str) -> list[Asked]:
        """Return the questions of one kind, oldest first."""
        return [each for each in self.asked if each.kind == kind]

    async def nth(self, kind: str, number: int = 1) -> Asked:
        """Wait until so many questions of a kind have come; return the last of them."""
        while len(self.of(kind)) < number:
            self._came.clear()
            await self._came.wait()
        return self.of(kind)[number - 1]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        kind = _kind(request)
        body = json.loads(await request.read()) if request.method in {"POST", "PATCH"} else None
        now = asyncio.get_running_loop().time()
        self.asked.append(Asked(now, kind, request.path, dict(request.query), dict(request.headers), body))
        self._came.set()
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return await fail(401)(request)
        answers = self.script.get(kind, [fail(404)])
        return await (answers.pop(0) if len(answers) > 1 else answers[0])(request)


def _kind(request: web.BaseRequest) -> str:
    if request.method == "POST":
        return "review" if request.path.endswith("reviews") else "event"
    if request.method == "PATCH":
        return "patch"
    if request.path.endswith("/endpointslices"):
        return "watch" if request.query.get("watch") == "true" else "list"
    return "pod" if "/pods/" in request.path else "get"


# Answers.


def say(thing: Any) -> Answer:
    """200 and an object."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(thing)

    return answer


def page(items: list[Any], version: str = "10", more: str = "") -> Answer:
    """One page of a list."""
    metadata = {"resourceVersion": version, **({"continue": more} if more else {})}
    return say({"kind": "EndpointSliceList", "metadata": metadata, "items": items})


def fail(status: int, message: str = "no", **fields: str) -> Answer:
    """Return a Status object with an error status."""
    thing = {"kind": "Status", "code": status, "message": message}
    headers = {name.replace("_", "-"): text for name, text in fields.items()}

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(thing, status=status, headers=headers)

    return answer


def text(body: str, content_type: str = "text/html") -> Answer:
    """200 and something else."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=body, content_type=content_type)

    return answer


async def hang(_: web.BaseRequest) -> web.StreamResponse:
    """Say nothing."""
    await asyncio.sleep(3600)
    raise AssertionError


async def drop(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class Feed:
    """A watch that stays open and says what the test puts into it; None ends it."""

    def __init__(self, *events: tuple[str, Any]) -> None:
        self._queue: asyncio.Queue[tuple[str, Any] | None] = asyncio.Queue()
        for event in events:
            self._queue.put_nowait(event)

    def put(self, kind: str, thing: Any) -> None:
        """Say one thing."""
        self._queue.put_nowait((kind, thing))

    def end(self) -> None:
        """Close the watch properly."""
        self._queue.put_nowait(None)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while (event := await self._queue.get()) is not None:
            kind, thing = event
            if kind == "drop":
                assert request.transport is not None
                request.transport.abort()
                break
            raw = thing if isinstance(thing, bytes) else json.dumps({"type": kind, "object": thing}).encode()
            await response.write(raw + b"\n")
        return response


def feed(*events: tuple[str, Any]) -> Answer:
    """Return a watch that says this, for tests that are given before there is a loop."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await Feed(*events)(request)

    return answer


# What it speaks of.


def own(
    *, ready: bool | None = True, terminating: bool | None = None, uid: str = "u-1", node: str = "node-a"
):
    """Return an endpoint of a pod."""
    conditions = {"ready": ready, "serving": ready, "terminating": terminating}
    return {
        "addresses": ["10.0.0.1"],
        "conditions": {name: value for name, value in conditions.items() if value is not None},
        "nodeName": node,
        "targetRef": {"kind": "Pod", "namespace": "shop", "name": f"pod-{uid}", "uid": uid},
    }


def other(number: int = 1, *, ready: bool = True, node: str = "node-b"):
    """Return an endpoint of another pod."""
    return own(ready=ready, uid=f"other-{number}", node=node)


def slice_of(
    *endpoints: Any, name: str = "web-1", service: str = "web", version: int = 10, family: str = "IPv4"
):
    """Return an EndpointSlice."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "resourceVersion": str(version),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "endpoints": list(endpoints) or None,
    }


def bookmark(version: int):
    """Return what a BOOKMARK carries."""
    return {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(version)}}
