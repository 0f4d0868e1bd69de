"""When a measurement ends, and what it does with the command."""

import asyncio
import sys

import pytest

from drainproxy.proof.client import Request
from drainproxy.proof.probe import measurement as measurements
from drainproxy.proof.probe.command import CommandError, run_command
from drainproxy.proof.probe.measurement import Measurement, measure
from drainproxy.proof.probe.plan import Plan
from tests.proof.scripted import OK, Conversation, for_ever_ok, serve

WAITS_FOR_A_BYTE = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(1)"


def plan_of(address: tuple[str, int], *command: str, duration_s: float) -> Plan:
    return Plan(
        url="http://test/",
        address=address,
        tls=None,
        request=Request(method="GET", path="/", host="test"),
        rate=100.0,
        duration_s=duration_s,
        timeout_s=10.0,
        connections="mix",
        command=command,
    )


async def test_a_command_outlives_the_measurement_and_is_not_cut():
    """It belongs to the user: a half-finished rollout helps nobody."""
    all_answered = asyncio.Event()
    answered = 0

    async def service(talk: Conversation) -> None:
        nonlocal answered
        while True:
            await talk.head()
            talk.say(OK)
            answered += 1
            if answered == 10:
                all_answered.set()

    async def gate(talk: Conversation) -> None:
        await all_answered.wait()
        talk.say(b"!")

    async with serve(service) as address, serve(gate) as (_, port):
        command = (sys.executable, "-c", WAITS_FOR_A_BYTE, str(port))
        measurement = Measurement(plan_of(address, *command, duration_s=0.1))
        await measure(measurement, print)
    assert measurement.pace.tally.requests == 10
    assert measurement.command is not None
    assert measurement.command.exit_code == 0


async def test_the_load_ends_shortly_after_the_command(monkeypatch):
    """The old pods leave after the rollout tool has returned: a while is still measured, then no more."""
    monkeypatch.setattr(measurements, "AFTER_COMMAND_S", 0.05)
    async with serve(for_ever_ok) as address:
        measurement = Measurement(plan_of(address, sys.executable, "-c", "", duration_s=3600.0))
        await measure(measurement, print)
    assert measurement.command is not None
    assert measurement.took_s >= measurement.command.took_s + 0.05
    assert measurement.pace.tally.lost == 0


async def test_a_command_that_does_not_start_ends_the_measurement():
    """Nothing is measured for a rollout that never was."""
    async with serve(for_ever_ok) as address:
        measurement = Measurement(plan_of(address, "/no/such/command", duration_s=3600.0))
        await measure(measurement, print)
    assert measurement.command_error == "cannot run /no/such/command: No such file or directory"


async def test_an_interrupted_command_is_ended():
    """Cancelled while the command runs: it gets SIGTERM and is waited for."""
    started = asyncio.Event()

    async def gate(talk: Conversation) -> None:
        started.set()
        await talk.client_left()

    async with serve(gate) as (_, port), asyncio.TaskGroup() as group:
        words = (sys.executable, "-c", WAITS_FOR_A_BYTE, str(port))
        command = group.create_task(run_command(words, print))
        await started.wait()
        command.cancel()
    assert command.cancelled()


async def test_what_a_command_leaves_in_the_background_is_not_waited_for(monkeypatch):
    """A daemon that holds the pipe does not hold the probe."""
    lines: list[str] = []

    async def gate(talk: Conversation) -> None:
        await talk.client_left()

    async with serve(gate) as (_, port):
        script = (
            "import subprocess, sys; print('leaving', flush=True); "
            f"subprocess.Popen([sys.executable, '-c', {WAITS_FOR_A_BYTE!r}, '{port}'])"
        )
        ended = await run_command((sys.executable, "-c", script), lines.append)
    assert (ended.exit_code, lines) == (0, ["leaving"])


async def test_a_command_that_is_no_program_says_why():
    """The error names the command."""
    with pytest.raises(CommandError, match="cannot run /: Permission denied"):
        await run_command(("/",), print)
