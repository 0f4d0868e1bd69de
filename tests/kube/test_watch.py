"""A drain's watch of the own slices: what it asks, what it tells, and how it bears every fault."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy.kube.client import PAGE_ITEMS
from drainproxy.kube.slices.watch import FEW, JITTER_S
from tests.kube.premises import premises
from tests.kube.server import Feed, bookmark, drop, fail, hang, other, own, page, say, slice_of, text
from tests.support import clock
from tests.support.clock import over_sockets

GONE = own(ready=False, terminating=True)


@over_sockets
async def test_a_slice_that_has_flipped_is_the_answer(authority, credentials, monkeypatch):
    """One list, and nothing more is asked."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page([slice_of(GONE)])]
        await here.watch()
        ((at, word),) = here.words
        assert (word.state.name, word.terminating, word.alone, word.sole) == ("GONE", True, True, True)
        assert at <= JITTER_S + 0.1
        (asked,) = here.server.asked
        assert asked.query == {"limit": str(PAGE_ITEMS), "resourceVersion": "0"}


@over_sockets
async def test_a_slice_is_watched_by_name_until_it_flips(authority, credentials, monkeypatch):
    """From the list's version on, for the time that is left."""
    async with premises(authority, credentials, monkeypatch) as here:
        feed = Feed()
        here.server.script |= {"list": [page([slice_of(own(), other())], "33")], "watch": [feed]}
        async with here.watching(40) as task:
            asked = await here.server.nth("watch")
            assert here.states == ["ROUTABLE"]
            assert asked.query["fieldSelector"] == "metadata.name=web-1"
            assert asked.query["resourceVersion"] == "33"
            assert 38 <= int(asked.query["timeoutSeconds"]) <= 40
            assert "labelSelector" not in asked.query
            await asyncio.sleep(3)
            feed.put("MODIFIED", slice_of(GONE, other(), version=40))
            await task
        assert here.states == ["ROUTABLE", "GONE"]
        assert here.words[1][1].since == pytest.approx(clock.START_S + here.words[1][0], abs=0.01)
        assert here.metrics.other_ready_endpoints.value() == 1
        assert here.requests() == {("read", "ok"): 1, ("watch", "ok"): 1}


@over_sockets
async def test_every_own_slice_has_its_watch(authority, credentials, monkeypatch):
    """Two families, two Services: gone is when the last one has flipped."""
    async with premises(authority, credentials, monkeypatch) as here:
        slices = {"a": "IPv4", "b": "IPv6", "c": "IPv4"}
        feeds = {name: Feed() for name in slices}

        async def watch(request):
            return await feeds[request.query["fieldSelector"].removeprefix("metadata.name=")](request)

        listed = [slice_of(own(), name=name, family=family) for name, family in slices.items()]
        here.server.script |= {"list": [page(listed)], "watch": [watch]}
        async with here.watching() as task:
            await here.server.nth("watch", 3)
            for number, name in enumerate(slices):
                assert set(here.states) == {"ROUTABLE"}
                feeds[name].put(
                    "MODIFIED", slice_of(GONE, name=name, family=slices[name], version=20 + number)
                )
                if name != "c":
                    await asyncio.sleep(1)
            await task
        assert here.states[-1] == "GONE"


async def test_pages_are_followed_and_foreign_rows_forgotten(authority, credentials, monkeypatch):
    """20,000 rows that are none of ours cost no more requests than pages."""
    rows = [other(number) for number in range(100)]
    foreign = [slice_of(*rows, name=f"f-{n}", service=f"s-{n}") for n in range(100)]
    async with premises(authority, credentials, monkeypatch) as here:
        pages = [page(foreign, "50", "more-1"), page(foreign, "50", "more-2"), page([slice_of(GONE)], "50")]
        here.server.script["list"] = pages
        slices = await here.watch()
        assert here.states == ["GONE"]
        assert [asked.query.get("continue") for asked in here.server.asked] == [None, "more-1", "more-2"]
        assert list(slices.view._slices) == ["web-1"]


@over_sockets
async def test_pages_without_an_end_are_given_up(authority, credentials, monkeypatch):
    """A server that always has one more page is broken."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page([], "50", "more")]
        await here.watch(for_s=5)
        assert here.words == []
        assert here.complaints[0][1] == "malformed"


@over_sockets
async def test_too_old_is_listed_again_and_from_the_newest(authority, credentials, monkeypatch):
    """Any cache might be as old again: twice 410 means twice a list without a version."""
    async with premises(authority, credentials, monkeypatch) as here:
        too_old = Feed(("ERROR", {"kind": "Status", "code": 410, "message": "too old"}))
        here.server.script |= {
            "list": [
                page([slice_of(own())], "5"),
                page([slice_of(own())], "60"),
                page([slice_of(GONE)], "70"),
            ],
            "watch": [too_old, fail(410)],
        }
        await here.watch()
        assert [asked.query.get("resourceVersion") for asked in here.server.of("list")] == ["0", None, None]
        assert [asked.query["resourceVersion"] for asked in here.server.of("watch")] == ["5", "60"]
        assert here.states[-1] == "GONE"
        assert here.complaints == []


@over_sockets
async def test_a_watch_that_ends_is_taken_up_where_it_ended(authority, credentials, monkeypatch):
    """After an event or a bookmark from there, not from the list."""
    async with premises(authority, credentials, monkeypatch) as here:
        first = Feed(("MODIFIED", slice_of(own(), version=41)))
        first.end()
        second = Feed(("BOOKMARK", bookmark(50)))
        second.end()
        last = Feed(("MODIFIED", slice_of(GONE, version=60)))
        here.server.script |= {"list": [page([slice_of(own())], "40")], "watch": [first, second, last]}
        await here.watch()
        assert [asked.query["resourceVersion"] for asked in here.server.of("watch")] == ["40", "41", "50"]


@over_sockets
async def test_events_out_of_order_change_nothing(authority, credentials, monkeypatch):
    """A row that has flipped does not come back with an older event."""
    async with premises(authority, credentials, monkeypatch) as here:
        two = [slice_of(own(), name="a"), slice_of(own(), name="b")]
        feed = Feed(
            ("MODIFIED", slice_of(GONE, name="a", version=30)),
            ("MODIFIED", slice_of(own(), name="a", version=29)),
            ("MODIFIED", slice_of(GONE, name="b", version=31)),
        )
        here.server.script |= {"list": [page(two)], "watch": [feed]}
        await here.watch(peers=True)
        assert here.states[-1] == "GONE"


@over_sockets
async def test_a_deleted_slice_is_a_row_that_is_gone(authority, credentials, monkeypatch):
    """The Service was deleted: nobody is sent here by it."""
    async with premises(authority, credentials, monkeypatch) as here:
        feed = Feed(("DELETED", slice_of(own(), version=30)))
        here.server.script |= {"list": [page([slice_of(own())])], "watch": [feed]}
        await here.watch()
        assert here.states == ["ROUTABLE", "GONE"]


FAULTS = {
    "500": fail(500),
    "429": fail(429),
    "HTML": text("<html>"),
    "nothing": text(""),
    "dropped": drop,
    "silence": hang,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@over_sockets
async def test_a_list_that_fails_says_nothing_and_is_tried_again(fault, authority, credentials, monkeypatch):
    """Unknown is never gone; one line says what is wrong; a minute of it is a few requests."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [fault]
        await here.watch(for_s=60)
        assert here.words == []
        assert len({reason for _, reason, _ in here.complaints}) == 1
        assert 2 <= len(here.server.asked) <= 20
        # Each was waited for: nothing below has asked on its own account.
        assert sum(here.requests().values()) == len(here.server.asked)


@over_sockets
async def test_a_fault_that_passes_is_forgotten(authority, credentials, monkeypatch):
    """The first good answer counts."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [fail(500), text("<html>"), drop, page([slice_of(GONE)])]
        await here.watch(for_s=60)
        assert here.states == ["GONE"]


WATCH_FAULTS = {name: fault for name, fault in FAULTS.items() if name != "silence"}


@pytest.mark.parametrize(
    "fault", [fail(500), fail(429), text("<html>"), drop], ids=["500", "429", "HTML", "drop"]
)
@over_sockets
async def test_a_watch_that_fails_keeps_the_last_word(fault, authority, credentials, monkeypatch):
    """An error changes nothing; the watch is begun again with patience."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script |= {"list": [page([slice_of(own())])], "watch": [fault]}
        await here.watch(for_s=60)
        assert here.states == ["ROUTABLE"]
        assert 2 <= len(here.server.of("watch")) <= 20
        assert len(here.server.of("list")) == 1


@over_sockets
async def test_empty_answers_in_a_loop_are_not_asked_for_in_a_loop(authority, credentials, monkeypatch):
    """A watch that is closed at once, each time, with nothing said."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script |= {"list": [page([slice_of(own())])], "watch": [text("", "application/json")]}
        await here.watch(for_s=120)
        times = [asked.at for asked in here.server.asked]
        assert len(times) <= 20
        assert max(_in_any(10.0, times)) <= 10 + 5


@over_sockets
async def test_events_in_a_flood_of_watches_stay_within_the_pace(authority, credentials, monkeypatch):
    """Each watch says something and ends: that is no failure, and still one request a second."""
    async with premises(authority, credentials, monkeypatch) as here:

        async def one(request):
            version = int(request.query["resourceVersion"]) + 1
            feed = Feed(("MODIFIED", slice_of(own(), version=version)))
            feed.end()
            return await feed(request)

        here.server.script |= {"list": [page([slice_of(own())])], "watch": [one]}
        await here.watch(for_s=60)
        times = [asked.at for asked in here.server.asked]
        assert 50 <= len(times) <= 66
        assert max(_in_any(10.0, times)) <= 10 + 5


def _in_any(window_s: float, times: list[float]) -> list[int]:
    """How many requests fall into the window that begins with each."""
    return [sum(start <= each < start + window_s for each in times) for start in times]


@over_sockets
async def test_retry_after_is_kept(authority, credentials, monkeypatch):
    """The server says when (429, priority and fairness)."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [fail(429, Retry_After="9"), page([slice_of(GONE)])]
        await here.watch()
        first, second = (asked.at for asked in here.server.asked)
        assert second - first >= 9


@over_sockets
async def test_what_is_forbidden_is_asked_once(authority, credentials, monkeypatch):
    """Without permission there is nothing to wait for."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [fail(403, 'cannot list resource "endpointslices"')]
        await here.watch()
        assert len(here.server.asked) == 1
        assert here.complaints == [("endpointslices", "denied", '403: cannot list resource "endpointslices"')]


@over_sockets
async def test_who_may_not_watch_reads_again_and_again(authority, credentials, monkeypatch):
    """Get without watch is enough for an answer, at a slow pace."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script |= {
            "list": [page([slice_of(own())])],
            "watch": [fail(403)],
            "get": [say(slice_of(own(), version=11)), fail(500), say(slice_of(GONE, version=12))],
        }
        await here.watch()
        assert here.states == ["ROUTABLE", "GONE"]
        assert {asked.path.rpartition("/")[2] for asked in here.server.of("get")} == {"web-1"}
        assert len(here.server.of("watch")) == 1


@over_sockets
async def test_slices_that_may_not_be_watched_are_read_in_turn(authority, credentials, monkeypatch):
    """By one reader for all of them: as many as there are watches would ask for each several times."""
    async with premises(authority, credentials, monkeypatch) as here:
        slices = [slice_of(own(), name=name) for name in ("a", "b")]
        read = [say(each) for each in slices]
        gone = [say(slice_of(GONE, name=name, version=12)) for name in ("a", "b")]
        here.server.script |= {"list": [page(slices)], "watch": [fail(403)], "get": [*read, *gone]}
        await here.watch()
        assert [asked.path.rpartition("/")[2] for asked in here.server.of("get")] == ["a", "b", "a", "b"]
        assert here.states[-1] == "GONE"


@over_sockets
async def test_a_slice_that_is_read_and_not_there_is_gone(authority, credentials, monkeypatch):
    """404 for a slice that held our row is its deletion."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script |= {"list": [page([slice_of(own())])], "watch": [fail(403)], "get": [fail(404)]}
        await here.watch()
        assert here.states == ["ROUTABLE", "GONE"]


@over_sockets
async def test_a_pod_without_a_row_is_looked_for_twice(authority, credentials, monkeypatch):
    """A young pod's row may yet come; a worker has no Service, and never will."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page([slice_of(other())])]
        await here.watch()
        assert here.words == []
        assert len(here.server.asked) == 2


@over_sockets
async def test_a_row_seen_before_may_be_gone_by_absence(authority, credentials, monkeypatch):
    """What the look at start has seen is remembered."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page([slice_of(own())], "10"), page([], "20")]
        slices = here.slices()
        async with here.connect() as api:
            assert (await slices.look(api)).state.name == "ROUTABLE"
            await slices.watch(api, asyncio.get_running_loop().time() + 10, here.tell)
        assert here.states == ["GONE"]


@over_sockets
async def test_a_row_that_never_flips_is_told_once(authority, credentials, monkeypatch):
    """publishNotReadyAddresses: ready and terminating is no evidence, but the deletion is."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page([slice_of(own(ready=True, terminating=True), other())])]
        await here.watch()
        ((_, word),) = here.words
        assert (word.state.name, word.terminating, word.stuck) == ("UNKNOWN", True, True)
        assert len(here.server.asked) == 1


# Who else is ready.


@over_sockets
async def test_the_last_one_watches_its_service_for_a_successor(authority, credentials, monkeypatch):
    """It may come in another slice: the watch is by the Service's label, and goes on after the flip."""
    async with premises(authority, credentials, monkeypatch) as here:
        feed = Feed()
        here.server.script |= {"list": [page([slice_of(own())])], "watch": [feed]}
        async with here.watching(peers=True) as task:
            asked = await here.server.nth("watch")
            assert asked.query["labelSelector"] == "kubernetes.io/service-name in (web)"
            feed.put("MODIFIED", slice_of(GONE, version=20))
            word = await here.word(2)
            assert (word.state.name, word.alone) == ("GONE", True)
            assert not task.done()
            feed.put("ADDED", slice_of(other(ready=False), name="web-2", version=21))
            feed.put("MODIFIED", slice_of(other(), name="web-2", version=22))
            await task
        word = here.words[-1][1]
        assert (word.state.name, word.alone) == ("GONE", False)
        assert word.since == here.words[1][1].since


@over_sockets
async def test_one_that_was_not_ready_before_watches_for_a_successor_too(authority, credentials, monkeypatch):
    """Its row is gone before it says terminating: neither that nor who takes over may be missed."""
    async with premises(authority, credentials, monkeypatch) as here:
        feed = Feed()
        here.server.script |= {"list": [page([slice_of(own(ready=False))])], "watch": [feed]}
        async with here.watching(peers=True) as task:
            word = await here.word()
            assert (word.state.name, word.terminating, word.sole) == ("GONE", False, True)
            await here.server.nth("watch")
            feed.put("MODIFIED", slice_of(GONE, version=20))
            assert (await here.word(2)).terminating
            feed.put("ADDED", slice_of(other(), name="web-2", version=21))
            await task
        assert not here.words[-1][1].sole


@over_sockets
async def test_one_of_many_watches_its_own_slice(authority, credentials, monkeypatch):
    """Nobody waits for the last of eleven; a watch by label is dearer for the server."""
    async with premises(authority, credentials, monkeypatch) as here:
        many = [other(number) for number in range(FEW + 1)]
        feed = Feed(("MODIFIED", slice_of(GONE, *many, version=20)))
        here.server.script |= {"list": [page([slice_of(own(), *many)])], "watch": [feed]}
        await here.watch(peers=True)
        assert "fieldSelector" in here.server.of("watch")[0].query
        assert not here.words[-1][1].alone


@over_sockets
async def test_the_last_one_on_its_node_is_alone_there(authority, credentials, monkeypatch):
    """externalTrafficPolicy Local: kube-proxy on this node has nobody else."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page([slice_of(GONE, other(1), other(2))])]
        await here.watch(peers=True, node=True)
        assert here.words[-1][1].alone
        # Other nodes have endpoints: a rollout over many nodes waits for nobody.
        assert not here.words[-1][1].sole
        here.server.script["list"] = [page([slice_of(GONE, other(1), other(2, node="node-a"))])]
        await here.watch(peers=True, node=True)
        assert not here.words[-1][1].alone
