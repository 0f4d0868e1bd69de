"""Who gives way where there are too many."""

from __future__ import annotations

from drainproxy.admin.fair_share import FairShare


def filled(*addresses: str, most: int) -> FairShare[int]:
    """Return places that were taken in this order, by 0, 1, 2 and so on."""
    places: FairShare[int] = FairShare(most)
    for who, address in enumerate(addresses):
        places.enter(who, address)
    return places


def test_while_there_is_room_nobody_has_to_go():
    """The last place is a place."""
    assert list(filled("a", "a", "b", most=3).crowds("b")) == []


def test_the_address_with_most_is_the_first_to_give_way():
    """Its oldest first."""
    places = filled("a", "b", "b", "b", "c", most=4)
    assert next(places.crowds("c")) == "b"
    assert places.of("b") == [1, 2, 3]


def test_a_newcomer_above_its_share_is_told_without_a_search():
    """It would be the answer anyway, and it comes by the thousand."""
    places = filled("a", "b", "b", "b", "b", most=4)
    assert next(places.crowds("b")) == "b"


def test_who_goes_twice_goes_once():
    """A connection that was pushed out is lost later."""
    places = filled("a", "b", most=4)
    places.leave(1, "b")
    places.leave(1, "b")
    assert len(places) == 1
    assert places.of("b") == []


def test_a_place_that_is_handed_on_stays_one_place():
    """And is the newest of its address."""
    places = filled("a", "a", most=4)
    places.replace(0, 7, "a")
    assert (len(places), places.of("a")) == (2, [1, 7])
