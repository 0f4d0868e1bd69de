"""What EndpointSlices say of this pod, row by row and together."""

from __future__ import annotations

import pytest

from drainproxy.kube.slices.endpoints import View, read
from drainproxy.lifecycle.propagation import Routability
from tests.kube.premises import ME
from tests.kube.server import other, own, slice_of

ROUTABLE, GONE, UNKNOWN = Routability.ROUTABLE, Routability.GONE, Routability.UNKNOWN


def view(*slices, version: int = 10) -> View:
    """Return the view after one list."""
    seen = View()
    seen.replace([read(each, ME) for each in slices], version)
    return seen


UNREADY = {"ready": True, "serving": False, "terminating": False}
STATES = {
    "serving": ([own()], ROUTABLE),
    "nil conditions": ([own(ready=None)], ROUTABLE),
    "no conditions": ([{**own(), "conditions": None}], ROUTABLE),
    "not ready": ([own(ready=False)], GONE),
    "terminating": ([own(ready=False, terminating=True)], GONE),
    "publishNotReadyAddresses": ([own(ready=True, terminating=True)], UNKNOWN),
    "publishNotReadyAddresses of one that is not up": ([{**own(), "conditions": UNREADY}], UNKNOWN),
    "no row": ([other()], UNKNOWN),
    "no endpoint": ([], UNKNOWN),
}


@pytest.mark.parametrize(("endpoints", "state"), STATES.values(), ids=STATES.keys())
def test_one_row_says_whether_we_are_chosen(endpoints, state):
    """Ready counts, and nil is ready; a row that never flips says nothing."""
    assert view(slice_of(*endpoints)).reading().state is state


def test_one_ready_row_is_enough_to_be_chosen():
    """A pod may be in several Services and in both address families; each slice flips alone."""
    gone, there = own(ready=False), own()
    slices = [slice_of(gone, name="a"), slice_of(there, name="b", family="IPv6")]
    reading = view(*slices).reading()
    assert (reading.state, reading.slices) == (ROUTABLE, 2)
    assert view(slice_of(gone, name="a"), slice_of(gone, name="b", family="IPv6")).reading().state is GONE


def test_a_row_that_was_there_and_is_not_is_gone():
    """A Service that chooses this pod no more."""
    seen = view(slice_of(own()))
    seen.put(read(slice_of(version=11), ME))
    assert seen.reading().state is GONE


def test_a_deleted_slice_takes_its_row_with_it():
    """The controller moves rows and deletes what is empty."""
    seen = view(slice_of(own(), name="a"), slice_of(own(), name="b"))
    seen.drop("a")
    assert seen.reading().state is ROUTABLE
    seen.drop("b")
    seen.drop("b")
    assert seen.reading().state is GONE


def test_a_row_that_was_never_there_is_unknown():
    """Young pods, stale caches, rows in another cluster."""
    seen = view(slice_of(other()))
    seen.replace([], 20)
    assert seen.reading().state is UNKNOWN
    assert not seen.seen


def test_a_list_older_than_the_row_does_not_make_it_gone():
    """Another API server's cache may be behind the one that showed the row."""
    seen = view(slice_of(own()), version=10)
    seen.replace([], 9)
    assert seen.reading().state is ROUTABLE
    seen.replace([], 10)
    assert seen.reading().state is GONE


def test_an_older_version_of_a_slice_is_ignored():
    """Events may come out of order where a watch was begun again."""
    seen = view(slice_of(own(ready=False, terminating=True), version=12))
    seen.put(read(slice_of(own(), version=11), ME))
    assert seen.reading().state is GONE


def test_a_version_that_is_no_number_is_taken_as_it_comes():
    """Before 1.35 it was opaque."""
    odd = slice_of(own(ready=False))
    odd["metadata"]["resourceVersion"] = "abc"
    seen = View()
    seen.put(read({**slice_of(own()), "metadata": odd["metadata"]}, ME))
    seen.put(read(odd, ME))
    assert seen.reading().state is GONE


def test_the_row_says_that_the_pod_is_being_deleted():
    """It needs no permission to read pods."""
    assert view(slice_of(own(ready=False, terminating=True))).reading().terminating
    assert not view(slice_of(own(ready=False))).reading().terminating
    assert not view(slice_of(own(), other(ready=False))).reading().terminating


def test_others_are_counted_where_they_are_ready():
    """In every slice of our Service, on the node too, and never twice for two address families."""
    seen = view(
        slice_of(own(), other(1), other(2, node="node-a"), other(3, ready=False), name="a"),
        slice_of(other(4), name="b"),
        slice_of(own(), *(other(number) for number in range(5)), name="c", family="IPv6"),
        slice_of(*(other(number) for number in range(50)), name="foreign", service="else"),
    )
    reading = seen.reading()
    assert (reading.others, reading.others_on_node) == (3, 0)


def test_others_that_terminate_do_not_count():
    """With publishNotReadyAddresses they stay ready, and are as good as gone."""
    leaving = own(uid="other-1", ready=True, terminating=True)
    assert view(slice_of(own(), leaving)).reading().others == 0


def test_the_service_with_the_fewest_others_counts():
    """A pod may be the last of one Service and one of many in another."""
    seen = view(
        slice_of(own(), other(1), other(2), name="a", service="all"), slice_of(own(), name="b", service="one")
    )
    assert seen.reading().others == 0
    assert seen.services == {"all", "one"}


def test_others_that_are_not_up_yet_do_not_count():
    """With publishNotReadyAddresses a successor is ready before it serves; `serving` tells."""
    coming = {**other(1), "conditions": UNREADY}
    assert view(slice_of(own(), coming, other(2))).reading().others == 1


def test_two_that_are_deleted_together_are_both_alone():
    """Neither can take over from the other."""
    leaving = own(uid="other-1", ready=False, terminating=True)
    assert view(slice_of(own(ready=False, terminating=True), leaving)).reading().others == 0


def test_who_is_not_ready_yet_may_come():
    """Another pod of a StatefulSet that starts; one that ends does not."""
    starting, leaving = own(uid="o-1", ready=False), own(uid="o-2", ready=False, terminating=True)
    reading = view(slice_of(own(ready=False, terminating=True), starting, leaving)).reading()
    assert (reading.others, reading.coming) == (0, 1)
    assert view(slice_of(own(ready=False, terminating=True), leaving)).reading().coming == 0


@pytest.mark.parametrize(("flips", "state"), [(False, ROUTABLE), (True, GONE)])
def test_a_row_that_says_nothing_does_not_silence_one_that_does(flips, state):
    """A StatefulSet's headless Service for peers beside the one that callers use."""
    peers = slice_of(own(ready=True, terminating=True), name="peers-1", service="peers")
    callers = slice_of(own(ready=not flips, terminating=True), name="web-1")
    if not flips:
        callers["endpoints"][0]["conditions"] |= {"terminating": False}
    reading = view(peers, callers).reading()
    assert (reading.state, reading.stuck, reading.terminating) == (state, True, True)


def test_a_service_that_chose_this_pod_once_has_no_say_in_who_is_alone():
    """Its slices are gone, or its selector is another."""
    seen = view(slice_of(own(), other(1), name="a", service="all"), slice_of(own(), name="b", service="once"))
    assert seen.reading().others == 0
    seen.drop("b")
    assert seen.reading().others == 1
    seen.put(read(slice_of(other(2), other(3), name="b", service="once", version=12), ME))
    assert seen.reading().others == 1


def test_foreign_slices_are_not_kept():
    """A namespace may hold thousands."""
    seen = view(*(slice_of(other(), name=f"f-{number}", service=f"s-{number}") for number in range(1000)))
    assert seen._slices == {}
    seen = view(slice_of(own()), *(slice_of(other(), name=f"f-{n}", service=f"s-{n}") for n in range(1000)))
    assert list(seen._slices) == ["web-1"]


@pytest.mark.parametrize("nonsense", [{}, {"metadata": None}, {"metadata": {"name": "a"}, "endpoints": [1]}])
def test_what_is_no_slice_raises(nonsense):
    """The door turns it into an error of the API."""
    with pytest.raises((KeyError, TypeError, AttributeError)):
        read(nonsense, ME)
