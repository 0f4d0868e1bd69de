"""What is looked through for circles, and when: not while a crowd comes."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.wire.allocator import give_back, resident_bytes
from drainproxy.proxy.wire.garbage import GIVE_BACK_EVERY_S, QUIET_BYTES, Garbage

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 200_000
"""Objects: what some thousands of clients have."""

SMALL, PIECES = 1024, 32 * 1024
"""Together 32 MiB, with one at their end that stays."""

_library = ctypes.CDLL(None)
_library.malloc.restype = ctypes.c_void_p
_library.free.argtypes = [ctypes.c_void_p]


def malloc(size: int) -> int:
    """Return memory that is in use."""
    piece: int = _library.malloc(ctypes.c_size_t(size))
    ctypes.memset(piece, 1, size)
    return piece


def free(piece: int) -> None:
    """See free(3)."""
    _library.free(piece)


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def as_before() -> Iterator[None]:
    """Have the interpreter as it was, afterwards, and nothing free at first that other tests have left: what
    fits into it lets nothing grow."""
    before = gc.get_threshold()
    give_back()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.fixture
def collector(as_before: None) -> Garbage:
    """Return one as app.py makes it."""
    return Garbage()


def crowd() -> list[list[object]]:
    """Return objects that the interpreter would look through again and again as they become more."""
    return [[] for _ in range(MANY)]


def old_knot() -> tuple[weakref.ref[Knot], list[list[object]]]:
    """Return one that nobody holds, older than what is looked through as ever, and who came since."""
    held = Knot()
    return weakref.ref(held), crowd()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="it is done piece by piece there")
@pytest.mark.usefixtures("collector")
def test_nothing_old_is_looked_through_while_a_crowd_comes() -> None:
    """It would take a tenth of a second in which nobody is served."""
    before = gc.get_stats()[2]["collections"]
    come = crowd()
    assert len(come) == MANY
    assert gc.get_stats()[2]["collections"] == before


def test_circles_go_once_few_are_here(collector: Garbage) -> None:
    """And not before; nothing is done where nothing has come since."""
    knot, come = old_knot()
    collector.look(QUIET_BYTES)
    assert knot() is not None
    collector.look(QUIET_BYTES - 1)
    assert knot() is None
    again = weakref.ref(Knot())
    collector.look(0)
    assert again() is not None
    assert come


@pytest.mark.usefixtures("as_before")
def test_circles_do_not_wait_for_ever() -> None:
    """A crowd may stay for days."""
    impatient = Garbage(longest_s=0.0)
    knot, come = old_knot()
    impatient.look(QUIET_BYTES)
    assert knot() is None
    assert come


def test_what_was_held_for_a_moment_goes_back_to_the_kernel(collector: Garbage) -> None:
    """The account may never have seen it. Small pieces: the C library maps large ones by themselves."""
    collector.give_back(0)
    passed = [malloc(SMALL) for _ in range(PIECES)]
    full = resident_bytes()
    for piece in passed[:-1]:
        free(piece)
    collector.give_back(0)
    assert full - resident_bytes() > PIECES * SMALL // 2
    free(passed[-1])


def test_what_is_still_in_use_is_looked_at_again(as_before: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who leave do so in their turn: what nobody is told to hold may be in use a moment longer."""
    now = 1000.0
    monkeypatch.setattr("drainproxy.proxy.wire.garbage.time.monotonic", lambda: now)
    collector = Garbage()
    collector.give_back(0)
    leaving = [malloc(SMALL) for _ in range(PIECES)]
    full = resident_bytes()
    collector.give_back(0)
    for piece in leaving[:-1]:
        free(piece)
    collector.give_back(0)
    assert full - resident_bytes() < PIECES * SMALL // 2
    now += 2 * GIVE_BACK_EVERY_S
    collector.give_back(0)
    assert full - resident_bytes() > PIECES * SMALL // 2
    free(leaving[-1])


def test_what_could_not_be_given_back_does_not_keep_what_can(
    as_before: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a crowd comes it is tried less and less often; what the crowd leaves is there 3 s later."""
    now = 1000.0
    monkeypatch.setattr("drainproxy.proxy.wire.garbage.time.monotonic", lambda: now)
    collector = Garbage()
    collector.give_back(0)
    here = [malloc(SMALL) for _ in range(PIECES)]
    for _ in range(7):
        collector.give_back(0)
        now += GIVE_BACK_EVERY_S
    leaving = [malloc(SMALL) for _ in range(PIECES)]
    full = resident_bytes()
    for piece in leaving[:-1]:
        free(piece)
    collector.give_back(0)
    assert full - resident_bytes() > PIECES * SMALL // 2
    for piece in (*here, leaving[-1]):
        free(piece)
