"""Those who call: unary calls on kept and new channels, server streams, conversations.

Every call that does not end with all its messages and OK has failed, whatever the reason. Clients are
grpcio's as they come: no retry policy, no waiting for a connection, a deadline so that nothing hangs unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from drainproxy.proof.waiting import happens_before
from tests.rollout.calls.server import EVERY_S, PATH, PIECES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Call = Callable[[grpc.aio.Channel], Awaitable[bool]]

PATIENCE_S = 20.0
TALK_MESSAGES = 20


async def unary(channel: grpc.aio.Channel) -> bool:
    """One question, one answer."""
    return await channel.unary_unary(PATH + "Unary")(b"hello", timeout=PATIENCE_S) == b"hello"


async def stream(channel: grpc.aio.Channel) -> bool:
    """Five seconds of messages."""
    answer = channel.unary_stream(PATH + "Stream")(b"piece", timeout=PATIENCE_S)
    return [piece async for piece in answer] == [b"piece %d" % number for number in range(PIECES)]


async def talk(channel: grpc.aio.Channel) -> bool:
    """Each message once the one before has been echoed; two seconds."""
    call = channel.stream_stream(PATH + "Talk")(timeout=PATIENCE_S)
    for number in range(TALK_MESSAGES):
        with contextlib.suppress(asyncio.InvalidStateError):
            await call.write(b"%d" % number)
        # Where the call has ended, this raises what it ended with.
        if await call.read() != b"%d" % number:
            return False
        await asyncio.sleep(EVERY_S)
    await call.done_writing()
    return await call.read() is grpc.aio.EOF and await call.code() is grpc.StatusCode.OK


@dataclass(frozen=True, slots=True)
class Part:
    """What some callers do, again and again."""

    kind: str
    call: Call
    callers: int
    every_s: float
    """From one call's start to the next one's."""
    kept: bool = True
    """On one channel; else each call makes its own."""


CAST = (
    Part("unary", unary, 10, 0.1),
    Part("unary", unary, 8, 0.2, kept=False),
    Part("stream", stream, 12, 5.0),
    Part("talk", talk, 8, 2.5),
)
"""140 unary calls a second; about 12 streams and 6 conversations are open at any time."""


@dataclass(slots=True)
class Tally:
    """What became of the calls."""

    calls: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Callers:
    """Each caller takes one of a Service's doors, which `choose` names, and stays with it."""

    def __init__(self, choose: Callable[[int], tuple[str, int]], cast: tuple[Part, ...] = CAST) -> None:
        self.tally = Tally()
        self._choose = choose
        self._cast = cast

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, and until the calls that run are over."""
        async with asyncio.TaskGroup() as group:
            for part in self._cast:
                for number in range(part.callers):
                    group.create_task(self._play(part, number, stop))

    async def _play(self, part: Part, number: int, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + max(part.every_s, 1.0) * number / part.callers
        async with contextlib.AsyncExitStack() as stack:
            kept = await stack.enter_async_context(self._channel(number)) if part.kept else None
            while not await happens_before(stop, due):
                due = max(due + part.every_s, loop.time())
                async with self._channel(number) if kept is None else contextlib.nullcontext(kept) as channel:
                    await self._once(part, channel)

    async def _once(self, part: Part, channel: grpc.aio.Channel) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.tally.calls[part.kind] += 1
        try:
            fault = "" if await part.call(channel) else "messages are missing"
        except grpc.aio.AioRpcError as error:
            fault = f"{error.code().name}: {error.details()}"
        if fault:
            kept = "kept" if part.kept else "new"
            self.tally.failures.append(
                f"{part.kind} on a {kept} channel after {loop.time() - began:.2f} s, {fault}"
            )

    @contextlib.asynccontextmanager
    async def _channel(self, number: int) -> AsyncIterator[grpc.aio.Channel]:
        host, port = self._choose(number)
        # Else all of a process's channels to one address share a connection.
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(f"{host}:{port}", options=options) as channel:
            yield channel
