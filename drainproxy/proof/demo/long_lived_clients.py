"""Long-lived clients: they stay on the old pod, over WebSockets and event streams, and note how it lets go.

What counts is the end: a close code that says why, and a stream that ends between two events.
"""

import asyncio
from collections import Counter

import aiohttp

from drainproxy.proof.client import Address
from drainproxy.proof.demo.results import LongLivedResult

EACH = 4
_SAY_EVERY_S = 0.25
_ABNORMAL = 1006  # RFC 6455 section 7.1.5: no Close frame was seen
_LAST_WAIT_S = 2.0


class LongLivedClients:
    """Written by its own tasks."""

    def __init__(self) -> None:
        self._codes: Counter[int] = Counter()
        self._whole = 0
        self._cut = 0

    async def run(self, pod: Address, stop: asyncio.Event) -> None:
        """Sit until the pod ends; who still sits a moment after `stop` leaves uncounted."""
        base, no_limit = f"http://{pod[0]}:{pod[1]}", aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(base, timeout=no_limit) as session:
            sitting = [
                asyncio.ensure_future(sit(session)) for sit in (self._talk, self._listen) for _ in range(EACH)
            ]
            await stop.wait()
            await asyncio.wait(sitting, timeout=_LAST_WAIT_S)
            for one in sitting:
                one.cancel()
            await asyncio.gather(*sitting, return_exceptions=True)

    def result(self) -> LongLivedResult:
        """What became of them."""
        return LongLivedResult(
            close_codes=dict(self._codes), streams_whole=self._whole, streams_cut=self._cut
        )

    async def _talk(self, session: aiohttp.ClientSession) -> None:
        code: int | None = _ABNORMAL
        try:
            async with session.ws_connect("/talk") as talk:
                while not talk.closed:
                    await talk.send_str("still there?")
                    answer = await talk.receive()
                    if answer.type is not aiohttp.WSMsgType.TEXT:
                        break
                    await asyncio.sleep(_SAY_EVERY_S)
                code = talk.close_code
        except (aiohttp.ClientError, OSError):
            pass
        self._codes[code or _ABNORMAL] += 1

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        tail = b""
        try:
            async with session.get("/events", headers={"Accept": "text/event-stream"}) as events:
                async for piece in events.content.iter_any():
                    tail = (tail + piece)[-2:]
            whole = tail == b"\n\n"
        except (aiohttp.ClientError, OSError):
            whole = False
        self._whole += whole
        self._cut += not whole
