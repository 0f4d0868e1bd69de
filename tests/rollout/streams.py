"""Those who stay connected: event streams that resume by Last-Event-ID, WebSockets that talk, and readers of
an answer that comes token by token.

The first two come back whenever they are let go, and what they miss on the way is counted. The third ask
once, and an answer without its end is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

_AGAIN_S = 0.2
"""Before the next attempt; an EventSource's `retry`."""

_TALK_EVERY_S = 0.5
_PATIENCE_S = 10.0
_TOO_MANY_FAILURES = 50


@dataclass(slots=True)
class StreamTally:
    """What became of the streams and WebSockets of one Service."""

    events: int = 0
    ids_lost: int = 0
    torn: int = 0
    """Streams that ended in the middle of an event."""
    streams: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    """Why WebSockets ended, but those that were still open at the end."""
    messages: int = 0
    answers: int = 0
    """Whole ones, of those who read tokens."""
    unanswered: int = 0
    """Messages sent over a WebSocket that ended before their echo."""
    failures: list[str] = field(default_factory=list)
    """Attempts that led nowhere: each a lost request."""

    @property
    def requests(self) -> int:
        """How many led somewhere."""
        return self.streams + self.answers + sum(self.codes.values())


class Audience:
    """Event streams, WebSockets and readers of tokens to what `choose` names."""

    def __init__(
        self, choose: Callable[[], tuple[str, int]], *, streams: int, sockets: int, readers: int
    ) -> None:
        self.tally = StreamTally()
        self._choose = choose
        self._streams = streams
        self._sockets = sockets
        self._readers = readers

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
            listening = [self._listen(session) for _ in range(self._streams)]
            talking = [self._talk(session) for _ in range(self._sockets)]
            reading = [self._read(session) for _ in range(self._readers)]
            tasks = [group.create_task(each) for each in (*listening, *talking, *reading)]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(random.random())
        last = 0
        while len(self.tally.failures) < _TOO_MANY_FAILURES:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(last)} if last else {})}
            rest = b""
            try:
                timeout = aiohttp.ClientTimeout(total=None, sock_read=_PATIENCE_S)
                async with session.get(self._url("/ticker"), headers=headers, timeout=timeout) as answer:
                    if answer.status != 200:
                        self.tally.failures.append(f"event stream: status {answer.status}")
                        await asyncio.sleep(_AGAIN_S)
                        continue
                    self.tally.streams += 1
                    async for piece in answer.content.iter_any():
                        *whole, rest = (rest + piece).split(b"\n\n")
                        for event in whole:
                            last = self._take(event, last)
            except aiohttp.ClientPayloadError:
                pass  # Cut; what matters is where.
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.tally.failures.append(f"event stream: {error!r}")
            self.tally.torn += bool(rest)
            await asyncio.sleep(_AGAIN_S)

    def _take(self, event: bytes, last: int) -> int:
        number = int(event.split(b"\n", 1)[0].removeprefix(b"id: "))
        self.tally.events += 1
        if last:
            self.tally.ids_lost += max(0, number - last - 1)
        return number

    async def _read(self, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(random.random())
        while len(self.tally.failures) < _TOO_MANY_FAILURES:
            body = b""
            try:
                timeout = aiohttp.ClientTimeout(total=None, sock_read=_PATIENCE_S)
                async with session.post(
                    self._url("/tokens"), json={"stream": True}, timeout=timeout
                ) as answer:
                    async for piece in answer.content.iter_any():
                        body += piece
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.tally.failures.append(f"tokens: {error!r} after {len(body)} bytes")
            else:
                if body.endswith(b"data: [DONE]\n\n"):
                    self.tally.answers += 1
                else:
                    self.tally.failures.append(f"tokens: {answer.status}, and an end after {body[-40:]!r}")
            await asyncio.sleep(_AGAIN_S)

    async def _talk(self, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(random.random())
        while len(self.tally.failures) < _TOO_MANY_FAILURES:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    ws = await session.ws_connect(self._url("/socket"))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.tally.failures.append(f"WebSocket: {error!r}")
            else:
                async with ws:
                    await self._chat(ws)
            await asyncio.sleep(_AGAIN_S)

    async def _chat(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        for number in itertools.count():
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await ws.send_str(str(number))
            self.tally.messages += 1
            message = await ws.receive(timeout=_PATIENCE_S)
            if message.type is not aiohttp.WSMsgType.TEXT:
                self.tally.unanswered += 1
                break
            # A Close that comes while nothing is said is read here.
            with contextlib.suppress(TimeoutError):
                await ws.receive(timeout=_TALK_EVERY_S)
                break
        self.tally.codes[ws.close_code or 1006] += 1

    def _url(self, path: str) -> str:
        host, port = self._choose()
        return f"http://{host}:{port}{path}"
