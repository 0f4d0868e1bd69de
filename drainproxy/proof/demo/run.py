"""Run: one router lag, all lanes at the same time on one clock."""

import asyncio
from dataclasses import dataclass

from drainproxy.proof.demo.children import UnmeasuredError
from drainproxy.proof.demo.crowd import roles
from drainproxy.proof.demo.lane import WAYS, Lane, Way
from drainproxy.proof.demo.pods import GRACE_S, PodMaker
from drainproxy.proof.demo.results import RunResult

WARM_S = 2.0  # before the signal: long enough for slow answers and streams to be under way
_SLOW_S = 3.0
_STREAM_S = 2.0
_TAIL_S = 0.5  # after the last old pod is gone and forgotten
_MAX_S = GRACE_S + 30.0


@dataclass(slots=True)
class Run:
    """Written by `start` and `play` only; the live view reads it while it runs."""

    lag_s: float
    lanes: tuple[Lane, ...]
    t0: float | None = None  # the signal, loop time


def new_run(lag_s: float, maker: PodMaker, ways: tuple[Way, ...] = WAYS) -> Run:
    def lane(way: Way) -> Lane:
        ledger = maker.directory / f"{way.name.replace(' ', '-')}-{lag_s:g}.ledger"
        return Lane(way, ledger=ledger, cast=roles(slow_s=_SLOW_S, stream_s=_STREAM_S))

    return Run(lag_s=lag_s, lanes=tuple(lane(way) for way in ways))


async def start(run: Run, maker: PodMaker) -> None:
    """Bring all pods up; nobody calls yet."""
    async with asyncio.TaskGroup() as group:
        for lane in run.lanes:
            group.create_task(lane.start(maker))


async def play(run: Run) -> RunResult:
    """Call, end the old pods, and count."""
    try:
        async with asyncio.timeout(_MAX_S):
            t0 = await _under_load(run)
    except TimeoutError:
        raise UnmeasuredError(f"a run took longer than {_MAX_S:g} s") from None
    return RunResult(lag_s=run.lag_s, lanes=tuple(lane.result(t0=t0) for lane in run.lanes))


async def _under_load(run: Run) -> float:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as clients:
        for lane in run.lanes:
            clients.create_task(lane.serve(stop))
        run.t0 = loop.time() + WARM_S
        await asyncio.sleep(WARM_S)
        t0 = run.t0 = loop.time()
        async with asyncio.TaskGroup() as endings:
            for lane in run.lanes:
                endings.create_task(lane.end_old_pod(t0=t0, lag_s=run.lag_s))
        await asyncio.sleep(_TAIL_S)
        stop.set()
    return t0
