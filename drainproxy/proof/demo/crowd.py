"""Crowd: the clients of one lane, each doing one thing again and again until told to stop.

The mix is light on purpose: what is shown is what a pod's end does, not how much load it bears.
Those who stay on one connection sit elsewhere (long_lived_clients.py).
"""

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drainproxy.proof.client import Address, Client, Request
from drainproxy.proof.demo.ledger import read_orders
from drainproxy.proof.demo.results import LoadResult, LossResult
from drainproxy.proof.outcomes import Kind, Outcome
from drainproxy.proof.tally import Tally
from drainproxy.proof.waiting import happens_before

_HOST = "shop.example"
_PATIENCE_S = 5.0  # two seconds more than the slowest answer takes
_PRESSED_AGAIN_S = 1.0
_SPREAD_S = 1.0
_MAX_REQUESTS_EACH = 2_000  # a bound: at ten a second a client sends some 250


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    clients: int
    every_s: float  # from one request's start to the next one's, if the first is over by then
    keep_alive: bool
    request: Request


def roles(*, slow_s: float, stream_s: float) -> tuple[Role, ...]:
    hello = Request(method="GET", path="/", host=_HOST)
    order = Request(
        method="POST", path="/orders", host=_HOST, parts=(b"one ", b"two ", b"three"), pause_s=0.01
    )
    slow = Request(method="GET", path=f"/slow?seconds={slow_s:g}", host=_HOST)
    stream = Request(method="GET", path=f"/stream?seconds={stream_s:g}", host=_HOST)
    return (
        Role("GET, kept connection", 4, 0.1, keep_alive=True, request=hello),
        Role("GET, new connection", 3, 0.1, keep_alive=False, request=hello),
        Role("POST, kept connection", 2, 0.125, keep_alive=True, request=order),
        Role("POST, new connection", 1, 0.125, keep_alive=False, request=order),
        Role("slow answer", 3, 0.25, keep_alive=False, request=slow),
        Role("streamed answer", 3, 0.25, keep_alive=False, request=stream),
        Role("sparse", 1, 3.0, keep_alive=False, request=hello),
    )


class Crowd:
    """Written by its clients' tasks, which share one loop."""

    def __init__(
        self,
        name: str,
        choose: Callable[[], Address],
        cast: tuple[Role, ...],
        *,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self.name = name
        self.total = Tally(0.0)
        self.requests_by_role = dict.fromkeys((role.name for role in cast), 0)
        self.losses: list[tuple[str, Outcome]] = []  # each with its role
        self.acknowledged: set[str] = set()  # orders answered with 201
        self._choose = choose
        self._cast = cast
        self._patience_s = patience_s

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then every client still finishes the request it is in."""
        async with asyncio.TaskGroup() as group:
            for role in self._cast:
                for number in range(role.clients):
                    group.create_task(self._play(role, number, stop))

    def result(self, ledger: Path, *, t0: float) -> LoadResult:
        """What it saw, in times from `t0`; call it when it has stopped."""
        return LoadResult(
            requests=self.total.requests,
            retried=self.total.retried,
            losses=tuple(
                LossResult(
                    after_s=loss.sent_at - t0,
                    took_s=loss.took_s,
                    role=role,
                    kind=loss.kind or Kind.INVALID,
                    error=loss.error,
                    pod=loss.peer,
                )
                for role, loss in sorted(self.losses, key=lambda each: each[1].sent_at)
            ),
            orders=read_orders(ledger, crowd=self.name, acknowledged=self.acknowledged),
            requests_by_role=self.requests_by_role,
        )

    async def _play(self, role: Role, number: int, stop: asyncio.Event) -> None:
        client = Client(choose=self._choose, keep_alive=role.keep_alive, timeout_s=self._patience_s)
        loop = asyncio.get_running_loop()
        # Spread out, so that a lane's clients do not march in step.
        spread_s = max(role.every_s, _SPREAD_S) * number / role.clients
        next_at = loop.time() + spread_s
        try:
            for count in range(_MAX_REQUESTS_EACH):
                if await happens_before(stop, next_at):
                    return
                next_at = max(next_at + role.every_s, loop.time())
                await self._once(role, client, f"{self.name}/{role.name}/{number}/{count}")
        finally:
            client.close()

    async def _once(self, role: Role, client: Client, key: str) -> None:
        if role.request.method != "POST":
            self._add(role, await client.send(role.request))
            return
        request = _with_key(role.request, key)
        outcome = await self._order(role, client, request, key)
        if outcome.lost:
            # Whoever gets no answer to an order presses the button again: that is how one becomes two.
            await asyncio.sleep(_PRESSED_AGAIN_S)
            await self._order(role, client, request, key)

    async def _order(self, role: Role, client: Client, request: Request, key: str) -> Outcome:
        outcome = self._add(role, await client.send(request))
        if not outcome.lost:
            self.acknowledged.add(key)
        return outcome

    def _add(self, role: Role, seen: Outcome) -> Outcome:
        outcome = _judged(seen)
        self.total.add(outcome)
        self.requests_by_role[role.name] += 1
        if outcome.lost:
            self.losses.append((role.name, outcome))
        return outcome


def _judged(outcome: Outcome) -> Outcome:
    """The application of the demo answers 200 or 201; any other answer is somebody else's, and a loss."""
    if outcome.kind is not None or outcome.status in (200, 201):
        return outcome
    error = f"status {outcome.status}, which the application never sends"
    return dataclasses.replace(outcome, kind=Kind.INVALID, error=error)


def _with_key(request: Request, key: str) -> Request:
    return dataclasses.replace(request, fields=(("Idempotency-Key", key),))
