"""Pace: an open loop. A request leaves when its time has come, whether or not the last one is back.

A closed loop would go quiet exactly while the service is down and then report few losses.
What is in flight is bounded; a tick that finds the bound reached is counted as held back.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable

from drainproxy.proof.client import Client
from drainproxy.proof.outcomes import Outcome
from drainproxy.proof.probe.plan import Plan
from drainproxy.proof.tally import Tally
from drainproxy.proof.waiting import happens_before

_MAX_IN_FLIGHT = 2_000
_MAX_CATCH_UP_S = 1.0  # after a stall of our own, the ticks older than this are held back, not sent


class Pace:
    """Written by its own tasks only; the view reads the tally and the numbers."""

    on_loss: Callable[[Outcome], None]

    def __init__(self, plan: Plan, *, began_at: float) -> None:
        self.plan = plan
        self.tally = Tally(began_at)
        self.in_flight = 0
        self.held_back = 0
        self.on_loss = lambda _: None
        self._idle: deque[Client] = deque()
        self._clients: set[Client] = set()
        self._max_in_flight = min(_MAX_IN_FLIGHT, math.ceil(plan.rate * plan.timeout_s) + 1)

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` or until the duration is over, then wait for what is in flight."""
        loop = asyncio.get_running_loop()
        plan = self.plan
        total = max(1, round(plan.rate * plan.duration_s))
        tick = 0
        try:
            async with asyncio.TaskGroup() as requests:
                while tick < total and not stop.is_set():
                    now = loop.time()
                    due = min(total, math.floor((now - self.tally.began_at) * plan.rate) + 1)
                    stale = due - tick - max(1, math.ceil(plan.rate * _MAX_CATCH_UP_S))
                    if stale > 0:
                        self.held_back += stale
                        tick += stale
                    for number in range(tick, due):
                        self._launch(requests, number)
                    tick = due
                    await happens_before(stop, self.tally.began_at + tick / plan.rate)
        finally:
            for client in self._clients:
                client.close()

    def _launch(self, requests: asyncio.TaskGroup, number: int) -> None:
        if self.in_flight >= self._max_in_flight:
            self.held_back += 1
            return
        self.in_flight += 1
        connections = self.plan.connections
        keep_alive = connections == "keep-alive" or (connections == "mix" and number % 2 == 0)
        requests.create_task(self._send(keep_alive=keep_alive))

    async def _send(self, *, keep_alive: bool) -> None:
        # The connection idle for longest goes first, so that all of them are tried in turn.
        client = self._idle.popleft() if keep_alive and self._idle else self._client(keep_alive)
        try:
            outcome = await client.send(self.plan.request)
        finally:
            self.in_flight -= 1
        if keep_alive:
            self._idle.append(client)
        else:
            self._clients.discard(client)
        self.tally.add(outcome)
        if outcome.lost:
            self.on_loss(outcome)

    def _client(self, keep_alive: bool) -> Client:
        plan = self.plan
        client = Client(
            choose=lambda: plan.address, keep_alive=keep_alive, timeout_s=plan.timeout_s, tls=plan.tls
        )
        self._clients.add(client)
        return client
