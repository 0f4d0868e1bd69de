"""What a kept GET costs, counted and not timed: calls of this package's Python functions, and looks of the
collector."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import drainproxy
from drainproxy.proxy.wire.garbage import YOUNG_OBJECTS
from tests.support.house import House
from tests.support.upstream import Upstream, answering
from tests.support.words import GET

if TYPE_CHECKING:
    from types import FrameType

PACKAGE = str(Path(drainproxy.__file__).parent)
REQUESTS = 20
CROWD = 64
MAX_CALLS = 77
"""It may only fall. A call costs some 50 ns and more than the work of most: of all that a profile can show it
is what does not depend on the machine."""


async def test_a_kept_get_takes_no_more_calls_than_it_did() -> None:
    """From the request's bytes to the answer's, on connections that both sides keep."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls[f"{Path(frame.f_code.co_filename).name}: {frame.f_code.co_qualname}"] += 1

    async with Upstream(answering()) as upstream, House(upstream, access_log="errors") as house:
        client = await house.client()
        await client.ask(GET)
        sys.setprofile(note)
        try:
            for _ in range(REQUESTS):
                await client.ask(GET)
        finally:
            sys.setprofile(None)
        assert upstream.accepted == 1
    # What comes once a second or so is none of a request's.
    of_one = {name: count // REQUESTS for name, count in calls.items() if count >= REQUESTS}
    assert sum(of_one.values()) <= MAX_CALLS, "\n".join(f"{n} {name}" for name, n in of_one.items())


async def test_requests_that_come_at_once_do_not_wake_the_collector() -> None:
    """It would look at what is in flight, and find nothing that is not needed: with its own 700 it does."""
    looks: list[int] = []

    def note(phase: str, found: dict[str, int]) -> None:
        if phase == "stop":
            looks.append(found["collected"])

    before = gc.get_threshold()
    async with Upstream(answering()) as upstream, House(upstream, access_log="errors") as house:
        clients = [await house.client() for _ in range(CROWD)]
        await asyncio.gather(*(client.ask(GET) for client in clients))
        gc.collect()
        gc.callbacks.append(note)
        try:
            gc.set_threshold(YOUNG_OBJECTS)
            for _ in range(3):
                await asyncio.gather(*(client.ask(GET) for client in clients))
            assert not looks
            gc.set_threshold(700)
            await asyncio.gather(*(client.ask(GET) for client in clients))
            assert looks
        finally:
            gc.callbacks.remove(note)
            gc.set_threshold(*before)
