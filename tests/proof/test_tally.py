"""Adding outcomes up."""

from drainproxy.proof import tally as tallies
from drainproxy.proof.outcomes import Kind, Outcome
from drainproxy.proof.tally import Tally, quantile


def outcome(at: float, *, took: float = 0.01, kind: Kind | None = None, retried: bool = False) -> Outcome:
    return Outcome(
        sent_at=at,
        took_s=took,
        status=200 if kind is None else None,
        kind=kind,
        error=str(kind or ""),
        retried=retried,
        peer="127.0.0.1:1",
    )


def test_a_quantile_is_a_value_that_was_measured():
    """No interpolation: the smallest value that the asked share does not exceed."""
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [quantile(values, q) for q in (0.0, 0.2, 0.5, 0.99, 1.0)] == [1.0, 1.0, 3.0, 5.0, 5.0]
    assert quantile([], 0.5) is None


def test_losses_count_by_kind_and_not_as_latency():
    """A refusal is fast, and must not make the service look fast."""
    tally = Tally(0.0)
    tally.add(outcome(0.0, took=0.5))
    tally.add(outcome(1.0, took=0.0, kind=Kind.REFUSED))
    tally.add(outcome(2.0, took=0.0, kind=Kind.REFUSED))
    tally.add(outcome(3.0, took=0.1, kind=Kind.TRUNCATED))
    assert (tally.requests, tally.lost, tally.retried) == (4, 3, 0)
    assert tally.by_kind == {Kind.REFUSED: 2, Kind.TRUNCATED: 1}
    assert tally.quantile_s(0.5) == 0.5
    assert tally.by_status == {200: 1}


def test_a_retried_request_is_shown_and_not_lost():
    """A retry is the client's right; it is counted beside the losses."""
    tally = Tally(0.0)
    tally.add(outcome(0.0, retried=True))
    assert (tally.retried, tally.lost) == (1, 0)


def test_the_longest_gap_spans_losses_and_both_ends():
    """From the beginning to the first good answer, between good answers, and to the end."""
    tally = Tally(10.0)
    assert tally.longest_gap_s(10.5) == 0.5
    for at, kind in ((10.25, None), (11.0, Kind.REFUSED), (12.0, Kind.RESET), (12.25, None)):
        tally.add(outcome(at, took=0.0, kind=kind))
    assert tally.longest_gap_s(12.5) == 2.0
    assert tally.longest_gap_s(15.25) == 3.0


def test_a_slow_answer_that_overlaps_quick_ones_is_no_gap():
    """Answers end in another order than they began; the gap is about when they ended."""
    tally = Tally(0.0)
    tally.add(outcome(0.5, took=0.5))
    tally.add(outcome(0.0, took=0.75))
    tally.add(outcome(1.0, took=0.5))
    assert tally.longest_gap_s(1.5) == 1.0


def test_memory_for_losses_is_bounded_and_the_count_is_not(monkeypatch):
    """Every loss counts, the first ones are kept whole."""
    monkeypatch.setattr(tallies, "MAX_KEPT_LOSSES", 2)
    tally = Tally(0.0)
    for at in range(5):
        tally.add(outcome(at, kind=Kind.REFUSED))
    assert (tally.lost, len(tally.losses)) == (5, 2)
