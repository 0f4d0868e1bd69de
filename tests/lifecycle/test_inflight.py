"""Who is still working: works, and the one call when the last of them is let go."""

from __future__ import annotations

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


def test_work_is_on_the_books_until_it_is_let_go():
    """Not before, not after."""
    inflight, job = InFlight(), Job()
    assert len(inflight) == 0
    inflight.add(job)
    assert list(inflight) == [job]
    inflight.discard(job)
    assert len(inflight) == 0


def test_works_are_listed_oldest_first_and_counted_by_kind():
    """/status shows the one that has waited longest on top."""
    inflight = InFlight()
    works = [Job(), Job("tunnel"), Job()]
    for work in works:
        inflight.add(work)
    assert list(inflight) == works
    assert [inflight.count(kind) for kind in ("http", "tunnel", "stream")] == [2, 1, 0]


def test_without_a_listener_nothing_is_called():
    """The steady state pays for no drain, and a drain that is taken back leaves none behind."""
    inflight, calls, job = InFlight(), [], Job()
    inflight.on_empty = lambda: calls.append("empty")
    inflight.on_empty = None
    inflight.add(job)
    inflight.discard(job)
    assert calls == []


def test_works_may_end_while_they_are_gone_through():
    """At the deadline each is cut in turn, and some are gone before their turn."""
    inflight = InFlight()
    works = [Job() for _ in range(3)]
    for work in works:
        inflight.add(work)
    for work, _ in zip(works, inflight, strict=True):
        inflight.discard(work)
    assert len(inflight) == 0


def test_the_listener_is_called_once_when_the_last_work_is_let_go():
    """And what is let go twice is let go once."""
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
