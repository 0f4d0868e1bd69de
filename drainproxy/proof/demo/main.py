"""The verb `demo`: ends a pod four ways, with real processes on loopback, and counts what clients lost.

Needs nothing but the package. Exit code 0 when drainproxy lost and duplicated nothing, 1 when it did,
70 when something could not be measured.
"""

import argparse
import asyncio
import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from drainproxy.proof.demo import tables
from drainproxy.proof.demo.children import UnmeasuredError, children
from drainproxy.proof.demo.idle import measure_idle
from drainproxy.proof.demo.killed import kill_sidecar
from drainproxy.proof.demo.lane import WAYS, Way
from drainproxy.proof.demo.live import LiveRun
from drainproxy.proof.demo.pods import DRAINPROXY, PROPAGATION, PodMaker
from drainproxy.proof.demo.results import DemoResult, IdleResult, RunResult
from drainproxy.proof.demo.run import new_run, play, start
from drainproxy.proof.durations import duration
from drainproxy.tasks import flat

EXIT_LOST = 1
EXIT_UNMEASURED = 70

DEFAULT_LAGS_S = (0.5, 7.0)  # a quick kube-proxy, and its 99th percentile in a 100-node run
QUICK_LAGS_S = (0.5,)
MAX_LAG_S = 14.0  # the propagation preset waits 15 s at most; beyond it there is nothing to show


@dataclass(frozen=True, slots=True)
class Plan:
    lags_s: tuple[float, ...] = DEFAULT_LAGS_S
    ways: tuple[Way, ...] = WAYS
    proxy: tuple[str, ...] = DRAINPROXY  # the tests put a proxy here that loses requests


def lag(text: str) -> float:
    """An argparse type."""
    seconds = duration(text)
    if seconds > MAX_LAG_S:
        raise argparse.ArgumentTypeError(f"a lag is at most {MAX_LAG_S:g}s")
    return seconds


def writable(text: str) -> Path:
    """An argparse type: a file that can be written is better asked for now than after a minute."""
    try:
        Path(text).touch()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text}: {error.strerror}") from None
    return Path(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="one lag (0.5s) instead of two")
    parser.add_argument(
        "--lag",
        type=lag,
        action="append",
        dest="lags",
        metavar="LAG",
        help="how long the router goes on choosing the old pod, repeatable (default 0.5s and 7s)",
    )
    parser.add_argument("--json", type=writable, metavar="FILE", help="write every number and loss here")


def run(options: argparse.Namespace) -> int:
    """Play the demo as the arguments say; returns the exit code."""
    lags = options.lags or (QUICK_LAGS_S if options.quick else DEFAULT_LAGS_S)
    console = Console(highlight=False)
    try:
        return asyncio.run(perform(Plan(lags_s=tuple(lags)), console, json_file=options.json))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted; every process of the demo is gone", style="yellow")
        return EXIT_UNMEASURED


async def perform(plan: Plan, console: Console, *, json_file: Path | None = None) -> int:
    """The whole demo on one console; returns the exit code."""
    result: DemoResult | None = None
    try:
        result = await _demo(plan, console)
    except* (UnmeasuredError, OSError) as group:
        for error in flat(group):
            console.print(f"could not be measured: {error}", style="bold red", markup=False)
    if result is None:
        return EXIT_UNMEASURED
    faults, gaps = result.faults(), result.gaps()
    console.print(tables.verdict(result, faults=faults, gaps=gaps))
    if json_file:
        _write(json_file, {**dataclasses.asdict(result), "faults": faults, "gaps": gaps})
    if gaps:
        return EXIT_UNMEASURED
    return EXIT_LOST if faults else 0


def _write(file: Path, document: dict[str, object]) -> None:
    file.write_text(json.dumps(document, indent=2) + "\n")


async def _demo(plan: Plan, console: Console) -> DemoResult:
    console.print("[bold]drainproxy demo[/]  the end of a pod, four ways, on one clock")
    console.print(f"[dim]drainproxy runs with --propagation {PROPAGATION} at every lag[/]")
    runs: list[RunResult] = []
    idle: IdleResult | None = None
    with tempfile.TemporaryDirectory(prefix="drainproxy-demo-") as name:
        for lag_s in plan.lags_s:
            directory = Path(name) / str(len(runs))
            directory.mkdir()
            async with children() as owner:
                maker = PodMaker(children=owner, directory=directory, proxy=plan.proxy)
                run = new_run(lag_s, maker, plan.ways)
                ours = next(lane for lane in run.lanes if lane.way.sidecar)
                async with asyncio.TaskGroup() as group:
                    screen = group.create_task(LiveRun(console, run).show())
                    await start(run, maker)
                    idle = idle or await measure_idle(ours.new)
                    runs.append(await play(run))
                    screen.cancel()
                console.print(tables.run_report(runs[-1], ascii_only=not console.encoding.startswith("utf")))
                if len(runs) == len(plan.lags_s):
                    console.print(tables.idle_report(idle))
                    console.print(tables.KILL_HEADLINE)
                    killed = await kill_sidecar(ours.new, maker, ledger=ours.ledger)
                    console.print(tables.killed_report(killed))
    assert idle is not None
    return DemoResult(runs=tuple(runs), idle=idle, killed=killed)
