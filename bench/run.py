"""The order of a whole run: rounds with every contender in each, then what needs measuring only a few times.

Contenders take turns inside a round, so that a noisy minute falls on all of them.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.application import application
from bench.ending import exit_time, prestop_helper
from bench.footprint import footprint
from bench.idle import idle_connections
from bench.processes import BenchError, two_cores
from bench.proxies import COMPILED, CONTENDERS, MEASURE, OURS
from bench.results import OF_ENVOY, OF_NGINX, OF_PURE, Column, Figure, add_ratios
from bench.rounds import Setting, direct_latency, one_round

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.proxies import Contender

EXITS = 3
WITH_IDLE_CONNECTIONS = (OURS, COMPILED, MEASURE)


def measure_all(columns: list[Column], *, rounds: int, seconds: int, tell: Callable[[str], None]) -> None:
    """Fill the columns of everything that is installed; `tell` hears what is going on."""
    cores = two_cores()
    os.sched_setaffinity(0, {cores.load})
    by_name = {contender.name: contender for contender in CONTENDERS}
    pairs = [(by_name[column.name], column) for column in columns if column.version is not None]
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        application(Path(directory) / "application", core=cores.load) as app,
    ):
        setting = Setting(cores, app, Path(directory), seconds)
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}")
            _round(pairs, setting, number)
        for contender, column in pairs:
            if column.failure is None:
                _once(contender, column, setting, tell)
    named = {column.name: column for column in columns}
    add_ratios(columns, named[MEASURE], OF_NGINX)
    if "envoy" in named:
        add_ratios(columns, named["envoy"], OF_ENVOY)
    if OURS in named and COMPILED in named:
        add_ratios([named[COMPILED]], named[OURS], OF_PURE)


def _round(pairs: list[tuple[Contender, Column]], setting: Setting, number: int) -> None:
    direct = direct_latency(setting)
    for contender, column in pairs:
        if column.failure is None:
            with _sentence_for(column):
                one_round(contender, column, setting=setting, number=number, direct=direct)


def _once(contender: Contender, column: Column, setting: Setting, tell: Callable[[str], None]) -> None:
    tell(f"{contender.name}: its exit")
    with _sentence_for(column, Figure.EXIT):
        for number in range(EXITS):
            exit_time(contender, column, setting, number)
    if contender.name in WITH_IDLE_CONNECTIONS:
        tell(f"{contender.name}: idle connections")
        with _sentence_for(column, Figure.RSS_CONNECTIONS):
            idle_connections(contender, column, setting)
    if contender.name in {OURS, COMPILED}:
        tell(f"{contender.name}: a sidecar that nobody asks")
        with _sentence_for(column, Figure.RSS_POD):
            footprint(contender, column)
    if contender.name == OURS:
        tell("the preStop helper")
        with _sentence_for(column, Figure.PRESTOP_CPU):
            prestop_helper(contender, column, setting)


@contextmanager
def _sentence_for(column: Column, figure: Figure | None = None) -> Iterator[None]:
    """A measurement that fails becomes a sentence: for one figure, or in place of the whole column."""
    try:
        yield
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        sentence = str(error) if isinstance(error, BenchError) else repr(error)
        if figure is None:
            column.failure = sentence
        else:
            column.words[figure] = "error"
            column.sentences.append(f"{figure.value.title}: {sentence}")
