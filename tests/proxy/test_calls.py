"""What a kept GET and a stream of HTTP/2 cost, counted and not timed: calls of this package's Python
functions, and looks of the collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import drainproxy
from drainproxy.proxy.wire import selector
from drainproxy.proxy.wire.garbage import YOUNG_OBJECTS
from tests.proxy.http2.test_connection import pair
from tests.support.house import House
from tests.support.http2 import DATA, END_HEADERS, END_STREAM, HEADERS, frame
from tests.support.upstream import Upstream, answering
from tests.support.words import GET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PACKAGE = str(Path(drainproxy.__file__).parent)
LOOPS_OWN = selector.__file__
"""Its looks at the kernel are for client and application too, which are on the same loop here."""
REQUESTS = 20
CROWD = 64
MAX_CALLS = 77
"""It may only fall. A call costs some 50 ns and more than the work of most: of all that a profile can show it
is what does not depend on the machine."""

STREAMS = 8
MAX_CALLS_OF_STREAMS = 161
"""The same of so many streams that come in one read and are answered in one."""


async def test_a_kept_get_takes_no_more_calls_than_it_did() -> None:
    """From the request's bytes to the answer's, on connections that both sides keep."""
    async with Upstream(answering()) as upstream, House(upstream, access_log="errors") as house:
        client = await house.client()
        await client.ask(GET)
        with counting() as calls:
            for _ in range(REQUESTS):
                await client.ask(GET)
        assert upstream.accepted == 1
    of_one = each(calls, REQUESTS)
    assert sum(of_one.values()) <= MAX_CALLS, listed(of_one)


async def test_streams_that_come_together_take_no_more_calls_than_they_did() -> None:
    """From the bytes of their HEADERS to the last one's answer, on connections that are there."""
    async with pair(access_log="errors") as (house, client, application):
        before = house.metrics.h2_streams.value("finished")
        with counting() as calls:
            for first in range(1, 2 * STREAMS * REQUESTS, 2 * STREAMS):
                numbers = range(first, first + 2 * STREAMS, 2)
                await client.send(b"".join(client.request(number, end=True) for number in numbers))
                for _ in numbers:
                    await application.next(HEADERS)
                await application.send(b"".join(answer(number) for number in numbers))
                for _ in numbers:
                    await client.next(DATA)
        assert house.metrics.h2_streams.value("finished") == before + STREAMS * REQUESTS
    of_all = each(calls, REQUESTS)
    assert sum(of_all.values()) <= MAX_CALLS_OF_STREAMS, listed(of_all)


def answer(number: int) -> bytes:
    """An answer of two frames."""
    return frame(HEADERS, END_HEADERS, number, b"\x88") + frame(DATA, END_STREAM, number, b"a")


@contextlib.contextmanager
def counting() -> Iterator[Counter[str]]:
    """Count calls of the package's functions while the block runs."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PACKAGE) and file != LOOPS_OWN:
            calls[f"{Path(file).name}: {frame.f_code.co_qualname}"] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def each(calls: Counter[str], times: int) -> dict[str, int]:
    """Return what came every time: what comes once a second or so is none of it."""
    return {name: count // times for name, count in calls.items() if count >= times}


def listed(calls: dict[str, int]) -> str:
    """Return them as lines."""
    return "\n".join(f"{count} {name}" for name, count in calls.items())


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
