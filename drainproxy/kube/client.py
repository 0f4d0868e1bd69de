"""The one door to kubernetes_asyncio: few requests, each with a deadline, each checked and counted.

Takes the library's configuration and transport and leaves its 768 generated models on the disk. Whatever
goes wrong leaves here as a KubernetesError. Nothing is repeated here except once after a 401 with a newer
token; when to try again is the caller's to decide. Called by the room's other modules.
"""

import contextlib
import importlib
import importlib.util
import json
import sys
import types
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from drainproxy import __version__
from drainproxy.errors import KubernetesError
from drainproxy.kube import kubeconfig
from drainproxy.kube.listing import ListReader, Malformed
from drainproxy.kube.settings import KubeSettings
from drainproxy.metrics import Metrics

T = TypeVar("T")

CONNECT_TIMEOUT_S = 1.0
"""A NetworkPolicy that denies egress drops packets: a connect hangs rather than being refused."""

REQUEST_TIMEOUT_S = 5.0
"""For one answer, all of it."""

WATCH_GRACE_S = 2.0
"""How much longer than asked a server may keep a watch open."""

PAGE_ITEMS = 500
MAX_PAGES = 100

MAX_PIECE_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_MESSAGE_CHARS = 200

_REASONS = {401: "denied", 403: "denied", 404: "absent", 410: "gone", 429: "throttled"}
_SENSELESS = (
    aiohttp.ClientError,
    aiohttp.http_exceptions.HttpProcessingError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)
"""What reading an answer raises that is not what it should be."""

USER_AGENT = f"drainproxy/{__version__}"


@dataclass(eq=False)
class Api:
    """One session with the API server; `async with connect(...)` makes it."""

    rest: Any
    configuration: Any
    metrics: Metrics

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

    async def list(
        self, path: str, query: Mapping[str, str], take: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Give each item of every page to `take`; return the last `metadata`. Raises KubernetesError."""
        limit = {"limit": str(PAGE_ITEMS)}
        query = {**limit, **query}
        for _ in range(MAX_PAGES):
            reader, decoder = ListReader(take), getincrementaldecoder("utf-8")()
            async with self._answer("read", "GET", path, query) as answer:
                async for piece in answer.content.iter_chunked(MAX_PIECE_BYTES):
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
            async for line in answer.content:
                event = json.loads(line)
                kind, thing = event["type"], event["object"]
                if kind == "ERROR":
                    reason = _REASONS.get(int(thing.get("code", 500)), "error")
                    raise KubernetesError(str(thing.get("message"))[:MAX_MESSAGE_CHARS], reason=reason)
                take(kind, thing)

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
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask; yield an answer of 2xx whose body is then read, and count how it all ended."""
        outcome = "unanswered"
        send = partial(
            self.rest.request,
            method,
            f"{self.configuration.host}{path}",
            query_params=dict(query or {}),
            body=body,
            _preload_content=False,
            _request_timeout=aiohttp.ClientTimeout(
                total=timeout_s, connect=2 * CONNECT_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S
            ),
        )
        try:
            async with await self._ask(send) as answer:
                await _check(answer)
                outcome = "ok"
                yield answer
        except KubernetesError as error:
            outcome = error.reason
            raise
        except TimeoutError:
            outcome = "timeout"
            raise KubernetesError("no answer in time", reason=outcome) from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientHttpProxyError, OSError) as error:
            outcome = "unreachable"
            raise KubernetesError(str(error) or repr(error), reason=outcome) from None
        except _SENSELESS as error:
            outcome = "malformed"
            what = f"its answer makes no sense: {error!r}"
            raise KubernetesError(what[:MAX_MESSAGE_CHARS], reason=outcome) from None
        finally:
            self._count(verb, outcome)

    async def _ask(self, send: Callable[..., Awaitable[aiohttp.ClientResponse]]) -> aiohttp.ClientResponse:
        """Send a request with our token, and again with a newer one where that is refused."""
        headers = await self._headers()
        answer = await send(headers={**headers})  # the library writes into it
        # The kubelet may have renewed it in between.
        if answer.status == 401 and (renewed := await self._headers()) != headers:
            answer.release()
            answer = await send(headers=renewed)
        return answer

    async def _headers(self) -> dict[str, str]:
        """Return what a request says of itself; the token is read from its file each time."""
        auth = await self.configuration.auth_settings()
        token = {"Authorization": str(auth["BearerToken"]["value"])} if "BearerToken" in auth else {}
        return {"Accept": "application/json", "User-Agent": USER_AGENT, **token}

    def _count(self, verb: str, outcome: str) -> None:
        if outcome == "unanswered":
            return  # We went away first.
        self.metrics.kubernetes_requests.inc(verb, outcome if outcome in {"ok", "denied"} else "failed")
        self.metrics.kubernetes_api_up.set(float(outcome in {"ok", "absent", "gone"}))


@contextlib.asynccontextmanager
async def connect(settings: KubeSettings, metrics: Metrics) -> AsyncIterator[Api]:
    """Open a session; nothing is sent yet. Raises KubernetesError where there is no way to the cluster."""
    try:
        configuration = await _configure(settings)
        rest = _load("client.rest").RESTClientObject(configuration)
        # aiohttp would ask twice, at once, wherever a connection is dropped (3.14).
        rest.pool_manager._retry_connection = False  # noqa: SLF001 - there is no other
    except Exception as error:
        # The library's own errors have no common root, and a bad file raises anything.
        metrics.kubernetes_api_up.set(0.0)
        what = " ".join(str(error).split()) or repr(error)
        if settings.kubeconfig and settings.kubeconfig not in what:
            what = f"{settings.kubeconfig}: {what}"
        raise KubernetesError(f"no way to the cluster: {what}", reason="unreachable") from None
    try:
        yield Api(rest, configuration, metrics)
    finally:
        await rest.close()


async def _configure(settings: KubeSettings) -> Any:
    configuration = _load("client.configuration").Configuration()
    # Up to Python 3.12 this was the default; some clusters' own CAs lack what 3.13 insists on.
    configuration.disable_strict_ssl_verification = True
    if settings.kubeconfig is not None:
        if wrong := kubeconfig.problem(settings.kubeconfig):
            raise ValueError(wrong)
        await _load("config.kube_config").load_kube_config(
            settings.kubeconfig, client_configuration=configuration, persist_config=False
        )
        return configuration
    directory = Path(settings.kubernetes_credentials)
    token = directory / "token"
    _load("config.incluster_config").load_incluster_config(
        configuration, token_filename=str(token), cert_filename=str(directory / "ca.crt")
    )

    def read_token(changed: Any) -> None:
        changed.api_key["BearerToken"] = "Bearer " + token.read_text().strip()

    configuration.refresh_api_key_hook = read_token
    return configuration


async def _check(answer: aiohttp.ClientResponse) -> None:
    """Raise for any status but 2xx: the library leaves those of watches unread (up to 36.1.0)."""
    if 200 <= answer.status <= 299:
        return
    text = (await answer.content.read(MAX_PIECE_BYTES)).decode(errors="replace")
    with contextlib.suppress(ValueError, AttributeError):
        text = json.loads(text).get("message", text)
    retry_after = answer.headers.get("Retry-After", "")
    raise KubernetesError(
        f"{answer.status}: {str(text)[:MAX_MESSAGE_CHARS]}",
        reason=_REASONS.get(answer.status, "error"),
        retry_after_s=float(retry_after) if retry_after.isdecimal() else None,
    )


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in answer.content.iter_chunked(MAX_PIECE_BYTES):
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise Malformed("it is too long")
    return bytes(body)


def _load(name: str) -> Any:
    """Import a module of kubernetes_asyncio without running its packages' `__init__`.

    Those import every model of the API: 37 MB and 0.2 s (2026-11-23), of which nothing is used here.
    """
    root = "kubernetes_asyncio"
    if root not in sys.modules:
        found = importlib.util.find_spec(root)
        assert found is not None
        assert found.submodule_search_locations is not None
        for part in ("", "client", "config"):
            package = types.ModuleType(f"{root}.{part}".rstrip("."))
            package.__path__ = [str(Path(found.submodule_search_locations[0]) / part)]
            sys.modules[package.__name__] = package
        client: Any = sys.modules[f"{root}.client"]
        client.Configuration = importlib.import_module(f"{root}.client.configuration").Configuration
        client.ApiClient = None
    return importlib.import_module(f"{root}.{name}")
