"""How losses are put together for a reader."""

from drainproxy.proof.outcomes import Kind, Outcome
from drainproxy.proof.probe.view import loss_runs


def lost(at: float, kind: Kind = Kind.REFUSED) -> Outcome:
    return Outcome(sent_at=at, took_s=0.0, status=None, kind=kind, error=str(kind), retried=False, peer="p:1")


def runs(*losses: Outcome) -> list[tuple[float, float, int, Kind]]:
    return [
        (run[0].sent_at, run[-1].sent_at, len(run), run[0].kind) for run in loss_runs(losses, apart_s=0.5)
    ]


def test_losses_without_an_answer_between_them_are_one_row():
    """A service that is down for a second is one line, not fifty."""
    assert runs(lost(1.0), lost(1.25), lost(1.75)) == [(1.0, 1.75, 3, Kind.REFUSED)]


def test_losses_with_answers_between_them_are_two_rows():
    """A row never spans a time in which the service answered."""
    assert runs(lost(1.0), lost(3.0), lost(3.5)) == [(1.0, 1.0, 1, Kind.REFUSED), (3.0, 3.5, 2, Kind.REFUSED)]


def test_losses_of_different_kinds_are_rows_of_their_own():
    """In the order in which they were sent, whatever order they were reported in."""
    assert runs(lost(1.5), lost(1.0, Kind.RESET), lost(1.25, Kind.RESET)) == [
        (1.0, 1.25, 2, Kind.RESET),
        (1.5, 1.5, 1, Kind.REFUSED),
    ]


def test_no_losses_are_no_rows():
    """The summary then has no table of losses."""
    assert runs() == []
