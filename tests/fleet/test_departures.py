"""Facts of a pod's end come in any order, from several places, and become one record."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from drainproxy.fleet import departures
from drainproxy.fleet.departures import Departures, as_json
from tests.fleet.records import BARE, NATIVE, NOW, event, pod, report, stamp


def found(since_s: float = 3600.0) -> Departures:
    """Return the books of deploy/web, which are empty."""
    books = Departures("web", NOW - timedelta(seconds=since_s))
    books.replica_set({"metadata": {"name": "web-5d4f7c9b8"}, "spec": {"template": {"spec": NATIVE}}})
    return books


def only(books: Departures) -> departures.Departure:
    """Return the one record there is."""
    (record,) = books
    return record


def killing(**more: Any) -> dict[str, Any]:
    """Return the kubelet's Event of a pod that ends."""
    return event("Killing", "Stopping container app", **more)


def test_a_pod_that_stays_is_no_departure():
    """Nor is one of which the kubelet tells that a probe failed."""
    books = found()
    books.pod(pod(), now=NOW)
    books.event(event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"))
    books.event(event("Killing", "Container app failed liveness probe, will be restarted"))
    assert list(books) == []


def test_a_pod_is_followed_from_its_deletion_to_its_last_state():
    """When it was told: its deletionTimestamp less its grace period."""
    books = found()
    books.pod(pod(deleted_s=5), now=NOW)
    assert (only(books).gone, only(books).took_s) == (False, None)
    books.pod(pod(deleted_s=5, message=json.dumps(report())), deleted=True, now=NOW)
    record = only(books)
    assert (record.gone, record.source, record.report["cause"]) == (True, "termination message", "deletion")
    assert record.began == NOW - timedelta(seconds=5)


@pytest.mark.parametrize("order", ["event first", "pod first"])
def test_who_knows_only_a_name_means_the_same_pod(order):
    """A controller's Event names a pod without its UID."""
    books = found()
    facts = [
        lambda: books.event(
            event("SuccessfulDelete", "Deleted pod: web-5d4f7c9b8-x2x9k", about="ReplicaSet")
        ),
        lambda: books.pod(pod(deleted_s=5), deleted=True, now=NOW),
        lambda: books.event(killing()),
    ]
    for fact in facts if order == "event first" else reversed(facts):
        fact()
    assert (only(books).pod, only(books).uid) == ("web-5d4f7c9b8-x2x9k", "u-1")


def test_a_name_that_comes_again_is_another_pod():
    """A StatefulSet's: told apart by their UIDs."""
    books = Departures("web", NOW - timedelta(hours=1))
    for uid in ("u-1", "u-2"):
        books.pod(pod(name="web-0", uid=uid, deleted_s=5), deleted=True, now=NOW)
    assert [record.uid for record in books] == ["u-1", "u-2"]


def test_an_event_of_ours_carries_the_whole_report():
    """And where it is of an older sidecar, its sentence still says that something was lost."""
    books = found()
    said = {"drainproxy.io/report": json.dumps(report(lost=2))}
    books.event(event("DrainIncomplete", "2 requests lost", controller="drainproxy.io/sidecar", said=said))
    assert only(books).report["requests"]["lost"] == 2
    books = found()
    books.event(event("DrainIncomplete", "2 requests lost", controller="drainproxy.io/sidecar"))
    assert (only(books).report, only(books).incomplete) == (None, "2 requests lost")


@pytest.mark.parametrize(
    "other",
    [{"pod": "shop-5d4f7c9b8-x2x9k"}, {"pod": "web-api-5d4f7c9b8-x2x9k"}, {"at_s": -7200}, {"about": "Node"}],
)
def test_what_concerns_others_is_left_out(other):
    """Another workload's pods, another hour's, and what is no pod."""
    books = found()
    books.event(killing(**other))
    assert list(books) == []


def test_a_restarted_sidecar_is_a_drain_of_its_own():
    """Its report is in the last state of its container, and the pod stays."""
    books = found()
    for _ in range(2):
        books.pod(pod(last=json.dumps(report(cause="restart"))), now=NOW)
    record = only(books)
    assert (record.restart, record.gone, record.report["cause"]) == (True, True, "restart")
    books = found(since_s=0.0)
    books.pod(pod(last=json.dumps(report()), ended_s=60), now=NOW)
    assert list(books) == []


def test_a_container_that_was_killed_says_why():
    """By memory, or at the end of the grace period."""
    books = found()
    books.pod(pod(deleted_s=5, exit_code=137, reason="OOMKilled"), deleted=True, now=NOW)
    assert only(books).killed == {"drainproxy": "it ran out of memory"}
    books = found()
    books.pod(pod(deleted_s=5, exit_code=137), deleted=True, now=NOW)
    assert only(books).killed == {"drainproxy": "SIGKILL ended it"}


@pytest.mark.parametrize(
    "message", ["", "panic: no", "{}", "[]", '{"cause": 1}', '{"requests": []}', "[" * 10_000, '"drain"']
)
def test_another_ones_termination_message_is_no_report(message):
    """Any container may write there what it likes."""
    books = found()
    books.pod(pod(deleted_s=5, message=message), deleted=True, now=NOW)
    assert only(books).report is None


def test_who_is_not_there_any_more_is_gone():
    """After a watch was broken, a list tells who is left."""
    books = found()
    books.pod(pod(deleted_s=5), now=NOW)
    books.absent({"u-1"}, NOW)
    assert len(books.leaving) == 1
    books.absent(set(), NOW)
    assert (books.leaving, only(books).took_s) == ([], 5.0)


def test_the_books_have_an_end(monkeypatch):
    """What does not fit is counted."""
    monkeypatch.setattr(departures, "MAX_DEPARTURES", 2)
    books = found()
    for number in range(5):
        books.pod(pod(name=f"web-{number}", uid=f"u-{number}", deleted_s=1), deleted=True, now=NOW)
    assert (len(books), books.dropped) == (2, 3)


def test_an_evicted_pod_stays_as_an_object_and_has_left():
    """Its phase is Failed; one that failed before the time that is asked about is another matter."""
    books = found()
    books.pod(pod(phase="Failed", status_reason="Evicted", ended_s=30), now=NOW)
    assert only(books).evicted.startswith("Evicted")
    books = found(since_s=10)
    books.pod(pod(phase="Failed", ended_s=30), now=NOW)
    assert list(books) == []


def test_a_record_is_json():
    """Whatever is in it."""
    books = found()
    books.pod(pod(deleted_s=5, message=json.dumps(report()), spec=BARE), deleted=True, now=NOW)
    assert json.loads(json.dumps(as_json(only(books))))["sidecar"] is False


def test_times_are_read_as_objects_carry_them():
    """With or without fractions; what is no time is none."""
    assert departures._time(stamp(0)) == NOW
    assert departures._time("2026-01-02T03:04:05.123456Z") == datetime(
        2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC
    )
    assert departures._time(None) is None
    assert departures._time("yesterday") is None
