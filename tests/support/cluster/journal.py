"""What was asked of the API server, and when."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from tests.support.wire import PATIENCE_S


@dataclass(slots=True)
class Asked:
    """One request. `status` is 0 until the answer's head is sent; `events` counts what a watch was sent."""

    at: float
    """Of the monotonic clock, which every process of the machine shares."""
    verb: str
    resource: str
    namespace: str | None
    name: str | None
    query: dict[str, str]
    agent: str
    subject: str = ""
    status: int = 0
    events: int = 0
    over: bool = False


class Journal:
    """Requests and connections, oldest first."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.connections: list[float] = []
        """When each was made."""
        self._changed = asyncio.Event()

    def note(self, asked: Asked) -> None:
        """A request came."""
        self.requests.append(asked)
        self.stir()

    def stir(self) -> None:
        """Wake whoever waits for something here."""
        self._changed.set()
        self._changed = asyncio.Event()

    def of(self, verb: str | None = None, resource: str | None = None) -> list[Asked]:
        """Return the requests with this verb, about this resource."""
        return [
            each for each in self.requests if verb in (None, each.verb) and resource in (None, each.resource)
        ]

    async def nth(self, verb: str | None = None, resource: str | None = None, *, number: int = 1) -> Asked:
        """Return the `number`th such request; wait until it has come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := self.of(verb, resource)) < number:
                await self._changed.wait()
        return found[number - 1]

    async def until(self, reached: Any) -> None:
        """Wait until `reached()`, asked again after each request, head and event."""
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                await self._changed.wait()

    def since(self, at: float) -> list[Asked]:
        """Return the requests after a moment of the monotonic clock."""
        return [each for each in self.requests if each.at >= at]

    def most_within(self, seconds: float, *, since: float = 0.0) -> int:
        """Return the largest number of requests in any stretch of so many seconds."""
        times = [each.at for each in self.since(since)]
        return max((sum(start <= at < start + seconds for at in times) for start in times), default=0)


def now() -> float:
    """Return the journal's clock."""
    return time.monotonic()
