"""The verb `probe`: reads its arguments, runs the measurement, shows it, says 0 or 1.

Called by the command line with `add_arguments` and `run`. Exit code 1 when a request was lost, 0 when
none was, 64 when it could not begin; the command's own exit code is reported, not passed on.
"""

import argparse
import asyncio
import json
import ssl

from rich.console import Console

from drainproxy.errors import ConfigError
from drainproxy.proof.client import Request
from drainproxy.proof.probe.kubectl import led
from drainproxy.proof.probe.measurement import Measurement, measure
from drainproxy.proof.probe.plan import (
    DEFAULT_DURATION_S,
    DEFAULT_DURATION_WITH_COMMAND_S,
    Plan,
    field,
    rate,
    span,
    target,
)
from drainproxy.proof.probe.record import record
from drainproxy.proof.probe.view import LiveView, summary
from drainproxy.proof.process import cancelled_by_signals

EXIT_LOST = 1
EXIT_USAGE = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", type=target, help="http or https, as clients use it")
    parser.add_argument("--rate", type=rate, default=50.0, help="requests a second (default 50)")
    parser.add_argument(
        "--duration", type=span, help="stop sending after this (default 30s, with a COMMAND 15m)"
    )
    habit = parser.add_mutually_exclusive_group()
    for flag, words in (
        ("keep-alive", "every connection is kept and used again"),
        ("new-connections", "every request has a connection of its own"),
        ("mix", "half and half (default)"),
    ):
        habit.add_argument(
            f"--{flag}",
            dest="connections",
            action="store_const",
            const=flag.removesuffix("-connections"),
            help=words,
        )
    parser.add_argument("--timeout", type=span, default=10.0, help="a caller's patience (10s)")
    parser.add_argument("--method", default="GET", choices=("GET", "HEAD", "POST", "PUT", "DELETE"))
    parser.add_argument(
        "--header",
        type=field,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a field to send, repeatable",
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    for *flags, what in (("-n", "--namespace", "NAME"), ("--context", "NAME"), ("--kubeconfig", "FILE")):
        parser.add_argument(*flags, metavar=what, help="told to a COMMAND that is kubectl")
    parser.add_argument(
        "command", nargs="*", metavar="-- COMMAND", help="what to run meanwhile, for instance a rollout"
    )
    parser.set_defaults(connections="mix")


def run(options: argparse.Namespace) -> int:
    """Probe as the arguments say; returns the exit code. Raises ConfigError."""
    plan = _plan(options)
    console = Console(stderr=options.json, highlight=False)
    done: list[Measurement] = []
    try:
        asyncio.run(_probe(plan, console, done))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted; this is what was measured until then", style="yellow")
    if not done:
        return EXIT_USAGE
    measurement = done[0]
    if measurement.command_error:
        console.print(measurement.command_error, style="bold red", markup=False)
        return EXIT_USAGE
    console.print(summary(measurement))
    if options.json:
        print(json.dumps(record(measurement), indent=2))
    return EXIT_LOST if measurement.pace.tally.lost else 0


async def _probe(plan: Plan, console: Console, done: list[Measurement]) -> None:
    measurement = Measurement(plan)
    done.append(measurement)
    view = LiveView(console, measurement)
    with cancelled_by_signals():
        async with asyncio.TaskGroup() as group:
            screen = group.create_task(view.refresh())
            await measure(measurement, view.show_line)
            screen.cancel()


def _plan(options: argparse.Namespace) -> Plan:
    command = _command(options)
    default_s = DEFAULT_DURATION_WITH_COMMAND_S if command else DEFAULT_DURATION_S
    goal = options.url
    return Plan(
        url=goal.url,
        address=goal.address,
        tls=ssl.create_default_context() if goal.secure else None,
        request=Request(
            method=options.method,
            path=goal.path,
            host=goal.host,
            fields=(("User-Agent", "drainproxy-probe"), *options.header),
        ),
        rate=options.rate,
        duration_s=options.duration or default_s,
        timeout_s=options.timeout,
        connections=options.connections,
        command=command,
    )


def _command(options: argparse.Namespace) -> tuple[str, ...]:
    """Return what is to be run, told which cluster is meant. Raises ConfigError where it is no kubectl."""
    words = tuple(options.command)
    given = {name: getattr(options, name) for name in ("namespace", "context", "kubeconfig")}
    flags = tuple(f"--{name}={value}" for name, value in given.items() if value)
    command = led(words, flags) if flags else words
    if command is None:
        what = " ".join(flags)
        raise ConfigError([f"{what} is for a command that is kubectl, behind --; write it into the command"])
    return command
