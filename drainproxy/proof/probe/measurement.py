"""Measurement: one probe from its first request to its last, and the facts it leaves behind.

Decides when to stop: at the duration, or shortly after what the command has set off. Shows nothing itself.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from drainproxy.proof.probe.aftermath import Aftermath, Watcher
from drainproxy.proof.probe.command import CommandError, Ended, run_command
from drainproxy.proof.probe.kubectl import understood
from drainproxy.proof.probe.pace import Pace
from drainproxy.proof.probe.plan import Plan

AFTER_COMMAND_S = 5.0
"""For callers who are still on their way to pods that are gone. A command of which nothing is known may have
set off what takes longer, and that is said."""

FAILED = Aftermath(why="the command failed")
UNKNOWN = Aftermath(why="what the command sets off is not known here")


class Measurement:
    """Written by `measure` only; readable at any time, also after an interruption."""

    def __init__(self, plan: Plan) -> None:
        """Call it inside the loop: the clock starts here."""
        self.plan = plan
        self.began_at = asyncio.get_running_loop().time()
        self.began = datetime.now(UTC)
        self.pace = Pace(plan, began_at=self.began_at)
        self.ended_at = self.began_at  # loop time; set when it is over
        self.command: Ended | None = None
        self.command_error = ""  # why it did not start
        self.aftermath: Aftermath | None = None  # set when the command has ended

    def wall_time(self, loop_time: float) -> datetime:
        return self.began + timedelta(seconds=loop_time - self.began_at)

    @property
    def took_s(self) -> float:
        return self.ended_at - self.began_at


async def measure(measurement: Measurement, show_line: Callable[[str], None]) -> None:
    """Fill the measurement in."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            load = group.create_task(measurement.pace.run(stop))
            if measurement.plan.command:
                try:
                    await _command(measurement, load, show_line)
                except CommandError as error:
                    measurement.command_error = str(error)
                stop.set()
    finally:
        measurement.ended_at = loop.time()


async def _command(
    measurement: Measurement, load: asyncio.Task[None], show_line: Callable[[str], None]
) -> None:
    """Run the command, and stay until what it set off is over, as far as that can be told."""
    plan = measurement.plan
    order = understood(plan.command)
    watcher = None if order is None else Watcher(order, show_line)
    if watcher is not None:
        await watcher.look()
    measurement.command = await run_command(plan.command, show_line)
    measurement.aftermath = UNKNOWN
    if measurement.command.exit_code:
        measurement.aftermath = FAILED
    elif watcher is not None:
        measurement.aftermath = await watcher.over(measurement.began_at + plan.duration_s)
    await asyncio.wait([load], timeout=AFTER_COMMAND_S)
