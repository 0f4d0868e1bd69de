"""Few requests to the API server, each with a deadline, each checked and counted.

access.py says where it is, transport.py carries what is said. Whatever goes wrong leaves here as a
KubernetesError. Nothing is repeated here except once after a 401 with a newer
token; when to try again is the caller's to decide. Called by the room's other modules.
"""

import asyncio
import contextlib
import json
import zlib
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import h11

from drainproxy import __version__
from drainproxy.errors import KubernetesError
from drainproxy.kube.access import Access, access
from drainproxy.kube.listing import ListReader, Malformed
from drainproxy.kube.settings import KubeSettings
from drainproxy.kube.transport import MAX_PIECE_BYTES, Answer, Session
from drainproxy.metrics import Metrics, WebhookMetrics

T = TypeVar("T")
Counted = Metrics | WebhookMetrics
"""Whoever asks counts it."""

REQUEST_TIMEOUT_S = 5.0
"""For one answer, all of it."""

WATCH_GRACE_S = 2.0
"""How much longer than asked a server may keep a watch open."""

PAGE_ITEMS = 500
MAX_PAGES = 100

MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_MESSAGE_CHARS = 200

_REASONS = {401: "denied", 403: "denied", 404: "absent", 410: "gone", 429: "throttled"}
_SENSELESS = (h11.ProtocolError, zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading an answer raises that is not what it should be."""

USER_AGENT = f"drainproxy/{__version__}"

MANAGER = "drainproxy"
"""Under which name the server remembers what we have changed (Kubernetes: Server-Side Apply, managers)."""


@dataclass(eq=False)
class Api:
    """One session with the API server; `async with connect(...)` makes it."""

    session: Session
    access: Access
    metrics: Counted

    async def get(self, path: str, read: Callable[[dict[str, Any]], T]) -> T:
        """Return what `read` makes of one object. Raises KubernetesError, also where it makes nothing."""
        async with self._answer("read", "GET", path) as answer:
            return read(json.loads(await _body(answer)))

    async def create(
        self, path: str, body: Mapping[str, Any], read: Callable[[dict[str, Any]], T], *, verb: str = "create"
    ) -> T:
        """Create an object; return what `read` makes of what it became. Raises KubernetesError.

        A review creates nothing: it is counted as `verb` read.
        """
        async with self._answer(verb, "POST", path, body=body) as answer:
            return read(json.loads(await _body(answer)))

    async def patch(self, path: str, change: Mapping[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        """Merge a change into an object; return what `read` makes of it then. Raises KubernetesError."""
        query = {"fieldManager": MANAGER}
        async with self._answer("patch", "PATCH", path, query, body=change) as answer:
            return read(json.loads(await _body(answer)))

    async def list(
        self, path: str, query: Mapping[str, str], take: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Give each item of every page to `take`; return the last `metadata`. Raises KubernetesError."""
        limit = {"limit": str(PAGE_ITEMS)}
        query = {**limit, **query}
        for _ in range(MAX_PAGES):
            reader, decoder = ListReader(take), getincrementaldecoder("utf-8")()
            async with self._answer("read", "GET", path, query) as answer:
                async for piece in answer.pieces():
                    reader.feed(decoder.decode(piece))
                reader.close()
                metadata = reader.fields.get("metadata")
                if not isinstance(metadata, dict):
                    raise Malformed("it has no metadata")
            if not metadata.get("continue"):
                return metadata
            query = limit | {"continue": str(metadata["continue"])}
        raise KubernetesError(f"the list has more than {MAX_PAGES} pages", reason="malformed")

    async def watch(
        self, path: str, query: Mapping[str, str], for_s: float, take: Callable[[str, dict[str, Any]], None]
    ) -> None:
        """Give (type, object) of each event to `take`, until the server ends a watch of `for_s` or so.

        Raises KubernetesError, also for an ERROR event: 410 there is how a watch says it is too late.
        """
        asked_s = max(1, round(for_s))
        query = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(asked_s)}
        async with self._answer("watch", "GET", path, query, timeout_s=asked_s + WATCH_GRACE_S) as answer:
            async for line in answer.lines():
                event = json.loads(line)
                kind, thing = event["type"], event["object"]
                if kind == "ERROR":
                    reason = _REASONS.get(int(thing.get("code", 500)), "error")
                    raise KubernetesError(str(thing.get("message"))[:MAX_MESSAGE_CHARS], reason=reason)
                take(kind, thing)

    async def lines(
        self, path: str, query: Mapping[str, str], for_s: float, take: Callable[[str], bool]
    ) -> None:
        """Give each line of a text, as of a container's log, to `take` until it has enough, or for so long.

        Raises KubernetesError.
        """
        async with self._answer("read", "GET", path, query, timeout_s=for_s) as answer:
            async for line in answer.lines():
                if take(line.decode(errors="replace")):
                    return

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        verb: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> AsyncIterator[Answer]:
        """Ask; yield an answer of 2xx whose body is then read, and count how it all ended."""
        outcome = "unanswered"
        target = f"{path}?{urlencode(query)}" if query else path
        content = None if body is None else json.dumps(body).encode()
        try:
            async with asyncio.timeout(timeout_s), await self._ask(method, target, content) as answer:
                await _check(answer)
                outcome = "ok"
                yield answer
        except KubernetesError as error:
            outcome = error.reason
            raise
        except TimeoutError:
            outcome = "timeout"
            raise KubernetesError("no answer in time", reason=outcome) from None
        except OSError as error:
            outcome = "unreachable"
            raise KubernetesError(str(error) or repr(error), reason=outcome) from None
        except _SENSELESS as error:
            outcome = "malformed"
            what = f"its answer makes no sense: {error!r}"
            raise KubernetesError(what[:MAX_MESSAGE_CHARS], reason=outcome) from None
        finally:
            self._count(verb, outcome)

    async def _ask(self, method: str, target: str, content: bytes | None) -> Answer:
        """Send a request with our token, and again with a newer one where that is refused."""
        fields = await self._fields()
        answer = await self.session.request(method, target, fields, content)
        # The kubelet may have renewed it in between.
        if answer.status == 401 and (renewed := await self._fields()) != fields:
            answer.release()
            answer = await self.session.request(method, target, renewed, content)
        return answer

    async def _fields(self) -> dict[str, str]:
        """Return what a request says of itself; the token is read from its file each time."""
        token = await self.access.token()
        about = {"Accept": "application/json", "User-Agent": USER_AGENT}
        return about if token is None else {**about, "Authorization": token}

    def _count(self, verb: str, outcome: str) -> None:
        if outcome == "unanswered":
            return  # We went away first.
        self.metrics.kubernetes_requests.inc(verb, outcome if outcome in {"ok", "denied"} else "failed")
        self.metrics.kubernetes_api_up.set(float(outcome in {"ok", "absent", "gone"}))


@contextlib.asynccontextmanager
async def connect(settings: KubeSettings, metrics: Counted) -> AsyncIterator[Api]:
    """Open a session; nothing is sent yet. Raises KubernetesError where there is no way to the cluster."""
    try:
        way = await access(settings)
    except Exception as error:
        # A bad file raises anything, as does the library that reads a kubeconfig.
        metrics.kubernetes_api_up.set(0.0)
        what = " ".join(str(error).split()) or repr(error)
        if settings.kubeconfig and settings.kubeconfig not in what:
            what = f"{settings.kubeconfig}: {what}"
        raise KubernetesError(f"no way to the cluster: {what}", reason="unreachable") from None
    session = Session(way)
    try:
        yield Api(session, way, metrics)
    finally:
        session.close()


async def _check(answer: Answer) -> None:
    """Raise for any status but 2xx."""
    if 200 <= answer.status <= 299:
        return
    said = bytearray()
    async for piece in answer.pieces():
        said += piece
        if len(said) >= MAX_PIECE_BYTES:
            break
    text = said[:MAX_PIECE_BYTES].decode(errors="replace")
    with contextlib.suppress(ValueError, AttributeError):
        text = json.loads(text).get("message", text)
    retry_after = answer.field(b"retry-after")
    raise KubernetesError(
        f"{answer.status}: {str(text)[:MAX_MESSAGE_CHARS]}",
        reason=_REASONS.get(answer.status, "error"),
        retry_after_s=float(retry_after) if retry_after.isdecimal() else None,
    )


async def _body(answer: Answer) -> bytes:
    body = bytearray()
    async for piece in answer.pieces():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise Malformed("it is too long")
    return bytes(body)
