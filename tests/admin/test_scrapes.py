"""Whose last scrape is awaited: a table of scraping histories. Drained at 1000 s; the wait is 15 s."""

from __future__ import annotations

import pytest

from drainproxy.admin.scrapes import MAX_ADDRESSES, Scrapes

DRAINED_AT = 1000.0
UNTIL = 1015.0


def awaited(*times: float, now: float = DRAINED_AT, until: float = UNTIL) -> float | None:
    """Return until when a scraper with these scrapes is awaited, or None."""
    scrapes = Scrapes(wait_s=15.0)
    for time in times:
        scrapes.record("10.0.0.1", time)
    return scrapes.awaited(now, DRAINED_AT, until).get("10.0.0.1")


@pytest.mark.parametrize(
    ("times", "give_up"),
    [
        ((980.0, 990.0), 1010.0),
        ((970.0, 990.0), 1015.0),
        ((980.0, 995.0), 1015.0),
        # One interval missed, the second not over yet.
        ((975.0, 987.0), 1011.0),
        # It stopped scraping: two intervals have passed.
        ((970.0, 980.0), None),
        ((979.99, 989.99, 989.995), None),
        # Due later than it is worth waiting for.
        ((930.0, 990.0), None),
        ((969.0, 993.0), None),
        # Its next is due at the last moment.
        ((965.0, 990.0), 1015.0),
        # Only the last two count: it became slower, or faster.
        ((980.0, 985.0, 995.0), 1015.0),
        ((900.0, 990.0, 995.0), 1005.0),
        # Seen once: no interval is known.
        ((990.0,), 1005.0),
        ((985.5,), 1000.5),
        ((985.0,), None),
        ((900.0,), None),
        # It has come since.
        ((980.0, 990.0, 1000.0), None),
        ((1000.0,), None),
        ((), None),
    ],
)
def test_an_address_is_awaited_for_two_of_its_intervals(times, give_up):
    """And only if its next scrape is due within the wait."""
    assert awaited(*times) == (None if give_up is None else pytest.approx(give_up))


@pytest.mark.parametrize(
    ("now", "until", "expected"),
    [(1000.0, 1003.0, 1003.0), (1004.0, 1003.0, None), (1009.9, 1015.0, 1010.0), (1010.0, 1015.0, None)],
)
def test_nobody_is_awaited_past_the_deadline_or_its_second_interval(now, until, expected):
    """A scrape every 10 s, the last at 990 s: its next is due at once, and overdue from 1010 s on."""
    assert awaited(980.0, 990.0, now=now, until=until) == expected


def test_a_drain_that_ended_long_ago_awaits_only_who_has_not_come_since():
    """A native sidecar is told to go long after it was drained."""
    scrapes = Scrapes(wait_s=15.0)
    for time in (980.0, 990.0, 1000.0, 1010.0):
        scrapes.record("10.0.0.1", time)
    for time in (985.0, 995.0):
        scrapes.record("10.0.0.2", time)
    assert scrapes.awaited(1011.0, DRAINED_AT, 1026.0) == {"10.0.0.2": 1015.0}


def test_readers_with_no_wait_are_awaited_only_if_they_come_regularly():
    """One look at /status holds nobody up; a poll does, for two of its intervals."""
    looks = Scrapes(wait_s=0.0)
    looks.record("once", 999.9)
    looks.record("poll", 999.65)
    looks.record("poll", 999.9)
    assert looks.awaited(DRAINED_AT, DRAINED_AT, 1002.0) == {"poll": pytest.approx(1000.4)}


def test_who_came_once_is_only_guessed_to_come_again():
    """Where there is nothing to tell, nobody guesses."""
    scrapes = Scrapes(wait_s=15.0)
    scrapes.record("once", 999.9)
    for time in (989.0, 999.0):
        scrapes.record("regular", time)
    assert scrapes.awaited(DRAINED_AT, DRAINED_AT, UNTIL).keys() == {"once", "regular"}
    assert scrapes.awaited(DRAINED_AT, DRAINED_AT, UNTIL, guess=False).keys() == {"regular"}


def test_the_register_is_bounded_and_forgets_the_longest_silent():
    """A crowd of addresses costs no memory and does not push out who scrapes all the time."""
    scrapes = Scrapes(wait_s=15.0)
    scrapes.record("prometheus", 970.0)
    for index in range(MAX_ADDRESSES - 1):
        scrapes.record(f"crowd-{index}", 971.0)
    scrapes.record("prometheus", 990.0)
    for index in range(MAX_ADDRESSES - 1):
        scrapes.record(f"more-{index}", 995.0)
    known = scrapes.awaited(DRAINED_AT, DRAINED_AT, UNTIL)
    assert len(known) == MAX_ADDRESSES
    assert known["prometheus"] == UNTIL
