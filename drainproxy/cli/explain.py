"""What a configuration amounts to, for people and for scripts: every setting with its source, and the sum.

Called by `drainproxy config` and `drainproxy inject`. Decides nothing: others have checked everything.
"""

import dataclasses
import difflib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from drainproxy.config import DEFAULT, Config
from drainproxy.injector.manifest import Stream
from drainproxy.lifecycle.budget import LEAVE_MARGIN_S, MIN_STOP_S
from drainproxy.log import plain
from drainproxy.proxy.limits.capacity import measure
from drainproxy.settings import Setting, table
from drainproxy.values import show_duration

PIPE_WIDTH = 1000


def show(config: Config) -> None:
    """Print the settings in effect, the division of the grace period, and what is doubtful."""
    # A pipe has no width: nothing is folded for it.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    # An IPv6 address in its brackets looks like markup.
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
    rows = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("setting", "value", "from"):
        rows.add_column(title, overflow="fold")
    for setting, value, source in effective(config):
        style = "dim" if source == DEFAULT else ""
        rows.add_row(setting.name, setting.show(value) or "-", source, style=style)
    console.print(rows)
    console.print()
    for line in sum_in_words(config):
        console.print(line)
    capacity = measure(config.proxy)
    console.print(f"With the memory and the descriptors here: max_connections {capacity.max_connections},")
    console.print(f"max_buffer_bytes {capacity.max_buffer_bytes}.")
    for warning in config.warnings:
        console.print()
        console.print(f"warning: {warning}", style="yellow")


def effective(config: Config) -> Iterator[tuple[Setting, Any, str]]:
    """Yield each setting, the value in effect and where it came from."""
    for setting in table():
        value = config.value(setting)
        source = config.sources.get(setting.name, DEFAULT)
        part = setting.name.removeprefix("propagation_")
        if value is None and part != setting.name:
            value = getattr(config.rules, f"{part}_s")
            source = f"preset {config.lifecycle.propagation}"
        yield setting, value, source


def sum_in_words(config: Config) -> list[str]:
    """Say who gets which part of the grace period."""
    budget = config.budget()
    known = config.lifecycle.grace_period is not None
    assumed = "" if known else " (assumed, as Kubernetes does; set grace_period to the pod's)"
    spread = show_duration(config.lifecycle.leave_spread)
    settings = config.lifecycle
    shares = (
        (
            budget.propagation_max_s,
            config.rules.max_s,
            "at most, until the cluster stops choosing this pod (propagation_max{short})",
        ),
        (
            budget.leave_s,
            settings.leave_spread + LEAVE_MARGIN_S,
            f"for tunnels and streams to leave (leave_spread {spread} + {LEAVE_MARGIN_S:g}s{{short}})",
        ),
        (budget.app_stop_s, settings.app_stop, "for the application to stop (app_stop{short})"),
        (budget.reserve_s, settings.reserve, "for cutting, reporting and exiting (reserve{short})"),
    )
    spare_s = max(0.0, budget.grace_s - sum(share_s for share_s, _, _ in shares))
    lines = [f"From SIGTERM to SIGKILL the pod has {show_duration(budget.grace_s)}{assumed}:"]
    for share_s, wanted_s, what in (*shares, (spare_s, spare_s, "to spare")):
        shortened = budget.problems and share_s < wanted_s
        short = f", shortened from {show_duration(wanted_s)}" if shortened else ""
        lines.append(f"{show_duration(round(share_s, 3)):>8}  {what.format(short=short)}")
    until_s = budget.deadline(0.0)
    until, at_last = (show_duration(round(seconds, 3)) for seconds in (until_s, until_s + budget.overtime_s))
    lines.append(f"Requests are finished meanwhile, until {until} after SIGTERM at the latest.")
    if budget.overtime_s:
        lines.append(
            f"From then on the kubelet gives the application {MIN_STOP_S:g}s to stop; beside a native sidecar"
            f" its requests are finished until {at_last}."
        )
    return lines


def as_json(config: Config) -> str:
    """Return the same for scripts; durations in seconds."""
    return json.dumps(
        {
            "settings": {
                setting.name: {"value": None if value is None else setting.show(value), "source": source}
                for setting, value, source in effective(config)
            },
            "plan": dataclasses.asdict(config.budget()),
            "warnings": config.warnings,
        },
        indent=2,
    )


def injection_in_words(stream: Stream) -> Iterator[str]:
    """Say of each workload what became of it, and what somebody should know."""
    yield from (document.problem for document in stream.documents if document.problem)
    for workload in stream.workloads:
        if workload.injected is not None:
            yield f"{workload.name}: gets the sidecar"
            yield from (f"{workload.name}: {sentence}" for sentence in workload.injected.said)
        elif workload.refusal:
            yield from (f"{workload.name}: stays as it is: {problem}" for problem in workload.refusal)
        else:
            yield f"{workload.name}: stays as it is: {workload.why_not}"
    yield from stream.said()
    if not stream.workloads:
        yield "there is no workload in it"


def show_injection(stream: Stream, names: Sequence[str]) -> None:
    """Print what `inject` would change, who listens where, the sum, what is doubtful, and the way back."""
    files = [("input.yaml" if name == "-" else name, "" if name == "-" else name) for name in names]
    changed = []
    for shown, name in files:
        documents = [each for each in stream.documents if each.file == name]
        before, after = ("".join(getattr(each, side) for each in documents) for side in ("before", "after"))
        changed += [shown] if before != after else []
        for line in difflib.unified_diff(
            before.splitlines(), after.splitlines(), shown, "injected", lineterm=""
        ):
            print(plain(line))
    for workload in stream.workloads:
        if workload.injected is None:
            continue
        print(f"\n{plain(workload.name)}:")
        for each in workload.injected.taken:
            where = f"{plain(each.name)} " if each.name else ""
            print(
                f"  port {where}{each.listens} -> drainproxy -> {each.protocol}://127.0.0.1:{each.application}"
            )
        for line in sum_in_words(workload.injected.config):
            print(f"  {line}")
    print()
    for line in injection_in_words(stream):
        print(plain(line))
    if changed:
        back = " ".join(f"-f {name}" for name in changed)
        print(f"The way back: kubectl apply {back}, as it is now; nothing that is not shown here changes.")
