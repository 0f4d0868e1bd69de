"""Who is still working: holds, and the one call when the last of them is let go."""

from __future__ import annotations

import pytest

from drainproxy.lifecycle.inflight import InFlight


class Job:
    """A Work that does nothing."""

    started = 0.0
    deadline = 0.0

    def __init__(self, kind: str = "http") -> None:
        self.kind = kind

    def drain_by(self, deadline: float) -> None: ...

    def leave(self) -> None: ...

    def cut(self, reason: str) -> None: ...

    def describe(self) -> dict[str, str]:
        return {}


def test_work_is_on_the_books_for_the_length_of_its_hold():
    """Not before, not after."""
    inflight, job = InFlight(), Job()
    hold = inflight.hold(job)
    assert len(inflight) == 0
    with hold:
        assert list(inflight) == [job]
    assert len(inflight) == 0


def test_works_are_listed_oldest_first_and_counted_by_kind():
    """/status shows the one that has waited longest on top."""
    inflight = InFlight()
    first, second, third = Job(), Job("tunnel"), Job()
    with inflight.hold(first), inflight.hold(second), inflight.hold(third):
        assert list(inflight) == [first, second, third]
        assert [inflight.count(kind) for kind in ("http", "tunnel", "stream")] == [2, 1, 0]


def test_the_listener_is_called_once_when_the_last_hold_is_let_go():
    """A hold within a hold does not end the drain."""
    inflight, calls = InFlight(), []
    inflight.on_empty = lambda: calls.append(len(inflight))
    with inflight.hold(Job()):
        with inflight.hold(Job()):
            pass
        assert calls == []
    assert calls == [0]


def test_without_a_listener_nothing_is_called():
    """The steady state pays for no drain, and a drain that is taken back leaves none behind."""
    inflight, calls = InFlight(), []
    with inflight.hold(Job()):
        pass
    inflight.on_empty = lambda: calls.append("empty")
    inflight.on_empty = None
    with inflight.hold(Job()):
        pass
    assert calls == []


def test_a_hold_is_let_go_whatever_ends_its_block():
    """A failure that kept its hold would keep the drain waiting until the deadline."""
    inflight, calls = InFlight(), []
    inflight.on_empty = lambda: calls.append("empty")
    with pytest.raises(ValueError, match="broken"), inflight.hold(Job()):
        raise ValueError("broken")
    assert len(inflight) == 0
    assert calls == ["empty"]


def test_works_may_end_while_they_are_gone_through():
    """At the deadline each is cut in turn, and some are gone before their turn."""
    inflight = InFlight()
    holds = [inflight.hold(Job()) for _ in range(3)]
    for hold in holds:
        hold.__enter__()
    for hold, _ in zip(holds, inflight, strict=True):
        hold.__exit__(None, None, None)
    assert len(inflight) == 0


def test_what_is_driven_by_events_adds_and_discards_itself():
    """Callbacks have no block to hold for; what they let go twice is let go once."""
    inflight, calls = InFlight(), []
    first, second = Job(), Job()
    inflight.add(first)
    inflight.add(second)
    inflight.on_empty = lambda: calls.append(len(inflight))
    inflight.discard(first)
    inflight.discard(first)
    assert (list(inflight), calls) == ([second], [])
    inflight.discard(second)
    assert (list(inflight), calls) == ([], [0])
    inflight.discard(second)
    assert list(inflight) == []


def test_a_hold_may_end_after_its_work_was_discarded():
    """A cut that lets go at once, inside a block that lets go at its end."""
    inflight, job = InFlight(), Job()
    with inflight.hold(job):
        inflight.discard(job)
        assert len(inflight) == 0
    assert len(inflight) == 0
