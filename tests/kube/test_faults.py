"""Whatever is wrong with the API: the data path does not notice, and the drain ends by time and quiet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.scene import get, held
from tests.kube.cluster import BY_WORD, pod
from tests.support.cluster import faults
from tests.support.cluster.door import Mode
from tests.support.cluster.objects import foreign_slices
from tests.support.cluster.resources import SLICES
from tests.support.upstream import OK

ANSWERS = {
    "401": (faults.unauthorized(), "denied"),
    "403": (faults.forbidden(), "denied"),
    "410": (faults.gone(), None),
    "429": (faults.throttled(1), "throttled"),
    "500": (faults.broken(500), "error"),
    "HTML": (faults.html(), "malformed"),
    "half an answer": (faults.not_json(), "malformed"),
    "a hang": (faults.hang(), None),
    "a hang after the head": (faults.hang_after_head(), None),
    "a disconnect": (faults.disconnect(), "unreachable"),
}
DOORS = {
    "refused": (Mode.REFUSING, "unreachable"),
    "reset": (Mode.RESETTING, "unreachable"),
    "a black hole": (Mode.BLACKHOLE, "timeout"),
    "dropped": (Mode.DROPPING, "timeout"),
}


async def _drains_as_ever(it, reason: str | None, *, over: str = "quiet") -> None:
    """A request held through the drain is answered, a late one too, and time and quiet, or `over`, end it."""
    client, connection = await held(it.proxy, it.application)
    before = len(it.api.journal.requests) + len(it.api.journal.connections)
    it.proxy.signal()
    await it.proxy.line("phase", phase="propagating")
    if reason is not None:
        await it.proxy.line("kubernetes_api", asked="endpointslices", reason=reason)
    late = await it.proxy.client()
    await late.send(get("/late"))
    answering = await it.application.connection_with_bytes()
    await answering.read_request()
    await answering.send(OK)
    assert (await late.read_response()).body == b"ok"
    line = await it.proxy.line("phase", phase="draining")
    assert line["why"] == f"propagation is over: {over}"
    await connection.send(OK)
    assert (await client.read_response()).body == b"ok"
    assert await it.proxy.exit_code() == 0
    report = await it.proxy.line("drain_report")
    assert report["requests"]["finished"] == 2
    assert report["requests"]["cut"] == report["requests"]["lost"] == 0
    if reason is not None:
        # Once at start and once in the drain.
        assert it.conditions().count(("endpointslices", reason)) <= 2
        assert {why for _, why in it.conditions()} == {reason}
    # A burst, and one a second.
    assert len(it.api.journal.requests) + len(it.api.journal.connections) - before <= 2 * (5 + 4)


@pytest.mark.parametrize(("fault", "reason"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_that_is_none(fault, reason, tmp_path):
    """From before the first look on."""
    async with pod(tmp_path, serves=False) as it:
        with it.api.faults.on(fault):
            await _drains_as_ever(it, reason)


async def test_what_the_api_says_stays_data(tmp_path):
    """Its message is shown to people: on one line, in ASCII, and in no label."""
    evil = 'EVIL \x1b[2J\r\n{"event":"EVIL"}\x9b\u2028\u202e" '
    async with pod(tmp_path, serves=False) as it:
        with it.api.faults.on(faults.broken(500, evil)):
            line = await it.proxy.line("kubernetes_api", asked="endpointslices", reason="error")
            assert "EVIL" in line["detail"]
            assert "EVIL" not in (await it.proxy.get("/metrics")).body.decode()
            assert (await it.proxy.get("/status")).body.decode("ascii").strip().isprintable()
    for said in bytes(it.proxy.written).decode("ascii").splitlines():
        assert said.isprintable()
        assert json.loads(said)["event"] != "EVIL"


@pytest.mark.parametrize(("mode", "reason"), DOORS.values(), ids=DOORS.keys())
async def test_a_way_that_leads_nowhere(mode, reason, tmp_path):
    """The connection is refused, reset, swallowed or never made."""
    # Long enough to be asked in: the first request of a drain waits its turn.
    async with pod(tmp_path, serves=False, propagation_min="3s", sparse_min="3s") as it:
        await it.looked()
        it.api.door.mode = mode
        await _drains_as_ever(it, None if reason == "timeout" else reason)


async def test_no_credentials(tmp_path):
    """A token that is not mounted."""
    async with pod(tmp_path, serves=False, kubernetes_credentials=str(tmp_path)) as it:
        await it.proxy.line("kubernetes_api", asked="connection", reason="unreachable")
        await _drains_as_ever(it, None)
        assert it.api.journal.requests == []


TOLD = {"propagation_min": "4s", "sparse_min": "4s", "propagation_max": "6s"}
WATCHES = {
    "empty": faults.watch(empty=True),
    "torn": faults.watch(cut_after=0, torn=True),
    "410 twice": faults.watch(expired_after=0),
}


@pytest.mark.parametrize("fault", WATCHES.values(), ids=WATCHES.keys())
async def test_a_watch_that_is_none(fault, tmp_path):
    """The list says routable, and no word comes after it: silence weighs nothing against that."""
    # Long enough to be told: the first request of a drain waits its turn.
    async with pod(tmp_path, serves=False, **TOLD) as it:
        await it.looked()
        with it.api.faults.on(fault, verb="watch"):
            await _drains_as_ever(it, None, over="max")


async def test_410_once_is_listed_again_and_followed(tmp_path):
    """The next watch has the answer."""
    async with pod(tmp_path, **BY_WORD) as it:
        await it.looked()
        with it.api.faults.on(faults.watch(expired_after=0), verb="watch", times=1):
            it.proxy.signal()
            await it.api.journal.nth("watch", "endpointslices", number=2)
            it.member.flip()
            assert await it.proxy.exit_code() == 0
        assert (await it.proxy.line("drain_report"))["propagation_ended"] == "slices_quiet"
        lists = it.api.journal.of("list", "endpointslices")
        assert [each.query.get("resourceVersion") for each in lists] == ["0", "0", None]


async def test_events_out_of_order_do_not_bring_a_row_back(tmp_path):
    """Each state is followed by the one before it."""
    async with pod(tmp_path, **BY_WORD) as it:
        await it.looked()
        with it.api.faults.on(faults.watch(echo=True), verb="watch"):
            it.proxy.signal()
            await it.api.journal.nth("watch", "endpointslices")
            it.member.flip()
            assert await it.proxy.exit_code() == 0
        assert (await it.proxy.line("drain_report"))["propagation_ended"] == "slices_quiet"


async def test_a_token_that_was_rotated_is_read_again(tmp_path):
    """Hours lie between the look and the drain."""
    async with pod(tmp_path, **BY_WORD) as it:
        await it.looked()
        it.account.rotate("second-token")
        it.member.flip()
        report = await it.end()
        assert report["propagation_ended"] == "slices_quiet"
        assert it.conditions() == []


async def test_20_000_foreign_rows_cost_ten_megabytes_at_most(tmp_path):
    """For the moment of the list; what is kept are the own rows."""
    async with pod(tmp_path, **BY_WORD) as it:
        await it.looked()
        for thing in foreign_slices(20_000):
            it.api.store.put(SLICES, thing)
        before = _peak_bytes(it.proxy.pid)
        it.member.flip()
        it.proxy.signal()
        await it.proxy.line("drain_plan", cause="deletion")
        assert _peak_bytes(it.proxy.pid) - before <= 10 * 1024 * 1024
        assert await it.proxy.exit_code() == 0


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def test_a_slow_api_holds_nothing_up(tmp_path):
    """The answer comes after the drain has ended by itself."""
    async with pod(tmp_path) as it:
        await it.looked()
        with it.api.faults.on(faults.slow(4)):
            report = await it.end()
        assert report["propagation_ended"] == "quiet"
