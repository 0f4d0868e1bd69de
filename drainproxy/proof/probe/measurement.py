"""Measurement: one probe from its first request to its last, and the facts it leaves behind.

Decides when to stop: at the duration, or shortly after the command ended. Shows nothing itself.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from drainproxy.proof.probe.command import CommandError, Ended, run_command
from drainproxy.proof.probe.pace import Pace
from drainproxy.proof.probe.plan import Plan

# A rollout tool returns when the new pods are ready; the old ones are just being told to leave.
AFTER_COMMAND_S = 5.0


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
                    measurement.command = await run_command(measurement.plan.command, show_line)
                    await asyncio.wait([load], timeout=AFTER_COMMAND_S)
                except CommandError as error:
                    measurement.command_error = str(error)
                stop.set()
    finally:
        measurement.ended_at = loop.time()
