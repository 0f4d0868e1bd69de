"""`drainproxy status --watch`: what it does when the proxy is busy, ends, or was never there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.admin import view
from tests.admin.test_status_view import PROPAGATING, READY, REPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DRAINED = {**PROPAGATING, "phase": "drained", "waiting_for": "exit", "report": REPORT.fields()}
GONE = ConnectionRefusedError("nobody listens")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "FRAME_S", 0.0)


def proxy(*course: Any) -> Callable[[], dict[str, Any]]:
    """Return a fetch that meets each of `course` in turn, then nobody."""
    steps: Iterator[Any] = iter(course)

    def fetch() -> dict[str, Any]:
        step = next(steps, GONE)
        if isinstance(step, BaseException):
            raise step
        return step

    return fetch


def test_a_drain_that_was_seen_to_its_end_is_success(capsys):
    """The last frame stays on the screen, with the report."""
    assert view.watch(proxy(READY, PROPAGATING, DRAINED)) == 0
    shown = capsys.readouterr().out
    assert "gone" in shown
    assert "every request was answered" in shown


@pytest.mark.parametrize("course", [(READY,), (READY, PROPAGATING), ({**READY, "report": REPORT.fields()},)])
def test_a_proxy_that_goes_away_in_the_middle_is_none(course, capsys):
    """Killed, or gone between two looks: nobody can tell that it was drained."""
    assert view.watch(proxy(*course)) == view.EXIT_GONE == 69
    assert "gone" in capsys.readouterr().out


def test_where_nobody_ever_answers_it_says_so(capsys):
    """Instead of an empty screen."""
    assert view.watch(proxy()) == 69
    assert "no proxy answers" in capsys.readouterr().out


def test_a_missed_answer_is_no_end(capsys):
    """A proxy under load may be late; only several misses in a row are an end."""
    busy = TimeoutError("timed out")
    assert view.watch(proxy(READY, busy, busy, PROPAGATING, busy, busy, DRAINED)) == 0


def test_ctrl_c_is_a_way_to_leave(capsys):
    """The person has seen enough; the proxy is well."""
    assert view.watch(proxy(READY, KeyboardInterrupt())) == 0


def test_it_asks_four_times_a_second_at_most(monkeypatch, capsys):
    """Before every question but the first it rests."""
    rests: list[float] = []
    monkeypatch.setattr(view, "FRAME_S", 0.25)
    monkeypatch.setattr(view.time, "sleep", rests.append)
    view.watch(proxy(READY, PROPAGATING, DRAINED))
    assert rests == [0.25] * 5
