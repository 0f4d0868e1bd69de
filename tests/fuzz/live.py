"""Walks through a whole data plane over real sockets: what clients, application and drain do is random.

What must hold: nobody reads another's answer or a byte that was nobody's, the application reads valid
requests only, and at the end nothing is left (House). A walk has a seed; a failure names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from typing import Any

from tests.conformance import answers, requests
from tests.conformance.answers import Ended as AnswerEnded
from tests.conformance.witness import RequestWitness
from tests.support.house import House
from tests.support.upstream import Connection, Upstream
from tests.support.wire import End, Ended, Wire

POISON = b"HTTP/1.1 200 OK\r\nX-Echo: poison\r\nContent-Length: 6\r\n\r\npoison"
HEADS = [
    b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD %b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET %b HTTP/1.0\r\n\r\n",
    b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    b"POST %b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000,
    b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"OPTIONS %b HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
    b"TRACE %b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET %b HTTP/1.1\r\n\r\n",
    b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
    b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
]
SETTINGS: dict[str, list[Any]] = {
    "allow_half_close": [False, True],
    "head_timeout": [10.0, 0.02],
    "response_head_timeout": [None, 0.02],
    "total_timeout": [None, 0.05],
    "keepalive_idle": [620.0, 0.03],
    "max_body_bytes": [None, 100_000],
    "max_connections": [None, 2],
    "max_in_flight": [None, 1],
}
PAUSES_S = [0, 0, 0, 0.001, 0.01, 0.03]


class Application:
    """Reads with h11, and answers well or badly."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.errors: list[str] = []

    async def __call__(self, connection: Connection) -> None:
        """Serve one connection."""
        reader = RequestWitness()
        while await connection.more():
            whole = reader.feed(connection.take(len(connection.received)))
            if reader.error:
                self.errors.append(reader.error)
                return
            for message in whole:
                await asyncio.sleep(self.dice.choice(PAUSES_S))
                if b"chat" in dict(message.fields).values() and self.dice.random() < 0.7:
                    await self._chat(connection, message.target)
                    return
                if not await self._answer(connection, message.target, head=message.method == b"HEAD"):
                    return
            if not whole and reader.partial and self.dice.random() < 0.05:
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                return

    async def _chat(self, connection: Connection, target: bytes) -> None:
        """Change the protocol: say back what comes, for a while."""
        head = b"HTTP/1.1 101 Chat\r\nConnection: Upgrade\r\nUpgrade: chat\r\nX-Echo: %b\r\n\r\n" % target
        await connection.send(head)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.dice.choice([0.01, 0.2])):
                while await connection.more():
                    await connection.send(connection.take(len(connection.received)))
        if self.dice.random() < 0.3:
            connection.reset()

    async def _answer(self, connection: Connection, target: bytes, *, head: bool) -> bool:
        """Do something; tell whether the connection goes on."""
        start = b"HTTP/1.1 200 OK\r\nX-Echo: " + target + b"\r\n"
        shape = self.dice.choice(["good"] * 6 + ["chunks", "interim", "large", "until-close", "poison"] + BAD)
        body = b"y" * (500_000 if shape == "large" else 3)
        whole = start + b"Content-Length: %d\r\n\r\n" % len(body) + (b"" if head else body)
        if shape == "chunks" and not head:
            whole = start + b"Transfer-Encoding: chunked\r\n\r\n3\r\nyyy\r\n0\r\nX-T: 1\r\n\r\n"
        elif shape == "interim":
            whole = b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + whole
        elif shape == "until-close":
            whole = start + b"\r\n" + (b"" if head else body)
        elif shape == "poison":
            whole += POISON
        elif shape == "cut":
            whole = whole[: self.dice.randrange(len(whole))]
        elif shape == "garbage":
            whole = self.dice.choice([b"\0\0\0", b"HTTP/1.1 999\r\n\r\n", start + b"A b: c\r\n\r\n"])
        elif shape == "stall":
            # Not for ever: a client that half-closed before it left cannot be seen to have left.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await connection.more()
            return False
        await connection.send(whole)
        if shape == "reset":
            connection.reset()
        return shape not in {"until-close", "cut", "reset"}


BAD = ["cut", "garbage", "reset", "stall"]


class Caller:
    """One client: sends good and bad requests in pieces, and leaves in many ways."""

    def __init__(self, wire: Wire, number: int, dice: random.Random) -> None:
        self.wire = wire
        self.sent = b""
        self.got = bytearray()
        self._number = number
        self._dice = dice
        self._asked = 0
        self._queue = b""
        self._left = False
        self._unsure = False
        """How much of what was sent went on its way is not known."""
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def step(self) -> None:
        """Do one thing."""
        if self._left:
            return
        what = self._dice.choice(["ask"] * 4 + ["piece"] * 4 + ["leave"])
        if what == "ask":
            self._asked += 1
            self._queue += self._dice.choice(HEADS) % b"/%d/%d" % (self._number, self._asked)
        if what != "leave":
            size = self._dice.choice([len(self._queue), self._dice.randint(0, len(self._queue))])
            await self._send(self._queue[:size])
            self._queue = self._queue[size:]
        elif self._dice.random() < 0.3:
            self._left = True
            leave = self._dice.choice([self.wire.half_close, self.wire.reset, self.wire.close])
            with contextlib.suppress(OSError):
                leave()

    async def end(self) -> None:
        """Stop, and hold what came against what was sent."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        echoes = [int(number) for number in re.findall(rb"X-Echo: /%d/([0-9]+)\r" % self._number, self.got)]
        assert echoes == sorted(set(echoes)), f"answers out of order: {echoes}"
        assert len(echoes) == self.got.count(b"X-Echo: "), "another's answer"
        if self._unsure:
            return
        reading = requests.read(self.sent)
        ended = AnswerEnded.RESET if self.wire.end is End.RESET else AnswerEnded.FIN
        methods = [request.method for request in reading.requests]
        if reading.end is not requests.End.CLEAN:
            methods.append(self.sent[self.sent.rfind(b"\r\n\r\n", 0, -4) + 4 :].split(b" ")[0])
        read = answers.read(bytes(self.got), methods, ended)
        assert not read.fault, f"{read.fault}: {self.sent[-300:]!r} got {bytes(self.got[-300:])!r}"
        for request, reply in zip(reading.requests, read.replies, strict=False):
            assert reply.value(b"x-echo") in {b"", request.target}, "out of step"

    async def _send(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(0.1):  # a peer that does not read: the rest is lost, as it may be
                await self.wire.send(data)
                self.sent += data
        except (OSError, TimeoutError):
            self._unsure = self._left = True
            self.wire.close()

    async def _read(self) -> None:
        with contextlib.suppress(OSError, Ended):
            while await self.wire.more():
                self.got += self.wire.take(len(self.wire.received))
                await asyncio.sleep(self._dice.choice(PAUSES_S))


async def walk(seed: int) -> None:
    """Take one walk."""
    dice = random.Random(seed)
    settings = {name: dice.choice([values[0], *values]) for name, values in SETTINGS.items()}
    application = Application(random.Random(seed + 1))
    lifecycle = {"drain_timeout": dice.choice([None, 0.03]), "grace_period": 1.0}
    async with (
        Upstream(application) as upstream,
        House(upstream, lifecycle=lifecycle, linger_s=0.05, **settings) as house,
    ):
        callers: list[Caller] = []
        drain_at = dice.randint(0, 120)
        for number in range(dice.randint(5, 60)):
            if number == drain_at:
                house.sigterm()
            if not callers or dice.random() < 0.15:
                callers.append(Caller(await house.client(), number, random.Random(seed + number)))
            await dice.choice(callers).step()
            await asyncio.sleep(dice.choice(PAUSES_S))
        await asyncio.sleep(0.02)
        for caller in callers:
            await caller.end()
    assert not application.errors, application.errors
