"""Rollouts under gRPC calls: the rows, each with its pods, its callers, and what became of both."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.rollout.calls import server
from tests.rollout.calls.callers import Callers, Tally
from tests.rollout.dataplane import data_plane
from tests.rollout.play import Ended, Play, played
from tests.rollout.rows import Row
from tests.support.kubelet import wirings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.kubelet.sandbox import Sandbox

ROWS = (
    Row("bare", wirings.bare(app="shop"), judged=False, port=wirings.APP_PORT),
    Row("sleep 5", wirings.bare(app="shop", sleep_s=5), judged=False, port=wirings.APP_PORT),
    Row("drainproxy", wirings.native(app="shop", propagation="cluster", rbac="slices")),
)
WARM_S = 3.0
MAX_STAGE_S = 240.0


@dataclass(slots=True)
class CallsResult:
    """What one row was like."""

    row: Row
    tally: Tally
    ended: list[Ended] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """All of them."""
        return self.tally.calls.total()


class CallsPlay(Play):
    """One row's Service."""

    async def call(self, min_calls: int) -> CallsResult:
        """Roll out once under load; the load goes on until there were so many calls."""
        stop, callers = asyncio.Event(), Callers(self._door)
        result = CallsResult(self.row, callers.tally)
        async with asyncio.TaskGroup() as group, asyncio.timeout(MAX_STAGE_S):
            group.create_task(callers.run(stop))
            await asyncio.sleep(WARM_S)
            result.ended = await self._roll_out()
            # Counted by other tasks, which tell nobody.
            while result.calls < min_calls:
                await asyncio.sleep(0.2)
            stop.set()
        return result

    def _door(self, number: int) -> tuple[str, int]:
        return self._plane.doors(self.row.service)[number % 2]


def _image(sandbox: Sandbox) -> list[str]:
    return [sys.executable, server.__file__, sandbox.ip, "8080"]


async def play_all(
    rows: Sequence[Row], *, lag_s: float, min_calls: int, say: Callable[[str], None]
) -> list[CallsResult]:
    """Return a result for each row; one row after the other."""
    results = []
    async with data_plane([row.service for row in rows], http2=True) as plane:
        plane.lag_s = lag_s
        for row in rows:
            say(row.name)
            async with played(row, plane, CallsPlay, {"shop": _image}) as play:
                await play.start()
                results.append(await play.call(min_calls if row.judged else 0))
    return results
