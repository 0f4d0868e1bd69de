"""Random walks over real sockets: whatever everybody does, answers stay with those who asked."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy.eventloop import Loop
from tests.fuzz import live


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, Loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("first", range(0, 20, 10))
def test_whatever_everybody_does_answers_stay_with_those_who_asked(first: int, loop):
    """Ten walks: no foreign answer, no invalid request at the application, nothing left at the end."""
    for seed in range(first, first + 10):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(live.walk(seed))
