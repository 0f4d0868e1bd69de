"""One round of one contender: started afresh, loaded three ways, ended. It adds one sample to each figure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.application import LARGE, LARGE_BODY, SMALL, SMALL_BODY, Application
from bench.client import check_answer
from bench.load import CLOSED_LOOP, MODERATE_RATE, Load, wrk
from bench.measure import cpu_s, peak_rss_mb, private_mb, rss_mb
from bench.processes import BenchError, Cores, Program
from bench.results import Column, Figure

if TYPE_CHECKING:
    from pathlib import Path

    from bench.proxies import Contender, Place

CONNECTIONS = 64
LARGE_CONNECTIONS = 16
"""Enough to keep the core busy; 64 MiB on the way would measure the load generator's memory instead."""
WARM_UP_S = 1.0
IDLE_S = 0.5
"""After becoming ready and before its memory is read."""
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """What all contenders share in a run."""

    cores: Cores
    application: Application
    directory: Path
    seconds: float


def direct_latency(setting: Setting) -> Load:
    """The moderate rate straight to the application: what the added latency is added to."""
    return _load(setting.application.port, setting, script=MODERATE_RATE)


def one_round(contender: Contender, column: Column, *, setting: Setting, number: int, direct: Load) -> None:
    """Add one sample of every figure taken under load, and of start-up and memory."""
    directory = setting.directory / f"{contender.name}-{number}"
    upstream = setting.application.port
    before = time.monotonic()
    with contender.starting(core=setting.cores.proxy, upstream=upstream, directory=directory) as (
        program,
        place,
    ):
        contender.wait_ready(program, place)
        column.add(Figure.START, (time.monotonic() - before) * 1000)
        time.sleep(IDLE_S)
        column.add(Figure.RSS_IDLE, rss_mb(program.pid))
        column.add(Figure.PRIVATE_IDLE, private_mb(program.pid))
        _small_responses(column, program, place, setting)
        _large_responses(column, program, place, setting)
        column.add(Figure.RSS_PEAK, peak_rss_mb(program.pid))
        through = _load(place.listen, setting, script=MODERATE_RATE)
        column.add(Figure.P50, through.p50_us - direct.p50_us)
        column.add(Figure.P99, through.p99_us - direct.p99_us)


def _small_responses(column: Column, program: Program, place: Place, setting: Setting) -> None:
    check_answer(place.listen, SMALL, SMALL_BODY)
    _load(place.listen, setting, script=CLOSED_LOOP, seconds=WARM_UP_S)
    served, used = setting.application.served(), cpu_s(program.pid)
    load = _load(place.listen, setting, script=CLOSED_LOOP)
    used = cpu_s(program.pid) - used
    _refuse_invented_answers(setting.application.served() - served, load)
    check_answer(place.listen, SMALL, SMALL_BODY)
    column.add(Figure.CPU, used * 1e6 / load.requests)
    column.add(Figure.RATE, load.requests / load.seconds)


def _large_responses(column: Column, program: Program, place: Place, setting: Setting) -> None:
    check_answer(place.listen, LARGE, LARGE_BODY)
    served, used = setting.application.served(), cpu_s(program.pid)
    load = wrk(
        f"http://127.0.0.1:{place.listen}{LARGE}",
        script=CLOSED_LOOP,
        connections=LARGE_CONNECTIONS,
        seconds=setting.seconds,
        body=LARGE_BODY,
    )
    used = cpu_s(program.pid) - used
    _refuse_invented_answers(setting.application.served() - served, load)
    check_answer(place.listen, LARGE, LARGE_BODY)
    # Bytes received, not requests times size: answers cut off by the end of the run cost CPU too.
    column.add(Figure.BYTES, used * 1e6 / (load.received_bytes / MIB))


def _load(port: int, setting: Setting, *, script: Path, seconds: float | None = None) -> Load:
    return wrk(
        f"http://127.0.0.1:{port}{SMALL}",
        script=script,
        connections=CONNECTIONS,
        seconds=seconds or setting.seconds,
        body=SMALL_BODY,
    )


def _refuse_invented_answers(served: int, load: Load) -> None:
    if served < load.requests:
        raise BenchError(f"{load.requests} answers, but the application served only {served}.")
