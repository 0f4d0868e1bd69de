"""An open loop: requests come when they are due, each on a connection of its own, whatever became of others.

Bounded: so many at a time, beyond which one fails instead of being sent.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

TIMEOUT_S = 10.0
"""As long as a caller waits."""
PROBE_TIMEOUT_S = 1.0
"""A kubelet's, unless it is told otherwise."""
MAX_AT_ONCE = 500
GET = b"GET / HTTP/1.1\r\nHost: field\r\nConnection: close\r\n\r\n"
WHOLE = (b"\r\n\r\nhello", b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
"""How an answer ends; what ended with its connection comes in chunks from a proxy."""

Address = tuple[str, int]


@dataclass
class Felt:
    """What callers felt."""

    answered_s: list[float] = field(default_factory=list)
    failed: int = 0

    def __iadd__(self, other: Felt) -> Felt:
        self.answered_s += other.answered_s
        self.failed += other.failed
        return self

    @property
    def count(self) -> int:
        """How many there were."""
        return len(self.answered_s) + self.failed

    def quantile_ms(self, share: float) -> float:
        """Return what so large a share of the answered ones stayed under."""
        ordered = sorted(self.answered_s)
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


async def ask(address: Address, felt: Felt, timeout_s: float = TIMEOUT_S) -> None:
    """GET / on a connection of its own."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(GET)
                answer = await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        felt.failed += 1
        return
    if b" 200 " in answer[:15] and answer.endswith(WHOLE):
        felt.answered_s.append(loop.time() - began)
    else:
        felt.failed += 1


async def offered(address: Address, rate: float, seconds: float, seed: int) -> Felt:
    """Offer so many requests a second, at random moments that are the same for each seed."""
    felt, loop, moments = Felt(), asyncio.get_running_loop(), random.Random(seed)
    due, end = loop.time(), loop.time() + seconds
    asking: set[asyncio.Task[None]] = set()
    while (due := due + moments.expovariate(rate)) < end:
        await asyncio.sleep(due - loop.time())
        if len(asking) >= MAX_AT_ONCE:
            felt.failed += 1
            continue
        task = asyncio.ensure_future(ask(address, felt))
        asking.add(task)
        task.add_done_callback(asking.discard)
    await asyncio.gather(*asking)
    return felt


async def burst(address: Address, count: int) -> Felt:
    """Ask so many times at once."""
    felt = Felt()
    await asyncio.gather(*(ask(address, felt) for _ in range(count)))
    return felt


async def capacity(address: Address, clients: int, seconds: float) -> float:
    """Return how many requests a second are answered when so many clients ask one after the other."""
    felt, loop = Felt(), asyncio.get_running_loop()
    began = loop.time()

    async def client() -> None:
        while loop.time() < began + seconds:
            await ask(address, felt)

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(felt.answered_s) / (loop.time() - began)


async def probing(address: Address, felt: Felt, every_s: float) -> None:
    """Ask as a kubelet does, until cancelled."""
    while True:
        await ask(address, felt, PROBE_TIMEOUT_S)
        await asyncio.sleep(every_s)
