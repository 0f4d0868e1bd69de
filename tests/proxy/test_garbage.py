"""What is looked through for circles, and when: not while a crowd comes."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.wire import garbage
from drainproxy.proxy.wire.garbage import QUIET_BYTES, Garbage

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 200_000
"""Objects: what some thousands of clients have."""


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector() -> Iterator[Garbage]:
    """As app.py makes it; afterwards all is as it was."""
    before = gc.get_threshold()
    yield Garbage()
    gc.unfreeze()
    gc.set_threshold(*before)


def crowd() -> list[list[object]]:
    """Return objects that the interpreter would look through again and again as they become more."""
    return [[] for _ in range(MANY)]


def old_knot() -> tuple[weakref.ref[Knot], list[list[object]]]:
    """Return one that nobody holds, older than what is looked through as ever, and the crowd that came since."""
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


def test_circles_do_not_wait_for_ever(collector: Garbage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd may stay for days."""
    knot, come = old_knot()
    monkeypatch.setattr(garbage, "LONGEST_S", 0.0)
    collector.look(QUIET_BYTES)
    assert knot() is None
    assert come
