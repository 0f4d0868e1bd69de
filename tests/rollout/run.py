"""Plays all rows beside each other, one lag after the other."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tests.rollout.dataplane import data_plane
from tests.rollout.play import Play, RowResult, played

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.rollout.rows import Row

MIN_REQUESTS = 20_000
MAX_STAGE_S = 240.0
"""However slow the machine: a row that has too few requests then is judged by that."""


async def play_all(
    rows: Sequence[Row],
    lags_s: Sequence[float],
    *,
    rollouts: int,
    warm_s: float,
    min_requests: int,
    say: Callable[[str], None],
) -> list[RowResult]:
    """Return a result for each row at each lag; `warm_s` of load lie before each rollout."""
    results: list[RowResult] = []
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(data_plane([row.service for row in rows]))
        plays = [await stack.enter_async_context(played(row, plane)) for row in rows]
        await asyncio.gather(*(play.start() for play in plays))
        for lag_s in lags_s:
            say(f"lag {lag_s:g} s")
            plane.lag_s = lag_s
            results += await _stage(plays, lag_s, [warm_s] * rollouts, min_requests)
            await asyncio.sleep(lag_s)
    return results


async def _stage(
    plays: Sequence[Play], lag_s: float, warm_s: Sequence[float], min_requests: int
) -> list[RowResult]:
    """All rows at once, until the last has rolled out and the slowest judged one has its requests."""
    done = asyncio.Event()
    busy = [play for play in plays if play.row.judged and len(play.row.cast) > 1]

    async def enough() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_STAGE_S):
                # Counted by other tasks, which tell nobody.
                while any(play.sent < min_requests for play in busy):
                    await asyncio.sleep(0.5)
        done.set()

    counting = asyncio.ensure_future(enough())
    stages = [play.stage(lag_s, warm_s=warm_s, enough=done.wait()) for play in plays]
    results = await asyncio.gather(*stages)
    await counting
    return list(results)
