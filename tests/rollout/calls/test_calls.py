"""The short form of `make rollout-grpc`: two pods behind Envoy, half a second of lag."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.rollout.calls.__main__ import KINDS, faults, table
from tests.rollout.calls.callers import Tally
from tests.rollout.calls.play import ROWS, CallsResult, play_all
from tests.rollout.play import Ended

MIN_CALLS = 300


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_rollout_fails_no_call_behind_drainproxy_and_some_without_it() -> None:
    """Unary calls, streams and conversations, on kept channels and new ones."""
    rows = [replace(row, replicas=2) for row in (ROWS[0], ROWS[-1])]
    results = await play_all(rows, lag_s=0.5, min_calls=MIN_CALLS, say=lambda _: None)
    found = list(faults(results, min_calls=MIN_CALLS))
    assert not found, "\n".join([*found, table(results)])
    assert all(result.tally.calls[kind] for result in results for kind in KINDS)


def test_each_fault_is_said() -> None:
    """Failed calls, killed containers, too few calls, and a bare server that proves nothing."""
    bare, _, ours = ROWS
    ended = [Ended(1.0, ["app"], {"propagation_ended": "quiet"})]
    results = [CallsResult(bare, Tally()), CallsResult(ours, Tally(failures=["a call"]), ended)]
    assert list(faults(results, min_calls=1)) == [
        "bare: no call has failed: nothing was proved",
        "drainproxy: a call",
        "drainproxy: app was killed",
        "drainproxy: only 0 calls",
    ]
    assert "| 1 (1 killed)" in table(results)
