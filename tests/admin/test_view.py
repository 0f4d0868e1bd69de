"""`drainproxy status --watch`: what it does when the proxy is busy, ends, or was never there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.admin import view
from drainproxy.lifecycle.report import Tally
from tests.admin.test_status_view import PROPAGATING, READY, REPORT, ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DRAINED = {**ended(REPORT, PROPAGATING), "phase": "drained", "waiting_for": "exit"}
CUT = {**ended(replace(REPORT, requests=Tally(cut=1)), PROPAGATING), "phase": "drained"}
WHERE = "127.0.0.1:29900"
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
    assert view.watch(proxy(READY, PROPAGATING, DRAINED), WHERE) == 0
    shown = capsys.readouterr().out
    assert "gone" in shown
    assert "drained, everybody was served" in shown


def test_a_drain_that_left_somebody_unserved_is_none(capsys):
    """It was seen to its end, and a script has to hear how that was."""
    assert view.watch(proxy(READY, CUT), WHERE) == view.EXIT_NOT_SERVED == 1
    assert "drained, but not everybody was served" in capsys.readouterr().out


@pytest.mark.parametrize("course", [(READY,), (READY, PROPAGATING), (ended(REPORT),)])
def test_a_proxy_that_goes_away_in_the_middle_is_none(course, capsys):
    """Killed, or gone between two looks: nobody can tell that it was drained."""
    assert view.watch(proxy(*course), WHERE) == view.EXIT_GONE == 69
    assert "gone" in capsys.readouterr().out


def test_a_proxy_that_is_not_up_yet_is_waited_for(capsys):
    """A pod that starts, a port-forward that is set up: it is told who is waited for, and why."""
    course = [ConnectionRefusedError(111, "Connection refused")] * 50 + [TimeoutError("timed out")]
    assert view.watch(proxy(*course, READY, DRAINED), WHERE) == 0


def test_where_nobody_ever_comes_up_it_says_so(monkeypatch, capsys):
    """Instead of an empty screen, for ever."""
    monkeypatch.setattr(view, "UP_WITHIN", 5)
    assert view.watch(proxy(), WHERE) == 69
    shown = capsys.readouterr().out
    assert f"waits for a proxy at {WHERE} to come up: nobody listens" in shown
    assert f"no proxy has come up at {WHERE}" in shown


def test_who_is_no_proxy_is_not_waited_for():
    """It will not become one."""
    with pytest.raises(OSError, match="its answer is no status"):
        view.watch(proxy(OSError("its answer is no status")), WHERE)


def test_a_proxy_that_answers_something_else_for_a_moment_is_not_gone(capsys):
    """Once it has been seen, only misses in a row count."""
    assert view.watch(proxy(READY, OSError("it answered 503"), DRAINED), WHERE) == 0


def test_a_missed_answer_is_no_end(capsys):
    """A proxy under load may be late; only several misses in a row are an end."""
    busy = TimeoutError("timed out")
    assert view.watch(proxy(READY, busy, busy, PROPAGATING, busy, busy, DRAINED), WHERE) == 0


def test_ctrl_c_is_a_way_to_leave(capsys):
    """The person has seen enough; the proxy is well."""
    assert view.watch(proxy(READY, KeyboardInterrupt()), WHERE) == 0
    assert view.watch(proxy(GONE, KeyboardInterrupt()), WHERE) == 69


def test_it_asks_four_times_a_second_at_most(monkeypatch, capsys):
    """Before every question but the first it rests."""
    rests: list[float] = []
    monkeypatch.setattr(view, "FRAME_S", 0.25)
    monkeypatch.setattr(view.time, "sleep", rests.append)
    view.watch(proxy(READY, PROPAGATING, DRAINED), WHERE)
    assert rests == [0.25] * 5
