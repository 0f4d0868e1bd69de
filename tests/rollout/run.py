"""Plays all rows beside each other, one lag after the other."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.rollout import mesh
from tests.rollout.dataplane import data_plane
from tests.rollout.lateness import Lateness
from tests.rollout.play import Play, RowResult, played

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.rollout.rows import Row

MIN_REQUESTS = 20_000
MAX_STAGE_S = 240.0
"""However slow the machine: a row that has too few requests then is judged by that."""


@dataclass(slots=True)
class Run:
    """What a run was like."""

    results: list[RowResult] = field(default_factory=list)
    late_s: float = 0.0
    """How late the loop of kubelet and API server ran its timers at worst."""


async def play_all(
    rows: Sequence[Row],
    lags_s: Sequence[float],
    *,
    rollouts: int,
    warm_s: float,
    min_requests: int,
    say: Callable[[str], None],
) -> Run:
    """Return a result for each row at each lag; `warm_s` of load lie before each rollout."""
    run, lateness = Run(), Lateness()
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(data_plane([row.service for row in rows]))
        plays = [
            await stack.enter_async_context(played(row, plane, Play, {"mesh": mesh.image})) for row in rows
        ]
        async with asyncio.TaskGroup() as group:
            for play in plays:
                group.create_task(play.start())
        async with lateness.measured():
            for lag_s in lags_s:
                say(f"lag {lag_s:g} s")
                plane.lag_s = lag_s
                run.results += await _stage(plays, lag_s, [warm_s] * rollouts, min_requests)
                await asyncio.sleep(lag_s)
        run.late_s = lateness.worst_s
    return run


async def _stage(
    plays: Sequence[Play], lag_s: float, warm_s: Sequence[float], min_requests: int
) -> list[RowResult]:
    """All rows at once, until the last has rolled out and the slowest judged one has its requests."""
    enough = asyncio.Event()
    busy = [play for play in plays if play.row.counted]
    async with asyncio.TaskGroup() as group:
        stages = [group.create_task(play.stage(lag_s, warm_s=warm_s, enough=enough)) for play in plays]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_STAGE_S):
                # Counted by other processes, which say so every half a second.
                while any(play.sent < min_requests for play in busy):
                    await asyncio.sleep(0.5)
        enough.set()
    return [stage.result() for stage in stages]
