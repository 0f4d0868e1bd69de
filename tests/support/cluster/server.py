"""The API server: authentication, authorization, and what each verb answers.

`async with ApiServer() as api:` listens on loopback. A test writes objects into `api.store`, grants tokens in
`api.access`, switches `api.faults` and `api.door.mode`, and reads `api.journal`.
"""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from tests.support.cluster import access, resources
from tests.support.cluster.access import Access, Subject
from tests.support.cluster.checking import invalid, invalid_annotations, managed
from tests.support.cluster.door import Door
from tests.support.cluster.faults import Faults
from tests.support.cluster.journal import Asked, Journal, now
from tests.support.cluster.selectors import BadSelector, selection
from tests.support.cluster.status import status
from tests.support.cluster.store import Store, TooOld, timestamp
from tests.support.cluster.watching import Watch

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.cluster.resources import Target

    class Spoken(Protocol):
        """What somebody has said: lines with their ends."""

        raw: list[bytes]

        async def more(self, after: int) -> bool:
            """Wait for lines after so many; False: none will come."""


MERGED = {"application/merge-patch+json", "application/strategic-merge-patch+json"}
"""Patches that are merged; of lists, which the second one merges by key, nothing here is patched."""

_REVIEWS = {resources.ACCESS_REVIEWS: access.access_review}


class ApiServer:
    """One API server."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        pages_from_cache: bool = False,
        bookmark_every_s: float = 60.0,
    ) -> None:
        """`pages_from_cache`: heed `limit` at resourceVersion=0 too; real ones send everything then."""
        self.version = "v1.36.0"
        self.store = Store()
        self.access = Access()
        self.faults = Faults()
        self.journal = Journal()
        self.bookmark_every_s = bookmark_every_s
        self.logs: Callable[[str, str, str], Spoken | None] = lambda *_: None
        """What a container of a pod has said: a kubelet's business. Namespace, pod, container."""
        self.on_delete: Callable[[str, str], None] = lambda *_: None
        """Somebody deletes a pod: a kubelet's business, too."""
        self._pages_from_cache = pages_from_cache
        self._tls = tls

    async def __aenter__(self) -> ApiServer:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        assert self._runner.server is not None
        self.door = Door(self._runner.server, self._tls, self._on_connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.door.close()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.door.port}"

    def _on_connection(self) -> None:
        self.journal.connections.append(now())
        self.journal.stir()

    # One request.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        target = resources.target(request.path)
        verb = _verb(request, target)
        asked = Asked(
            at=now(),
            verb=verb,
            resource=target.resource.plural if target else request.path,
            namespace=target.namespace if target else None,
            name=target.name if target else None,
            query=dict(request.query),
            agent=request.headers.get("User-Agent", ""),
        )
        self.journal.note(asked)
        try:
            answer = await self.faults.strike(verb, asked.resource, request)
            if answer is None:
                answer = await self._admit(request, target, asked)
            asked.status = answer.status
            return answer
        finally:
            asked.over = True
            self.journal.stir()

    async def _admit(self, request: web.Request, target: Target | None, asked: Asked) -> web.StreamResponse:
        subject = self.access.who(request.headers.get("Authorization", ""))
        if subject is None:
            return status(401, "Unauthorized", "Unauthorized")
        asked.subject = subject.name
        if target is None:
            found = resources.discovery(request.path, self.version)
            return web.json_response(found) if found else status(404, "NotFound", "page not found")
        place = (target.resource.group, target.resource.plural, target.namespace, target.name)
        if not subject.may(asked.verb, *place):
            return status(403, "Forbidden", access.refusal(subject, asked.verb, target))
        try:
            return await self._answer(request, target, asked, subject)
        except TooOld:
            return status(410, "Expired", "The provided continue parameter is too old")
        except (BadSelector, ValueError) as error:
            return status(400, "BadRequest", str(error))

    async def _answer(
        self, request: web.Request, target: Target, asked: Asked, subject: Subject
    ) -> web.StreamResponse:
        match asked.verb:
            case "get" if target.resource is resources.LOGS:
                return await self._log(request, target)
            case "watch":
                return await self._watch(request, target, asked)
            case "list":
                return web.json_response(self._list(target, asked.query))
            case "get" | "delete" | "create" | "patch":
                return await self._one(request, target, asked.verb, subject)
        return status(405, "MethodNotAllowed", "the server does not allow this method on the resource")

    async def _one(self, request: web.Request, target: Target, verb: str, subject: Subject) -> web.Response:
        if verb == "create":
            return self._create(target, await request.json(), subject)
        if verb == "patch":
            return await self._patch(target, request)
        if verb == "delete":
            self.on_delete(target.namespace or "", target.name or "")
        return self._get(target)

    def _get(self, target: Target) -> web.Response:
        thing = self.store.get(target.resource, target.namespace, target.name or "")
        if thing is None:
            return status(404, "NotFound", f'{target.resource.full_name} "{target.name}" not found')
        return web.json_response(
            {"kind": target.resource.kind, "apiVersion": target.resource.api_version, **thing}
        )

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer with what a container has said, and with `follow` also with what it will say."""
        query = request.query
        spoken = self.logs(target.namespace or "", target.name or "", query.get("container", ""))
        if spoken is None:
            return status(404, "NotFound", f'pods "{target.name}" not found')
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        at = max(0, len(spoken.raw) - int(query.get("tailLines") or len(spoken.raw)))
        with contextlib.suppress(ConnectionError):
            while True:
                for line in spoken.raw[at:]:
                    await response.write(line)
                at = len(spoken.raw)
                if query.get("follow") != "true" or not await spoken.more(at):
                    break
        return response

    def _list(self, target: Target, query: dict[str, str]) -> dict[str, Any]:
        """One page. Raises TooOld, BadSelector, ValueError."""
        chosen = selection(query, target.resource.plural)
        cached = query.get("resourceVersion") == "0" and "continue" not in query
        limit = int(query.get("limit") or 0)
        if cached and not self._pages_from_cache:
            limit = 0
        if "continue" in query:
            version, start = json.loads(base64.urlsafe_b64decode(query["continue"]))
            objects = self.store.kept(target.resource, version)
        else:
            version, everything = self.store.list(target.resource, target.namespace, cached=cached)
            start, objects = 0, [thing for thing in everything if chosen(thing)]
        page = objects[start : start + limit] if limit else objects[start:]
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if (left := len(objects) - start - len(page)) > 0:
            self.store.keep(target.resource, version, objects)
            token = json.dumps([version, start + len(page)]).encode()
            metadata["continue"] = base64.urlsafe_b64encode(token).decode()
            if not query.keys() & {"fieldSelector", "labelSelector"}:
                metadata["remainingItemCount"] = left
        return {
            "kind": f"{target.resource.kind}List",
            "apiVersion": target.resource.api_version,
            "metadata": metadata,
            "items": page,
        }

    async def _watch(self, request: web.Request, target: Target, asked: Asked) -> web.StreamResponse:
        def sent() -> None:
            asked.events += 1
            self.journal.stir()

        chosen = selection(asked.query, target.resource.plural)
        watch = Watch(
            self.store, target, chosen, asked.query, bookmark_every_s=self.bookmark_every_s, sent=sent
        )
        asked.status = 200
        self.journal.stir()
        # The client may leave at any moment.
        with contextlib.suppress(ConnectionError):
            return await watch.stream(request)
        return web.Response()

    async def _patch(self, target: Target, request: web.Request) -> web.Response:
        """Merge into an object; a changed spec has a new generation, as controllers expect it."""
        if request.content_type not in MERGED:
            return status(415, "UnsupportedMediaType", f"the body of the request is {request.content_type}")
        body = json.loads(await request.read())
        before = self.store.get(target.resource, target.namespace, target.name or "")
        if before is None:
            return self._get(target)
        after = merged(before, body)
        if after["metadata"].get("uid") != before["metadata"].get("uid"):
            return status(409, "Conflict", "the UID in the precondition does not match the UID in record")
        if problem := invalid_annotations(after):
            return status(422, "Invalid", problem)
        if "fieldManager" in request.query:
            managed(after, body, request.query["fieldManager"])
        if after.get("spec") != before.get("spec"):
            after["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
        self.store.put(target.resource, after)
        return self._get(target)

    def _create(self, target: Target, body: dict[str, Any], subject: Subject) -> web.Response:
        review = _REVIEWS.get(target.resource)
        if review is not None or target.resource is resources.SUBJECT_REVIEWS:
            answer = {**body, "metadata": {"creationTimestamp": timestamp()}}
            spec = body.get("spec") or {}
            answer["status"] = (
                review(subject, spec) if review is not None else access.subject_review(self.access, spec)
            )
            return web.json_response(answer, status=201)
        metadata = body.setdefault("metadata", {})
        metadata.setdefault("namespace", target.namespace)
        if problem := invalid(target, body):
            return status(422, "Invalid", problem)
        if "name" not in metadata:
            metadata["name"] = f"{metadata['generateName']}{self.store.version:05d}"
        if self.store.get(target.resource, target.namespace, metadata["name"]):
            return status(409, "AlreadyExists", f'"{metadata["name"]}" already exists')
        return web.json_response(self.store.put(target.resource, body), status=201)


def merged(thing: Any, change: Any) -> Any:
    """Return what a JSON merge patch makes of a thing (RFC 7396); lists are replaced."""
    if not isinstance(change, dict):
        return change
    whole = dict(thing) if isinstance(thing, dict) else {}
    for name, value in change.items():
        whole[name] = merged(whole.get(name), value)
    return {name: value for name, value in whole.items() if value is not None}


def _verb(request: web.Request, target: Target | None) -> str:
    """Return the verb as RBAC knows it."""
    if request.method == "POST":
        return "create"
    if request.method != "GET":
        return request.method.lower()
    if target is None or target.name:
        return "get"
    return "watch" if request.query.get("watch") in ("true", "1") else "list"
