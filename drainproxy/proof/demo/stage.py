"""Stage: one router lag, all columns at the same time on one clock."""

import asyncio
from dataclasses import dataclass

from drainproxy.proof.demo.children import UnmeasuredError
from drainproxy.proof.demo.column import WAYS, Column, Way
from drainproxy.proof.demo.crowd import roles
from drainproxy.proof.demo.pods import GRACE_S, PodMaker
from drainproxy.proof.demo.results import StageResult

WARM_S = 2.0  # before the signal: long enough for slow answers and streams to be under way
_SLOW_S = 3.0
_STREAM_S = 2.0
_TAIL_S = 0.5  # after the last old pod is gone and forgotten
_MAX_S = GRACE_S + 30.0


@dataclass(slots=True)
class Stage:
    """Written by `start` and `play` only; the live view reads it while it runs."""

    lag_s: float
    columns: tuple[Column, ...]
    t0: float | None = None  # the signal, loop time


def new_stage(lag_s: float, maker: PodMaker, ways: tuple[Way, ...] = WAYS) -> Stage:
    def column(way: Way) -> Column:
        ledger = maker.directory / f"{way.name.replace(' ', '-')}-{lag_s:g}.ledger"
        return Column(way, ledger=ledger, cast=roles(slow_s=_SLOW_S, stream_s=_STREAM_S))

    return Stage(lag_s=lag_s, columns=tuple(column(way) for way in ways))


async def start(stage: Stage, maker: PodMaker) -> None:
    """Bring all pods up; nobody calls yet."""
    async with asyncio.TaskGroup() as group:
        for column in stage.columns:
            group.create_task(column.start(maker))


async def play(stage: Stage) -> StageResult:
    """Call, end the old pods, and count."""
    try:
        async with asyncio.timeout(_MAX_S):
            t0 = await _under_load(stage)
    except TimeoutError:
        raise UnmeasuredError(f"a stage took longer than {_MAX_S:g} s") from None
    return StageResult(lag_s=stage.lag_s, columns=tuple(column.result(t0=t0) for column in stage.columns))


async def _under_load(stage: Stage) -> float:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as clients:
        for column in stage.columns:
            clients.create_task(column.serve(stop))
        stage.t0 = loop.time() + WARM_S
        await asyncio.sleep(WARM_S)
        t0 = stage.t0 = loop.time()
        async with asyncio.TaskGroup() as endings:
            for column in stage.columns:
                endings.create_task(column.end_old_pod(t0=t0, lag_s=stage.lag_s))
        await asyncio.sleep(_TAIL_S)
        stop.set()
    return t0
