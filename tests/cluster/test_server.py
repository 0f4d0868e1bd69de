"""The fake API server answers as a real one does; what relies on it would otherwise prove nothing."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.cluster import faults
from tests.support.cluster.access import EVERYTHING, tier
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.door import Mode
from tests.support.cluster.journal import now
from tests.support.cluster.objects import Membership, foreign_slices
from tests.support.cluster.resources import ACCESS_REVIEWS, EVENTS, PODS, SLICES
from tests.support.cluster.server import ApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATH = SLICES.path("shop")
WATCH = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": "20"}


class Caller:
    """A client of the server, with a token."""

    def __init__(self, api: ApiServer, session: aiohttp.ClientSession, token: str = "admin") -> None:
        self._api = api
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"}

    async def get(self, path: str, **query: Any) -> tuple[int, dict[str, Any]]:
        async with self._session.get(self._api.url + path, params=query, headers=self._headers) as answer:
            return answer.status, await answer.json()

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        async with self._session.post(self._api.url + path, json=body, headers=self._headers) as answer:
            return answer.status, await answer.json()

    def watch(self, **query: Any):
        return self._session.get(self._api.url + PATH, params={**WATCH, **query}, headers=self._headers)

    async def version(self) -> str:
        return (await self.get(PATH))[1]["metadata"]["resourceVersion"]


async def event(answer: aiohttp.ClientResponse) -> tuple[str, dict[str, Any]]:
    async with asyncio.timeout(20):
        line = json.loads(await answer.content.readline())
    return line["type"], line["object"]


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as api:
        api.access.admit("admin", "admin", [EVERYTHING])
        yield api


@pytest.fixture
async def caller(api: ApiServer) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(api, session)


@pytest.fixture
def member(api: ApiServer) -> Membership:
    member = Membership(api.store)
    member.appear()
    return member


async def test_a_list_comes_in_pages_of_one_version(api: ApiServer, caller: Caller) -> None:
    """What is written between two pages is on none of them, and the last page has no token."""
    for thing in foreign_slices(5, per_slice=1):
        api.store.put(SLICES, thing)
    names, query, versions = [], {"limit": "2"}, set()
    while True:
        _, page = await caller.get(PATH, **query)
        names += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        if "continue" not in page["metadata"]:
            break
        Membership(api.store).write()
        query = {"limit": "2", "continue": page["metadata"]["continue"]}
    assert names == [f"other-{number}-abcde" for number in range(5)]
    assert len(versions) == 1
    assert page["kind"] == "EndpointSliceList"
    assert "kind" not in page["items"][0]


async def test_any_version_is_sent_whole(api: ApiServer, caller: Caller) -> None:
    """The watch cache heeds no limit."""
    for thing in foreign_slices(5, per_slice=1):
        api.store.put(SLICES, thing)
    _, page = await caller.get(PATH, limit="2", resourceVersion="0")
    assert len(page["items"]) == 5


async def test_a_compacted_list_is_gone(api: ApiServer, caller: Caller) -> None:
    """The token of a list half read has an end."""
    for thing in foreign_slices(5, per_slice=1):
        api.store.put(SLICES, thing)
    _, page = await caller.get(PATH, limit="2")
    api.store.compact()
    code, answer = await caller.get(PATH, limit="2", **{"continue": page["metadata"]["continue"]})
    assert (code, answer["reason"]) == (410, "Expired")


async def test_a_stale_cache_answers_any_version_only(
    api: ApiServer, caller: Caller, member: Membership
) -> None:
    """An API server that lags shows the past at version 0 and the truth otherwise."""
    api.store.hold_cache()
    member.flip()

    async def ready(**query: str) -> bool:
        _, page = await caller.get(PATH, **query)
        return page["items"][0]["endpoints"][0]["conditions"]["ready"]

    assert await ready(resourceVersion="0")
    assert not await ready()


async def test_a_watch_sends_what_comes_after_its_version(caller: Caller, member: Membership) -> None:
    """Changes come with kind and apiVersion, in their order."""
    async with caller.watch(resourceVersion=await caller.version()) as answer:
        member.flip()
        member.vanish()
        kind, thing = await event(answer)
        assert (kind, thing["kind"], thing["apiVersion"]) == (
            "MODIFIED",
            "EndpointSlice",
            "discovery.k8s.io/v1",
        )
        assert thing["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
        assert (await event(answer))[1]["endpoints"] == []


async def test_selectors_choose_what_a_watch_sends(
    api: ApiServer, caller: Caller, member: Membership
) -> None:
    """By name, and by the Service's label; another's change does not show."""
    version = await caller.version()
    by_name = {"fieldSelector": "metadata.name=web-abcde"}
    by_label = {"labelSelector": "kubernetes.io/service-name in (web,api)"}
    for query in (by_name, by_label):
        async with caller.watch(resourceVersion=version, **query) as answer:
            api.store.put(SLICES, foreign_slices(1)[0])
            member.flip()
            assert (await event(answer))[1]["metadata"]["name"] == "web-abcde"
    code, answer = await caller.get(PATH, fieldSelector="spec.nodeName=node-1")
    assert (code, answer["reason"]) == (400, "BadRequest")


async def test_a_watch_of_forgotten_history_says_so_in_the_stream(
    api: ApiServer, caller: Caller, member: Membership
) -> None:
    """The status is 200, and the first event an ERROR with a Status of 410."""
    version = await caller.version()
    member.flip()
    api.store.compact()
    async with caller.watch(resourceVersion=version) as answer:
        assert answer.status == 200
        kind, thing = await event(answer)
        assert (kind, thing["code"], thing["kind"]) == ("ERROR", 410, "Status")
        assert await answer.content.readline() == b""


async def test_a_watch_ends_at_its_time_with_a_bookmark(caller: Caller, member: Membership) -> None:
    """Nothing happened, and the client learns from where it may go on."""
    version = await caller.version()
    async with caller.watch(resourceVersion=version, timeoutSeconds="1") as answer:
        kind, thing = await event(answer)
        assert (kind, thing["metadata"]["resourceVersion"]) == ("BOOKMARK", version)
        assert await answer.content.readline() == b""


async def test_a_tier_allows_what_it_says_and_a_review_knows_it(api: ApiServer) -> None:
    """A list that RBAC forbids is 403 in the API server's words, and a review tells beforehand."""
    api.access.admit("pod", "system:serviceaccount:shop:web", tier("slices", "shop"))
    async with aiohttp.ClientSession() as session:
        caller = Caller(api, session, "pod")
        assert (await caller.get(PATH))[0] == 200
        code, answer = await caller.get(PODS.path("shop", "web-1"))
        assert code == 403
        assert answer["message"] == (
            'pods "web-1" is forbidden: User "system:serviceaccount:shop:web" cannot get resource "pods" '
            'in API group "" in the namespace "shop"'
        )
        asked = {"namespace": "shop", "verb": "get", "group": "", "resource": "pods", "name": "web-1"}
        review = {"spec": {"resourceAttributes": asked}}
        assert (await caller.post(ACCESS_REVIEWS.path(), review))[1]["status"] == {"allowed": False}
        assert (await Caller(api, session, "nobody's").get(PATH))[0] == 401


async def test_an_event_is_created_once_and_only_if_it_is_valid(api: ApiServer, caller: Caller) -> None:
    """The fields that events.k8s.io/v1 requires are required."""
    good = {
        "kind": "Event",
        "apiVersion": "events.k8s.io/v1",
        "metadata": {"name": "web-1.1"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "drainproxy.io/sidecar",
        "reportingInstance": "web-1",
        "action": "Drain",
        "reason": "DrainIncomplete",
        "type": "Warning",
        "regarding": {"kind": "Pod", "name": "web-1", "namespace": "shop"},
    }
    path = EVENTS.path("shop")
    code, answer = await caller.post(path, {**good, "action": ""})
    assert (code, answer["message"]) == (422, "action: Required value")
    assert (await caller.post(path, {**good, "note": "x" * 1025}))[0] == 422
    assert (await caller.post(path, good))[0] == 201
    assert (await caller.post(path, good))[0] == 409
    stored = api.store.get(EVENTS, "shop", "web-1.1")
    assert stored is not None
    assert stored["reason"] == "DrainIncomplete"


STATUSES = {
    401: faults.unauthorized(),
    403: faults.forbidden(),
    410: faults.gone(),
    429: faults.throttled(7),
    500: faults.broken(),
}


@pytest.mark.parametrize("code", STATUSES)
async def test_a_fault_strikes_as_often_as_it_is_told(api: ApiServer, caller: Caller, code: int) -> None:
    """Then the server answers again; the journal knows every status."""
    with api.faults.on(STATUSES[code], verb="list", times=1):
        assert (await caller.get(PATH))[0] == code
        assert (await caller.get(PATH))[0] == 200
    assert [each.status for each in api.journal.of("list")] == [code, 200]
    assert api.journal.most_within(60) == 2
    assert not api.journal.since(now())


async def test_a_watch_can_be_cut_torn_echoed_expired_and_empty(
    api: ApiServer, caller: Caller, member: Membership
) -> None:
    """Each manner shows in the stream's bytes."""

    async def streamed(**manner: Any) -> bytes:
        version = await caller.version()
        with api.faults.on(faults.watch(**manner), verb="watch"):
            async with caller.watch(resourceVersion=version, timeoutSeconds="1") as answer:
                member.write(ready=True)
                got = bytearray()
                try:
                    while piece := await answer.content.readany():
                        got += piece
                except aiohttp.ClientError:
                    got += b"<reset>"
        return bytes(got)

    assert await streamed(empty=True) == b""
    assert (await streamed(cut_after=1)).endswith(b"<reset>")
    torn = await streamed(cut_after=1, torn=True)
    assert b"\n" not in torn
    assert torn.endswith(b"<reset>")
    assert b'"code":410' in await streamed(expired_after=1)
    states = [json.loads(line)["object"] for line in (await streamed(echo=True)).splitlines()]
    versions = [int(state["metadata"]["resourceVersion"]) for state in states[:2]]
    assert versions[0] > versions[1]


@pytest.mark.parametrize("mode", [Mode.REFUSING, Mode.RESETTING, Mode.BLACKHOLE, Mode.DROPPING])
async def test_a_door_that_is_not_open_lets_nobody_in_and_opens_again(
    api: ApiServer, caller: Caller, mode: Mode
) -> None:
    """However it fails, the server has seen no request."""
    api.door.mode = mode
    timeout = aiohttp.ClientTimeout(total=0.5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with pytest.raises((TimeoutError, aiohttp.ClientError)) as failure:
            await Caller(api, session).get(PATH)
    assert isinstance(failure.value, TimeoutError) is (mode in (Mode.BLACKHOLE, Mode.DROPPING))
    assert not api.journal.requests
    # A SYN that was dropped comes again a second later: it is then the first in the backlog.
    api.door.mode = Mode.OPEN
    assert (await caller.get(PATH))[0] == 200


async def test_a_pod_finds_its_way_by_its_service_account(tmp_path: Path) -> None:
    """TLS is signed by ca.crt, the token is in a file, and a rotated one counts at once."""
    tls, authority = server_tls(tmp_path / "tls")
    async with ApiServer(tls=tls) as api, aiohttp.ClientSession() as session:
        account = Account(api, tmp_path / "account", tier("slices", "shop"), authority=authority)
        context = ssl.create_default_context(cafile=str(account.directory / "ca.crt"))

        async def ask() -> int:
            headers = {"Authorization": f"Bearer {(account.directory / 'token').read_text()}"}
            async with session.get(api.url + PATH, headers=headers, ssl=context) as answer:
                return answer.status

        assert await ask() == 200
        account.rotate("second-token", server_first=True)
        assert await ask() == 401
        account.refresh()
        assert await ask() == 200
        assert account.environment()["KUBERNETES_SERVICE_PORT"] == str(api.door.port)
        assert json.loads(account.kubeconfig().read_text())["clusters"][0]["cluster"]["server"] == api.url
