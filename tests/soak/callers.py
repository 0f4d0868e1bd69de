"""The soak's mixed load. Of each fault about 1 %: whoever asks for one knows what must come of it.

A request without a fault is lost if its answer is not the right one, byte by byte; one with a fault is wrong
if its caller hears something else than the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from drainproxy.proof.waiting import happens_before
from tests.soak.application import HEAD_FAULTS, IN_BODY, event, page
from tests.support.client import Client
from tests.support.http2 import DATA, END_STREAM, HEADERS, RST, Http2, frame
from tests.support.message import Ending
from tests.support.wire import Ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.message import Message

SHARE = 0.01
LEAVES = ("leave-head", "leave-body", "half-close")
SPOKEN = ("malformed", "slow-read")
STATUS = {"reset-head": 502, "garbage": 502, "stall-head": 504, "malformed": 400}
LARGE_BYTES = 1 << 20
MAX_SHOWN = 20


@dataclass(slots=True)
class Tally:
    """What became of one kind of work."""

    sent: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lost: int = 0


class Callers:
    """Everybody who calls; `run` until the event. Written by tasks of one loop."""

    def __init__(self, address: tuple[str, int], http2: tuple[str, int], *, seed: int, rate: float) -> None:
        """`rate`: of the pace that is meant for two cores."""
        self._address = address
        self._http2 = http2
        self._dice = random.Random(seed)
        self._rate = rate
        self._stop = asyncio.Event()
        self._number = 0
        self.kinds: dict[str, Tally] = {}
        self.failures: list[str] = []
        """The first ones, in words."""
        self.confirmed: set[str] = set()
        """Orders that were answered."""

    async def run(self, for_s: float) -> None:
        """Call for so long; whoever is in the middle finishes."""
        self._stop = asyncio.Event()
        cast: list[tuple[str, int, float, Callable[[str], Awaitable[None]]]] = [
            ("GET, kept connection", 10, 0.25, self._page),
            ("GET, new connection", 6, 0.5, self._fresh_page),
            ("chunked POST", 6, 0.4, self._order),
            ("download of a MiB", 2, 1.0, self._download),
            ("event stream", 8, 0.5, self._events),
            ("WebSocket", 8, 0.5, self._chat),
            ("HTTP/2", 4, 0.25, self._streams),
        ]
        async with asyncio.TaskGroup() as group:
            for kind, count, every_s, call in cast:
                self.kinds.setdefault(kind, Tally())
                for _ in range(count):
                    group.create_task(self._play(kind, every_s / self._rate, call))
            await asyncio.sleep(for_s)
            self._stop.set()

    async def _play(self, kind: str, every_s: float, call: Callable[[str], Awaitable[None]]) -> None:
        while not await self._stopped_within(self._dice.uniform(0.5, 1.5) * every_s):
            await call(kind)

    async def _stopped_within(self, seconds: float) -> bool:
        return await happens_before(self._stop, asyncio.get_running_loop().time() + seconds)

    def _fault(self, kind: str, faults: tuple[str, ...]) -> str:
        """Throw the dice: 1 % for each."""
        self.kinds[kind].sent += 1
        at = int(self._dice.random() / SHARE)
        fault = faults[at] if at < len(faults) else ""
        if fault:
            self.kinds[kind].faults[fault] += 1
        return fault

    def _lose(self, kind: str, what: str) -> None:
        self.kinds[kind].lost += 1
        if len(self.failures) < MAX_SHOWN:
            self.failures.append(f"{kind}: {what}")

    # One request after the other.

    async def _page(self, kind: str) -> None:
        """A keep-alive connection for some twenty pages."""
        async with await Client.connect(self._address) as client:
            for _ in range(20):
                size = self._dice.choice([2, 200, 5_000, 70_000])
                if not await self._get(kind, client, f"/bytes/{size}", page(size)):
                    return
                if await self._stopped_within(0.05 / self._rate):
                    return

    async def _fresh_page(self, kind: str) -> None:
        async with await Client.connect(self._address) as client:
            await self._get(kind, client, "/bytes/3000", page(3000))

    async def _download(self, kind: str) -> None:
        async with await Client.connect(self._address, receive_buffer=64 * 1024) as client:
            await self._get(kind, client, f"/bytes/{LARGE_BYTES}", page(LARGE_BYTES))

    async def _events(self, kind: str) -> None:
        count = self._dice.randrange(2, 40)
        body = b"".join(map(event, range(count)))
        async with await Client.connect(self._address) as client:
            await self._get(kind, client, f"/events/{count}", body)

    async def _get(self, kind: str, client: Client, path: str, body: bytes) -> bool:
        """Ask for a body that is known; tell whether the connection can be used again."""
        fault = self._fault(kind, (*HEAD_FAULTS, *IN_BODY, *LEAVES, *SPOKEN))
        request = f"GET {path} HTTP/1.1\r\nHost: soak\r\nX-Fault: {fault}\r\n\r\n".encode()
        return await self._exchange(kind, client, request, fault, 200, body)

    async def _order(self, kind: str) -> None:
        """Five orders on a connection, each in three chunks."""
        async with await Client.connect(self._address) as client:
            for _ in range(5):
                fault = self._fault(kind, (*HEAD_FAULTS, *LEAVES, "malformed"))
                self._number += 1
                key = f"order-{self._number}"
                head = (
                    "POST /orders HTTP/1.1\r\nHost: soak\r\nTransfer-Encoding: chunked\r\n"
                    f"Idempotency-Key: {key}\r\nX-Fault: {fault}\r\n\r\n"
                )
                chunks = b"".join(b"3e8\r\n%b\r\n" % (b"%d" % at * 1000) for at in range(3)) + b"0\r\n\r\n"
                raw = head.encode() + chunks
                if not await self._exchange(kind, client, raw, fault, 201, f"{key} 3000".encode()):
                    return
                if not fault:
                    self.confirmed.add(key)

    async def _exchange(
        self, kind: str, client: Client, raw: bytes, fault: str, status: int, body: bytes
    ) -> bool:
        method = raw.split(b" ", 1)[0].decode()
        try:
            if fault == "malformed":
                await client.send(raw.replace(b"Host: soak", b"Host: so ak", 1))
                answer = await client.final(method)
            elif fault in LEAVES:
                await self._leave(client, raw, fault)
                return False
            else:
                await client.send(raw)
                if fault == "slow-read":
                    await asyncio.sleep(0.5)
                answer = await client.final(method)
        except (Ended, OSError, TimeoutError) as error:
            self._lose(kind, f"{fault or 'no fault'}: {error!r}")
            return False
        if not _right(answer, fault, status, body):
            self._lose(kind, f"{fault or 'no fault'}: {answer.ending} {answer.raw[:200]!r}")
            return False
        return answer.ending is Ending.COMPLETE and answer.one(b"connection") != b"close"

    async def _leave(self, client: Client, raw: bytes, fault: str) -> None:
        """Go away in the middle of a head, or of an answer, or stop sending too early."""
        with contextlib.suppress(Ended, OSError, TimeoutError):
            if fault == "leave-head":
                await client.send(raw[:30])
                client.reset()
            elif fault == "half-close":
                await client.send(raw[:-2])
                client.half_close()
                await client.read_until_close()
            else:
                await client.send(raw)
                await client.read_exactly(20)
                client.reset()

    # Longer lives.

    async def _chat(self, kind: str) -> None:
        fault = self._fault(kind, ("reset", "leave", "close"))
        host, port = self._address
        try:
            async with connect(f"ws://{host}:{port}/chat", compression=None, proxy=None) as ws:
                for number in range(self._dice.randrange(1, 30)):
                    await ws.send(str(number))
                    if await ws.recv() != str(number):
                        raise WebSocketException(f"{number} is not echoed")
                    await asyncio.sleep(0.1)
                if fault == "reset":
                    await ws.send("reset")
                    with contextlib.suppress(WebSocketException):
                        await ws.recv()
                elif fault == "leave":
                    ws.transport.abort()
        except (WebSocketException, OSError, TimeoutError) as error:
            self._lose(kind, f"{fault or 'no fault'}: {error!r}")

    async def _streams(self, kind: str) -> None:
        """A connection for some fifty streams."""
        async with await Client.connect(self._http2) as wire:
            peer = Http2(wire)
            await peer.introduce()
            for stream in range(1, 100, 2):
                fault = self._fault(kind, ("die", "cancel", "leave"))
                try:
                    await peer.send(peer.request(stream, f"/{fault}"))
                    if fault == "leave":
                        wire.reset()
                        return
                    if fault == "cancel":
                        await peer.send(frame(RST, 0, stream, b"\0\0\0\x08"))
                        continue
                    # Also of streams that were cancelled: the state of header compression needs each block.
                    while (got := await peer.read()).stream != stream or got.kind != DATA:
                        if got.kind == HEADERS:
                            peer.decoder.decode(got.payload)
                    if (got.payload, got.flags & END_STREAM) != (b"ok", END_STREAM):
                        self._lose(kind, f"stream {stream}: {got}")
                except (Ended, OSError, TimeoutError) as error:
                    if fault != "die":
                        self._lose(kind, f"{fault or 'no fault'}: {error!r}")
                    return
                if await self._stopped_within(0.1 / self._rate):
                    return


def _right(answer: Message, fault: str, status: int, body: bytes) -> bool:
    """Tell whether an answer is the truth about the fault."""
    if fault in STATUS:
        return answer.status == STATUS[fault] and answer.ending is Ending.COMPLETE
    if fault in IN_BODY:
        return answer.ending is Ending.RESET
    return (answer.status, answer.body, answer.ending) == (status, body, Ending.COMPLETE)
