"""`drainproxy rollout KIND/NAME`: what became of the pods of a rollout, and what to change.

Joins what survives of them (fleet/follow.py) into a table, one verdict and advice (fleet/verdict.py). Changes
nothing. Called by main.py.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from drainproxy import config
from drainproxy.cli.wiring import wiring
from drainproxy.errors import ConfigError, KubernetesError
from drainproxy.fleet import reports, workloads
from drainproxy.fleet.departures import Departure, Departures, as_json
from drainproxy.fleet.follow import Follower
from drainproxy.fleet.verdict import Verdict, judge
from drainproxy.kube import owners
from drainproxy.kube.client import connect
from drainproxy.kube.settings import KubeSettings
from drainproxy.log import plain
from drainproxy.metrics import Metrics

EXIT_UNKNOWN = 2
EXIT_UNREACHABLE = 69
PIPE_WIDTH = 200
MAX_ROWS = 200
NUMBERS = ("finished", "cut", "timed_out", "refused", "lost", "told_to_leave")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for; times in seconds."""

    target: str
    namespace: str
    watch: bool
    since_s: float
    timeout_s: float
    as_json: bool


def run(wanted: Wanted, settings: KubeSettings) -> int:
    """Show a rollout; return 0, 1 or 2. Raises ConfigError for a target that is none."""
    word, _, name = wanted.target.partition("/")
    kind = owners.kind_of(word)
    if kind is None or not name:
        what = config.quote(wanted.target)
        raise ConfigError([f"{what} is no workload; write deploy/NAME, sts/NAME, ds/NAME or rollout/NAME"])
    # A pipe has no width: nothing is folded for it.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(highlight=False, markup=False, stderr=wanted.as_json, width=width)
    # What is wrong with a kubeconfig is said once, here, and not by the library as well.
    logging.disable()
    try:
        follower, over = asyncio.run(_follow(wanted, kind, name, settings, console))
    except KubernetesError as error:
        print(plain(f"drainproxy: {wanted.target} in namespace {wanted.namespace}: {error}"), file=sys.stderr)
        return EXIT_UNREACHABLE
    verdict = judge(follower.found, follower.missing, wiring)
    what = f"{wanted.target} in namespace {wanted.namespace}"
    notes = list(_notes(follower, wanted, over=over))
    if wanted.as_json:
        print(json.dumps(_document(follower, verdict, what, notes), indent=2))
    else:
        _show(console, follower.found, verdict, what, notes)
    return verdict.exit_code or (0 if over and _all_known(follower, wanted) else EXIT_UNKNOWN)


def _all_known(follower: Follower, wanted: Wanted) -> bool:
    """Tell whether every pod that left is known: afterwards only Events tell of those that are gone."""
    return "pods" not in follower.missing and (wanted.watch or "events" not in follower.missing)


async def _follow(
    wanted: Wanted, kind: owners.Kind, name: str, settings: KubeSettings, console: Console
) -> tuple[Follower, bool]:
    """Return what was found, and whether it was over when nobody looked any more."""
    found = Departures(name, datetime.now(UTC) - timedelta(seconds=wanted.since_s))
    async with connect(settings, Metrics()) as api:
        follower = Follower(api=api, kind=kind, name=name, namespace=wanted.namespace, found=found)
        if wanted.watch:
            follower.say = lambda each: console.print(_line(each))
        await follower.look()
        if wanted.watch:
            return follower, await follower.until_over(wanted.timeout_s)
        return follower, await follower.until_gone()


def _line(each: Departure) -> Text:
    """Say as it happens that a pod leaves, or what became of it."""
    at = f"{datetime.now(UTC):%H:%M:%S}Z  {plain(each.pod)}  "
    if not each.gone:
        return Text(f"{at}leaves")
    if each.report is None:
        return Text(f"{at}is gone{', its sidecar unheard' if each.sidecar is not None else ''}")
    said = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in _counts(each.report) if count)
    took = f"{reports.seconds(each.report):.1f} s, {each.report['propagation_ended']}"
    return Text(f"{at}is gone after {took}: {said or 'nothing to finish'}")


def _notes(follower: Follower, wanted: Wanted, *, over: bool) -> Iterator[str]:
    """Say what is missing from the picture."""
    for what, why in follower.missing.items():
        yield f"{what} could not be read: {why}"
    if "events" in follower.missing and not wanted.watch:
        yield "which pods were gone before this command began only Events tell"
    if follower.found.dropped:
        yield f"{follower.found.dropped} more pods are left out"
    if not over and wanted.watch and not len(follower.found):
        yield f"no rollout began within {wanted.timeout_s:g} s"
    elif not over:
        waits = workloads.unsettled(follower.kind, follower.workload)
        yield f"it was not over when the time was: {waits or 'pods are still leaving'}"
    found = list(follower.found)
    if any(each.probes_failed for each in found):
        yield (
            'Warning events "Readiness probe failed" of pods that leave are how a drain tells the kubelet:'
            " /readyz says 503 from its start on, on purpose"
        )


def _counts(report: reports.Report) -> list[tuple[str, int]]:
    said = reports.counts(report)
    return [(name, said[name]) for name in NUMBERS]


def _show(console: Console, found: Departures, verdict: Verdict, what: str, notes: list[str]) -> None:
    everybody = list(found)
    if everybody:
        console.print(_table(everybody[:MAX_ROWS], verdict), "", sep="\n")
        if len(everybody) > MAX_ROWS:
            console.print(f"and {len(everybody) - MAX_ROWS} more")
    for note in notes:
        console.print(Text(plain(note), style="yellow"))
    for advice in verdict.advice:
        which = "all" if len(advice.pods) == len(everybody) else str(len(advice.pods))
        console.print(Text.assemble((f"{advice.kind}", "bold"), f" ({which}): ", plain(advice.sentence)))
    for pod, why in list(verdict.unknown.items())[:MAX_ROWS]:
        console.print(Text(plain(f"not known for {pod}: {why}"), style="yellow"))
    style = {0: "bold green", 1: "bold red"}.get(verdict.exit_code, "bold yellow")
    console.print(Text(plain(verdict.sentence(what)), style=style))


def _table(found: list[Departure], verdict: Verdict) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("pod", "cause", "seconds", "propagation ended", "late after flip"):
        table.add_column(title, justify="left" if title in {"pod", "cause", "propagation ended"} else "right")
    for name in (*NUMBERS, "unused", "seen in"):
        table.add_column(name.replace("_", " "), justify="left" if name == "seen in" else "right")
    for each in found:
        table.add_row(*_row(each), style="red" if each.pod in verdict.lost else "")
    return table


def _row(each: Departure) -> list[str]:
    name = plain(each.pod) + (" (restarted)" if each.restart else "" if each.gone else " (leaving)")
    took = "-" if each.took_s is None else f"{each.took_s:.1f}"
    report = each.report
    if report is None:
        nothing = ["-"] * (len(NUMBERS) + 1)
        return [name, "evicted" if each.evicted else "-", took, "-", "-", *nothing, "-"]
    flip_s = report.get("last_late_after_flip_s")
    return [
        name,
        plain(report["cause"]),
        took,
        plain(report["propagation_ended"] or "-"),
        "-" if flip_s is None else f"{flip_s:.1f}",
        *(f"{count:,}" for _, count in _counts(report)),
        f"{report.get('unused_s', 0.0):.1f}",
        each.source,
    ]


def _document(follower: Follower, verdict: Verdict, what: str, notes: list[str]) -> dict[str, Any]:
    return {
        "workload": {"kind": follower.kind.kind, "name": follower.name, "namespace": follower.namespace},
        "since": follower.found.since.isoformat(timespec="seconds"),
        "verdict": verdict.sentence(what),
        "exit_code": verdict.exit_code,
        "lost": verdict.lost,
        "unknown": verdict.unknown,
        "advice": [asdict(each) for each in verdict.advice],
        "missing": follower.missing,
        "notes": notes,
        "pods": [as_json(each) for each in follower.found],
    }
